"""One attempt to send a file: tuspy's uploader, on connections that give up, with progress inside of chunks.

tuspy itself waits for ever on a network that died, takes any answer to HEAD for an offset or a reason to end, and holds
a whole chunk in memory. What to do about trouble is left to `sending`.
"""

from __future__ import annotations

import contextlib
import ssl
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from io import BufferedReader
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from tusclient.client import TusClient
from tusclient.uploader import Uploader

from tusd_py.client import session as sessions
from tusd_py.client.answers import REDIRECTS, address, is_at_home, number, said
from tusd_py.client.session import Session

BLOCK_BYTES = 256 << 10
MOST_BODY_BYTES = 64 << 10  # of an answer: a line of it is shown
PASSING = {408, 409, 423, 425, 429, 460, 500, 502, 503, 504, 507}
GONE = {404, 410}
LASTING = {401, 403, 407, 413}  # whoever says it


class Trouble(Exception):
    """Why an attempt ended. `is_passing`: trying again later may help; `is_gone`: the server has no such upload, if it
    does not pass."""

    def __init__(self, text: str, *, is_passing: bool = False, is_gone: bool = False, has_answer: bool = True) -> None:
        super().__init__(text)
        self.is_passing = is_passing
        self.is_gone = is_gone
        self.has_answer = has_answer


class Transfer(Uploader):  # type: ignore[misc]
    """With a `url` it asks for the offset at once. `on_url` hears of the upload's URL before the first byte is sent,
    `on_bytes` of the offset as it moves."""

    offset: int

    def __init__(
        self,
        session: Session,
        client: TusClient,
        file: BufferedReader,
        *,
        on_url: Callable[[str], None],
        on_bytes: Callable[[int], None],
        **options: object,
    ) -> None:
        self._session = session
        self._on_url = on_url
        self._on_bytes = on_bytes
        super().__init__(file_stream=file, client=client, **options)

    def set_url(self, url: str) -> None:
        super().set_url(url)
        self._on_url(url)

    def create_url(self) -> str:
        answer = self._ask("POST", self.client.url, self.get_url_creation_headers())
        if answer.status != 201 or "Location" not in answer.headers:
            raise refused("an upload cannot be created", answer)
        try:
            url = address(self.client.url, answer.headers["Location"])
        except ValueError as error:
            raise Trouble(f"the server gives an address that cannot be used: {error}") from None
        if self.client.url.startswith("https://") and not url.startswith("https://"):
            # Neither bytes nor a login go there in the clear.
            raise Trouble(f"the server gives an address without TLS, {url}: tusd-py check {self.client.url} says why")
        return url

    def get_offset(self) -> int:
        answer = self._ask("HEAD", self.url, self.get_headers())
        offset = number(answer.headers.get("Upload-Offset", ""))
        if answer.status >= 300 or offset is None:
            raise refused("the upload cannot be gone on with", answer)
        self._on_bytes(offset)
        return offset

    def upload_chunk(self) -> None:
        headers = {
            **self.get_headers(),
            "Upload-Offset": str(self.offset),
            "Content-Type": "application/offset+octet-stream",
        }
        piece = Piece(self.file_stream, self.offset, self.get_request_length(), self._on_bytes)
        if self.upload_checksum:
            headers["Upload-Checksum"] = f"{self.checksum_algorithm_name} {piece.checksum(self.checksum_algorithm)}"
        answer = self._ask("PATCH", self.url, headers, piece)
        offset = number(answer.headers.get("Upload-Offset", ""))
        if answer.status != 204 or offset is None or offset <= self.offset:
            raise refused("bytes are not taken", answer)
        if offset > self.offset + len(piece):
            raise Trouble(f"the server says that it has {offset:,} bytes, which is more than it was sent")
        self.offset = offset
        self._on_bytes(self.offset)

    def get_headers(self) -> dict[str, str]:
        given = private(self.client.headers, self.client.url, self.url or self.client.url)
        return {**self.DEFAULT_HEADERS, **given}

    def _ask(self, method: str, url: str, headers: Mapping[str, str], body: Piece | None = None) -> Answer:
        return ask(self._session, method, url, headers, body)


class Piece:
    """A stretch of a file as a body, read while it is sent."""

    def __init__(self, file: BufferedReader, offset: int, length: int, on_bytes: Callable[[int], None]) -> None:
        self._file = file
        self._offset = offset
        self._length = length
        self._done = 0
        self._on_bytes = on_bytes
        file.seek(offset)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[bytes]:
        while data := self.read(BLOCK_BYTES):
            yield data

    def read(self, count: int) -> bytes:
        try:
            data = self._file.read(min(count, self._length - self._done))
        except OSError as error:  # else it would be taken for one of the network
            raise Trouble(f"the file cannot be read any further: {_told(error)}") from error
        if not data and self._done < self._length:
            raise Trouble("the file became shorter while it was sent")
        self._done += len(data)
        self._on_bytes(self._offset + self._done)
        return data

    def checksum(self, algorithm: Callable[[], Any]) -> str:
        """In base64; the bytes come from the system's memory when they are read again."""
        digest = algorithm()
        left = self._length
        while left and (data := self._file.read(min(left, BLOCK_BYTES))):
            digest.update(data)
            left -= len(data)
        self._file.seek(self._offset)
        return b64encode(digest.digest()).decode()


