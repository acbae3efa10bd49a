"""The tus server under test, seen from outside: what it announces, and the few requests that every case needs.

Answers are returned as they are; only `create`, `offset` and the `check_` methods assert. HTTP itself is `client`'s.
"""

from __future__ import annotations

import base64
import random
import time
from functools import cached_property
from urllib.parse import urljoin, urlsplit

from client import Chunks, Connection, Fields, Response, authority

VERSION = "1.0.0"
OFFSET_TYPE = "application/offset+octet-stream"
UNKNOWN_ID = "0123456789abcdef0123456789abcdef"
SETTLE_SECONDS = 3.0

Body = bytes | Chunks


def merged(defaults: Fields, given: Fields) -> list[tuple[str, str | bytes | None]]:
    """`given` wins over `defaults` of the same name. A value of None keeps the field from being sent."""
    ours = list(given)
    names = {name.lower() for name, _ in ours}
    return [default for default in defaults if default[0].lower() not in names] + ours


def metadata(**values: str | bytes) -> str:
    def coded(value: str | bytes) -> str:
        return base64.b64encode(value if isinstance(value, bytes) else value.encode()).decode()

    return ",".join(f"{key} {coded(value)}" for key, value in values.items())


class Target:
    def __init__(self, url: str, max_size: int) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"{url!r}: the suite speaks plain http://host:port/path only")
        self.url = url
        self.max_size = max_size
        self.host = parts.hostname
        self.port = parts.port or 80
        self.base = parts.path or "/"
        self.authority = authority(self.host, self.port)
        self.unknown = self.base.rstrip("/") + "/" + UNKNOWN_ID

    def connect(self) -> Connection:
        return Connection(self.host, self.port)

    @cached_property
    def announced(self) -> Response:
        return self.ask("OPTIONS", self.base, [("Tus-Resumable", None)])

    @cached_property
    def extensions(self) -> set[str]:
        return self.announced.tokens("Tus-Extension")

    @cached_property
    def serves_downloads(self) -> bool:
        return self.ask("GET", self.upload(b"x")).status == 200

    def path_of(self, location: str | None) -> str:
        assert location, "no Location"
        parts = urlsplit(urljoin(f"http://{self.authority}{self.base}", location))
        return parts.path + (f"?{parts.query}" if parts.query else "")

    def ask(self, method: str, path: str, fields: Fields = (), body: Body | None = None) -> Response:
        """One request on a connection of its own, with Tus-Resumable unless `fields` say otherwise."""
        with self.connect() as connection:
            return connection.request(method, path, merged([("Tus-Resumable", VERSION)], fields), body)

    def post(self, fields: Fields = (), body: Body = b"", *, path: str | None = None) -> Response:
        return self.ask("POST", path or self.base, fields, body)

    def create(self, length: int | None, fields: Fields = (), body: Body = b"") -> str:
        """The path of a new upload; None is a deferred length."""
        size = ("Upload-Defer-Length", "1") if length is None else ("Upload-Length", str(length))
        defaults = [size, ("Content-Type", OFFSET_TYPE)] if body else [size]
        answer = self.post(merged(defaults, fields), body)
        assert answer.status == 201, answer
        return self.path_of(answer.header("Location"))

    def upload(self, content: bytes, fields: Fields = ()) -> str:
        """The path of a finished upload."""
        path = self.create(len(content), fields)
        if content:
            answer = self.patch(path, 0, content)
            assert answer.status == 204, answer
        return path

    def patch_fields(self, offset: int | str, fields: Fields = ()) -> list[tuple[str, str | bytes | None]]:
        defaults = [("Tus-Resumable", VERSION), ("Content-Type", OFFSET_TYPE), ("Upload-Offset", str(offset))]
        return merged(defaults, fields)

    def patch(self, path: str, offset: int | str, body: Body, fields: Fields = ()) -> Response:
        return self.ask("PATCH", path, self.patch_fields(offset, fields), body)

    def start_patch(
        self, connection: Connection, path: str, offset: int, length: int, sent: bytes, fields: Fields = ()
    ) -> None:
        """Begin a PATCH of `length` bytes, send only `sent`, and see to it that the server's kernel has them."""
        framing = [("Content-Length", str(length))]
        connection.send_request("PATCH", path, merged(framing, self.patch_fields(offset, fields)))
        connection.send(sent)
        connection.wait_until_delivered()

    def head(self, path: str, fields: Fields = ()) -> Response:
        return self.ask("HEAD", path, fields)

    def offset(self, path: str) -> int:
        answer = self.head(path)
        assert answer.status in (200, 204), answer
        assert answer.header("Upload-Offset") is not None, answer
        return int(answer.header("Upload-Offset") or "")

    def check_content(self, path: str, content: bytes) -> None:
        """The upload is finished and has these bytes."""
        answer = self.head(path)
        assert answer.status in (200, 204), answer
        assert answer.header("Upload-Offset") == answer.header("Upload-Length") == str(len(content)), answer
        if self.serves_downloads:
            download = self.ask("GET", path, [("Tus-Resumable", None)])
            assert download.status == 200 if content else download.status in (200, 204), download
            assert download.body == content

    def check_resumable(self, path: str, content: bytes, at_most: int | None = None) -> int:
        """The offset tells the truth: going on from it gives `content`. Returns that offset."""
        limit = len(content) if at_most is None else at_most
        offset = self.offset(path)
        assert offset <= limit, f"{offset} bytes counted, not all were sent"
        if offset < len(content):
            answer = self.patch_when_free(path, offset, content[offset:])
            assert answer.status == 204, answer
        self.check_content(path, content)
        return offset

    def patch_when_free(self, path: str, offset: int, body: Body, fields: Fields = ()) -> Response:
        """PATCH again while the server says 423, as clients do."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while (answer := self.patch(path, offset, body, fields)).status == 423 and time.monotonic() < deadline:
            time.sleep(0.05)
        return answer

    def wait_for_offset(self, path: str, expected: int) -> None:
        """A server learns of a cut connection a little later than the client does."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while (offset := self.offset(path)) != expected:
            assert offset < expected, f"{offset} bytes counted, only {expected} were sent"
            assert time.monotonic() < deadline, f"{offset} of {expected} bytes kept"
            time.sleep(0.02)


def noise(count: int, seed: int = 1) -> bytes:
    """Bytes in which a shifted, lost or repeated stretch shows."""
    return random.Random(seed).randbytes(count)
