"""Finished uploads, sent for GET as RFC 9110 has it: ranges, preconditions, and headers that a browser is safe with.

Takes bytes from `Uploads.read_range`, one bounded piece at a time, and ends as soon as nobody listens. Which requests
get here, CORS and nosniff are left to the layers outside; so are errors raised before the response has begun.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import formatdate
from typing import Self
from urllib.parse import quote

import anyio
from starlette.types import Message, Receive, Send

from tusd_py.core.checksum import Buffer
from tusd_py.core.upload import Upload
from tusd_py.core.uploads import Uploads
from tusd_py.errors import BackendError, RequestError
from tusd_py.logs import event
from tusd_py.protocol.digest import repr_digest
from tusd_py.protocol.headers import Headers
from tusd_py.web.responses import Headers as HeaderLines
from tusd_py.web.responses import encode_headers, send_empty

log = logging.getLogger("tusd_py.downloads")

DEFAULT_TYPE = "application/octet-stream"
DEFAULT_NAME = "download"
MAX_TYPE_CHARACTERS = 255
MAX_NAME_CHARACTERS = 255

# What a browser may show in our name: nothing that runs scripts (HTML, SVG, XML, PDF). tusd's list, avif, mpeg and mp4.
INLINE_TYPES = frozenset({
    "text/plain",
    "image/png", "image/jpeg", "image/gif", "image/bmp", "image/webp", "image/avif",
    "audio/wav", "audio/wave", "audio/x-wav", "audio/x-pn-wav", "audio/webm", "audio/ogg", "audio/mpeg", "audio/mp4",
    "video/mp4", "video/webm", "video/ogg",
    "application/ogg",
})  # fmt: skip

# No comma, not even between quotes: browsers split the field there and take the last type that they find.
_MEDIA_TYPE = re.compile(
    r'([a-z]+/[a-z0-9.+-]+)(?: ?; ?[a-z0-9-]+=(?:[a-z0-9._+-]+|"[a-z0-9._ +-]*"))*', re.ASCII | re.IGNORECASE
)

# Controls and lone surrogates; and what reorders text, with which "exe.fdp" is shown as "pdf.exe" and the reverse.
_NOT_SHOWABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

# "%41" too: some browsers decode it in the plain parameter (RFC 6266 appendix D).
_NOT_PLAIN = re.compile(r"[^ -~]|%(?=[0-9A-Fa-f]{2})")
_ATTR_CHARS = "!#$&+^`|"  # with those that `quote` leaves alone, what RFC 8187 lets stand in filename*

_BYTE_RANGE = re.compile(r"bytes=(?:([0-9]+)-([0-9]*)|-([0-9]+))", re.ASCII | re.IGNORECASE)
_BEYOND = 10**20  # past the end of anything

_ENTITY_TAG = re.compile(r'(?<![^\s,])(W/)?("[!#-~\x80-\xff]*")')

# RFC 9110 5.6.7: one to send, two more to understand.
_DATE_FORMATS = ("%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y")


async def serve(uploads: Uploads, upload: Upload, headers: Headers, send: Send, receive: Receive) -> None:
    """Answer a GET of `upload`.

    Reading ends when `receive` or `send` says that the client has left. After an exception in mid-response the server
    cuts the connection: no short body passes for a whole one.
    """
    if not upload.is_available:
        raise RequestError("the upload is not finished", code="ERR_INCOMPLETE_UPLOAD")
    length = upload.offset
    validators = Validators.of(upload)
    status = validators.status_of_unmet(headers)
    if status is not None:
        await send_empty(send, status, validators.headers())
        return
    content_type = describe_type(upload.metadata.values)
    disposition = describe_disposition(upload.metadata.values, content_type)
    location = await uploads.location(upload.id, content_type, disposition)
    if location is not None:
        # Not to be kept: it is good for a while only.
        await send_empty(send, 302, encode_headers({"location": location, "cache-control": "no-store"}))
        return

    status, wanted = 200, range(length)
    about = validators.headers() + encode_headers(
        {
            "content-type": content_type,
            "content-disposition": disposition,
            "content-security-policy": "sandbox",  # what a browser shows of it acts as nobody on this site
            **repr_digest(upload),
        }
    )
    # An empty upload is sent whole, as RFC 9110 14.2 allows: no Content-Range can say "none of 0 bytes", and players
    # that put "bytes=0-" into every request need not fail.
    if length and validators.permit_range(headers.joined("if-range")):
        asked = parse_range(headers.joined("range") or "", length)
        if asked is not None and not asked:
            await send_empty(send, 416, [*validators.headers(), (b"content-range", b"bytes */%d" % length)])
            return
        if asked is not None:
            status, wanted = 206, asked
            about.append((b"content-range", b"bytes %d-%d/%d" % (wanted.start, wanted.stop - 1, length)))
    about.append((b"content-length", b"%d" % (wanted.stop - wanted.start)))
    head = {"type": "http.response.start", "status": status, "headers": about}

    pieces = uploads.read_range(upload.id, wanted.start, wanted.stop)
    try:
        await _transfer(upload, wanted, pieces, head, _Client(send, receive))
    finally:
        with anyio.CancelScope(shield=True):
            await pieces.aclose()


async def _transfer(
    upload: Upload, wanted: range, pieces: AsyncIterator[Buffer], head: Message, client: _Client
) -> None:
    left = wanted.stop - wanted.start
    piece = await _read(pieces, left)  # before the head: what the store has lost is a 404 and no broken 200
    is_there = await client.take(head)
    try:
        while left and is_there:
            left -= len(piece)
            is_there = await client.take({"type": "http.response.body", "body": piece, "more_body": True})
            piece = await _read(pieces, left) if is_there else b""
    except Exception as error:
        event(log, "DownloadFailed", level=logging.ERROR, error=error, id=upload.id, left=left)
        raise
    if is_there:
        await client.take({"type": "http.response.body", "body": b"", "more_body": False})
    else:
        event(log, "DownloadAbandoned", id=upload.id, left=left)


async def _read(pieces: AsyncIterator[Buffer], left: int) -> bytes:
    """The next piece as bytes of its own, since a server may keep them longer than the store does."""
    if not left:
        return b""
    async for piece in pieces:
        if len(piece) > left:
            break
        if piece:
            return bytes(piece)
    raise BackendError("the stored bytes are not as many as they should be")


class _Client:
    """Who the response goes to."""

    def __init__(self, send: Send, receive: Receive) -> None:
        self._send = send
        self._receive = receive

    async def take(self, message: Message) -> bool:
        """Send; whether the client is still there as far as anybody knows.

        Lets the others have a turn, too: what is sent to nobody, or to a fast client, takes no time.
        """
        try:
            await self._send(message)
        except OSError:  # what ASGI asks of a server whose client has left; uvicorn and others drop the message
            return False
        return not await _has_left(self._receive)


async def _has_left(receive: Receive) -> bool:
    """Whether a disconnect is there to be received; does not wait for one."""
    with anyio.CancelScope() as scope:
        scope.cancel()
        message = await receive()
        return bool(message["type"] == "http.disconnect")
    return False


@dataclass(frozen=True, slots=True)
class Validators:
    """What tells this content from any other. Both are strong: a finished upload never changes."""

    etag: str
    modified_at: int

    @classmethod
    def of(cls, upload: Upload) -> Self:
        # RFC 9110 8.8.2.1: never later than now, whatever clock stamped the file.
        return cls(f'"{upload.id}-{upload.offset}"', int(min(upload.touched_at, time.time())))

    def headers(self) -> HeaderLines:
        return encode_headers(
            {
                "accept-ranges": "bytes",
                "etag": self.etag,
                "last-modified": formatdate(self.modified_at, usegmt=True),
            }
        )

    def status_of_unmet(self, headers: Headers) -> int | None:
        """304 or 412 if a precondition says so, in the order of RFC 9110 13.2.2; else None."""
        if_match, if_none_match = headers.joined("if-match"), headers.joined("if-none-match")
        if if_match is not None:
            if not self._is_listed(if_match, may_be_weak=False):
                return 412
        elif self._is_newer(headers.joined("if-unmodified-since")) is True:
            return 412
        if if_none_match is not None:
            return 304 if self._is_listed(if_none_match, may_be_weak=True) else None
        return 304 if self._is_newer(headers.joined("if-modified-since")) is False else None

    def permit_range(self, if_range: str | None) -> bool:
        """Whether the part that the client has is a part of this content (RFC 9110 13.1.5)."""
        return if_range is None or if_range == self.etag or parse_date(if_range) == self.modified_at

    def _is_listed(self, field: str, *, may_be_weak: bool) -> bool:
        tags = _ENTITY_TAG.findall(field)
        return field == "*" or any(tag == self.etag and (may_be_weak or not weak) for weak, tag in tags)

    def _is_newer(self, field: str | None) -> bool | None:
        """None where there is no date to compare with: such a field is to be ignored (RFC 9110 13.1.3)."""
        date = parse_date(field or "")
        return None if date is None else self.modified_at > date


def parse_date(text: str) -> int | None:
    """Seconds since the epoch of an HTTP date, in any of its three forms; None if it is none."""
    for form in _DATE_FORMATS:
        try:
            return int(datetime.strptime(text, form).replace(tzinfo=UTC).timestamp())
        except ValueError:
            continue
    return None


def parse_range(field: str, length: int) -> range | None:
    """The bytes that Range asks for, of `length` > 0; empty if there are none such (RFC 9110 14.1.2).

    None: send all. So also for several ranges and for what is malformed, which RFC 9110 14.2 lets a server ignore.
    """
    found = _BYTE_RANGE.fullmatch(field)
    if found is None:
        return None
    first, last, suffix = found.groups()
    if suffix:
        return range(max(0, length - _to_int(suffix)), length)
    start = _to_int(first)
    stop = _to_int(last) + 1 if last else length
    if last and stop <= start:
        return None
    return range(start, min(stop, length))


def _to_int(digits: str) -> int:
    """Any number of digits: `int` gives up above 4300."""
    digits = digits.lstrip("0") or "0"
    return int(digits) if len(digits) <= 20 else _BEYOND


def describe_type(metadata: Mapping[str, str]) -> str:
    """Content-Type as the client declared it, if it is well-formed."""
    text = metadata.get("filetype") or metadata.get("type") or ""
    if len(text) > MAX_TYPE_CHARACTERS or not _MEDIA_TYPE.fullmatch(text):
        return DEFAULT_TYPE
    return text


def describe_disposition(metadata: Mapping[str, str], content_type: str) -> str:
    """Content-Disposition (RFC 6266): shown only if harmless, and named as the client named it, for any script."""
    essence = content_type.partition(";")[0].strip().lower()
    disposition = "inline" if essence in INLINE_TYPES else "attachment"
    given = metadata.get("filename") or metadata.get("name")
    if not given:
        return disposition
    name = safe_name(given)
    plain = _NOT_PLAIN.sub("_", name)
    escaped = plain.replace('"', '\\"')  # and backslashes there are none
    disposition += f'; filename="{escaped}"'
    if plain != name:
        disposition += f"; filename*=UTF-8''{quote(name, safe=_ATTR_CHARS)}"
    return disposition


def safe_name(given: str) -> str:
    """A name to save a file under: no path, nothing invisible, never empty. If too long, its end is kept."""
    name = _NOT_SHOWABLE.sub("", given).replace("/", "_").replace("\\", "_")
    name = name[-MAX_NAME_CHARACTERS:].strip()
    return name if name.strip(".") else DEFAULT_NAME