@dataclass(frozen=True, slots=True)
class Answer:
    """`said` is the first line of its body, in brackets."""

    method: str
    status: int
    headers: Mapping[str, str]
    said: str


def private(headers: Mapping[str, str], endpoint: str, url: str) -> Mapping[str, str]:
    """What was given for the endpoint, as far as it may go to that URL: there may be a login among it."""
    return headers if is_at_home(endpoint, url) else {}


def ask(session: Session, method: str, url: str, headers: Mapping[str, str], body: Piece | None = None) -> Answer:
    """Raises Trouble if there is no answer, or one that only leads elsewhere: redirects lose bodies.

    What an upload's own URL gets answered by somebody who speaks no tus, as by a proxy whose server is away or by the
    login page of a hotel, says nothing of the upload, and passes.
    """
    try:
        answer = _asked(session, method, url, headers, body)
    except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError) as error:
        if isinstance(error, ValueError):  # an address or a header that cannot be sent
            raise Trouble(str(error)) from error
        cause, place = _innermost(error), urlsplit(url).netloc
        if isinstance(cause, ssl.SSLCertVerificationError):
            raise Trouble(f"the certificate of {place} is not trusted ({cause.verify_message})") from error
        raise Trouble(f"no answer from {place} ({_told(cause)})", is_passing=True, has_answer=False) from error
    if answer.status in REDIRECTS and "Location" in answer.headers:
        where = answer.headers["Location"]
        if method in ("HEAD", "PATCH"):
            raise Trouble(f"{urlsplit(url).netloc} redirects to {where[:200]}", is_passing=True)
        try:
            raise Trouble(f"the server redirects: give {address(url, where)} as the address")
        except ValueError as error:
            raise Trouble(f"the server redirects to an address that cannot be used: {error}") from None
    return answer


def _asked(session: Session, method: str, url: str, headers: Mapping[str, str], body: Piece | None) -> Answer:
    """Of the body the beginning is read, as it comes: unpacked, it could have any size. Whatever is wrong with it, the
    head is an answer."""
    with session.request(
        method,
        url,
        headers={"Accept-Encoding": "identity", **headers},
        data=body,
        timeout=sessions.SEND_SECONDS,
        allow_redirects=False,
        stream=True,
    ) as answer:
        text = b""
        with contextlib.suppress(urllib3.exceptions.HTTPError, ValueError):
            text = answer.raw.read(MOST_BODY_BYTES, decode_content=False)
        session.forget_many_cookies()
        line = said(text, 120, is_packed="Content-Encoding" in answer.headers)
        return Answer(method, answer.status_code, answer.headers, line)


def refused(what: str, answer: Answer) -> Trouble:
    status = answer.status
    why = answer.said
    if status < 300:
        name = "Location" if answer.method == "POST" else "Upload-Offset"
        why = f", and {name} is {answer.headers.get(name, '')[:80] or 'missing'}"
    text = f"{what}: {answer.method} answered {status}{why}{_hint(status, answer.method)}"
    if answer.method == "POST":
        return Trouble(text, is_passing=status in PASSING)
    is_from_tus = "Tus-Resumable" in answer.headers
    is_passing = status in PASSING or not (is_from_tus or status in LASTING)
    return Trouble(text, is_passing=is_passing, is_gone=status in GONE)


def _hint(status: int, method: str) -> str:
    if status in (401, 403):
        return "; if a login is wanted, give it: --header 'Authorization: Bearer ...'"
    if status in (404, 405, 501):
        return "; see whether the address is that which creates uploads, as in https://host/files/"
    if status == 413:
        is_body = method == "PATCH"
        return "; a proxy limits bodies: try --chunk-size 1MB" if is_body else "; it is larger than is allowed there"
    return ""


def _innermost(error: BaseException) -> BaseException:
    """What it was, without the shells that libraries put around it."""
    while True:
        inner = getattr(error, "reason", None) or error.__cause__ or error.__context__
        if not isinstance(inner, BaseException):
            return error
        error = inner


def _told(error: BaseException) -> str:
    if isinstance(error, TimeoutError) or "timed out" in str(error):
        return "no answer in time"
    if isinstance(error, ssl.SSLError):
        return f"TLS ends: {error.reason or error.strerror}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error)[:200] or type(error).__name__
