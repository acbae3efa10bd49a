"""An HTTP/1.1 client on plain sockets that sends exactly the bytes it is given, well formed or not.

It owns the framing of requests and a strict reading of responses: keep-alive, pipelining, 1xx, chunked, HEAD. What
the bytes mean in tus is `target`'s matter. Nothing here waits longer than TIMEOUT_SECONDS for a byte.
"""

from __future__ import annotations

import contextlib
import fcntl
import re
import socket
import struct
import termios
import time
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType

TIMEOUT_SECONDS = 5.0
CLOSE_SECONDS = 2.0

Fields = Iterable[tuple[str, str | bytes | None]]

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?: ([^\r\n]*))?")
_FIELD_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n\0]*?)[ \t]*")


class MalformedResponseError(AssertionError):
    """The server sent something that is not HTTP/1.1."""


class ClosedByServerError(ConnectionError):
    """The connection ended where a response, or the rest of one, should have come."""


@dataclass(frozen=True)
class Response:
    status: int
    reason: str
    fields: tuple[tuple[str, str], ...]
    body: bytes = b""
    interim: tuple[Response, ...] = ()

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key.lower() == name.lower()]

    def header(self, name: str) -> str | None:
        values = self.all(name)
        return ", ".join(values) if values else None

    def tokens(self, name: str) -> set[str]:
        """A comma list, in lower case."""
        return {item.strip().lower() for value in self.all(name) for item in value.split(",") if item.strip()}

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")

    @property
    def says_close(self) -> bool:
        return "close" in self.tokens("Connection")


@dataclass(frozen=True)
class Chunks:
    """A body in the chunked transfer coding, with trailers."""

    pieces: tuple[bytes, ...]
    trailers: tuple[tuple[str, str | bytes], ...] = ()

    def encode(self) -> bytes:
        coded = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in self.pieces)
        return coded + b"0\r\n" + b"".join(field_line(name, value) for name, value in self.trailers) + b"\r\n"


def field_line(name: str, value: str | bytes) -> bytes:
    raw = value if isinstance(value, bytes) else value.encode("latin-1")
    return name.encode("latin-1") + b": " + raw + b"\r\n"


def request_head(method: str, path: str, fields: Fields, *, version: str = "HTTP/1.1") -> bytes:
    lines = [field_line(name, value) for name, value in fields if value is not None]
    return f"{method} {path} {version}\r\n".encode("latin-1") + b"".join(lines) + b"\r\n"


def authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Connection:
    """One TCP connection. Use it as a context manager."""

    def __init__(self, host: str, port: int, *, receive_buffer_bytes: int | None = None) -> None:
        self._host_field = authority(host, port)
        self._received = bytearray()
        self._socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        try:
            if receive_buffer_bytes is not None:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
            self._socket.settimeout(TIMEOUT_SECONDS)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.connect((host, port))
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def try_to_send(self, data: bytes) -> None:
        """Send what a server that already answered and left may not take any more."""
        with contextlib.suppress(ConnectionError):
            self._socket.sendall(data)

    def send_request(
        self,
        method: str,
        path: str,
        fields: Fields = (),
        body: bytes | Chunks | None = None,
        *,
        only_head: bool = False,
    ) -> None:
        """Add Host and the framing of `body` where `fields` have none. A server may answer before the body is sent."""
        given = list(fields)
        names = {name.lower() for name, _ in given}
        added: list[tuple[str, str | bytes | None]] = [] if "host" in names else [("Host", self._host_field)]
        if isinstance(body, Chunks):
            added.append(("Transfer-Encoding", "chunked"))
        elif body is not None and "content-length" not in names:
            added.append(("Content-Length", str(len(body))))
        head = request_head(method, path, added + given)
        content = b"" if only_head or body is None else body.encode() if isinstance(body, Chunks) else body
        if len(content) <= 65536:
            self.try_to_send(head + content)
        else:
            self.send(head)
            self.try_to_send(content)

    def request(self, method: str, path: str, fields: Fields = (), body: bytes | Chunks | None = None) -> Response:
        self.send_request(method, path, fields, body)
        return self.response(method)

    def response(self, method: str = "GET") -> Response:
        """The next final response. `method` is the one on the wire: HEAD has no body whatever the headers say."""
        interim = []
        while (head := self.head()).status < 200:
            interim.append(head)
        body = b"" if method == "HEAD" or head.status in (204, 304) else self._body(head)
        return Response(head.status, head.reason, head.fields, body, tuple(interim))

    def head(self) -> Response:
        """The next status line and header fields, of a 1xx too."""
        block = self._until(b"\r\n\r\n")[:-4]
        status_line, *lines = block.split(b"\r\n")
        status = _STATUS_LINE.fullmatch(status_line)
        if not status:
            raise MalformedResponseError(f"status line {status_line!r}")
        fields = []
        for line in lines:
            field = _FIELD_LINE.fullmatch(line)
            if not field:
                raise MalformedResponseError(f"header line {line!r}")
            fields.append((field[1].decode("ascii"), field[2].decode("latin-1")))
        head = Response(int(status[1]), (status[2] or b"").decode("latin-1"), tuple(fields))
        # RFC 9110 8.6 and RFC 9112 6.1: neither 1xx nor 204 may have them.
        if (head.status < 200 or head.status == 204) and (head.all("Content-Length") or head.all("Transfer-Encoding")):
            raise MalformedResponseError(f"a {head.status} with the framing of a body")
        return head

    def _body(self, head: Response) -> bytes:
        if head.header("Transfer-Encoding") is not None:
            return self._chunked_body()
        lengths = set(head.all("Content-Length"))
        if not lengths:
            return self._until_close()
        length = lengths.pop()
        if lengths or not re.fullmatch("[0-9]+", length):
            raise MalformedResponseError(f"Content-Length {head.all('Content-Length')}")
        return self._exactly(int(length))

    def _chunked_body(self) -> bytes:
        body = bytearray()
        while True:
            line = self._until(b"\r\n")[:-2]
            if not (size := re.match(rb"[0-9A-Fa-f]+", line)):
                raise MalformedResponseError(f"chunk size {line!r}")
            if int(size[0], 16) == 0:
                while self._until(b"\r\n") != b"\r\n":
                    pass
                return bytes(body)
            body += self._exactly(int(size[0], 16))
            if self._exactly(2) != b"\r\n":
                raise MalformedResponseError("a chunk that goes past its size")

    def _fill(self) -> bool:
        """Receive once; False at the end."""
        try:
            data = self._socket.recv(65536)
        except ConnectionResetError:
            return False
        self._received += data
        return bool(data)

    def _take(self, count: int) -> bytes:
        taken = bytes(self._received[:count])
        del self._received[:count]
        return taken

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._received:
            if not self._fill():
                raise ClosedByServerError(f"closed after {bytes(self._received)!r}")
        return self._take(self._received.index(mark) + len(mark))

    def _exactly(self, count: int) -> bytes:
        while len(self._received) < count:
            if not self._fill():
                raise ClosedByServerError(f"closed {count - len(self._received)} bytes before the end of the body")
        return self._take(count)

    def _until_close(self) -> bytes:
        while self._fill():
            pass
        return self._take(len(self._received))

    def is_closed_by_server(self) -> bool:
        """Wait for the end. False if more bytes come, or nothing does for CLOSE_SECONDS."""
        if self._received:
            return False
        self._socket.settimeout(CLOSE_SECONDS)
        try:
            return not self._fill()
        except TimeoutError:
            return False
        finally:
            self._socket.settimeout(TIMEOUT_SECONDS)

    def stop_sending(self) -> None:
        """FIN: no more bytes from here; answers still arrive."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def wait_until_delivered(self, within_seconds: float = 3.0) -> None:
        """Return when the other kernel has acknowledged every byte; there is no event for that, so it is polled."""
        deadline = time.monotonic() + within_seconds
        while struct.unpack("i", fcntl.ioctl(self._socket, termios.TIOCOUTQ, b"\0\0\0\0"))[0]:
            if time.monotonic() > deadline:
                raise TimeoutError("the server does not take the bytes off its socket")
            time.sleep(0.002)

    def reset(self) -> None:
        """RST: the connection is torn down as by a crash of the client."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def close(self) -> None:
        self._socket.close()
