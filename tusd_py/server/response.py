"""How a response looks on the wire: its head, and its body with a length or in chunks. No I/O."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus

from tusd_py.errors import TusError

_FRAMING = frozenset({b"content-length", b"transfer-encoding", b"connection"})


def _status_line(status: int) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}\r\n".encode()


_STATUS_LINES = {status: _status_line(status) for status in range(100, 600)}


class Response:
    """One response. `head` goes out together with the first bytes of the body, in one packet.

    `is_bodiless`: the request was HEAD. `speaks_chunked`: the client knows chunks (HTTP/1.1). `must_close`: the
    connection cannot be used again; `has_close` tells afterwards whether the response says so.
    """

    __slots__ = ("_has_no_body", "_head", "_is_chunked", "_left", "has_close")

    def __init__(
        self,
        status: int,
        headers: Iterable[tuple[bytes, bytes]],
        *,
        date_line: bytes,
        is_bodiless: bool,
        speaks_chunked: bool,
        must_close: bool,
    ) -> None:
        self.has_close = must_close
        self._left: int | None = None
        self._is_chunked = False
        self._has_no_body = is_bodiless or status in (204, 304)
        lines = [_STATUS_LINES[status], date_line]
        count = 2 + date_line.count(b"\n")
        for name, value in headers:
            if name in _FRAMING and not self._keeps(name, value):
                continue
            lines += (name, b": ", value, b"\r\n")
            count += 1
        if self._left is None and not self._is_chunked and not self._has_no_body:
            self._is_chunked = speaks_chunked
            if speaks_chunked:
                lines.append(b"transfer-encoding: chunked\r\n")
                count += 1
            else:
                self.has_close = True  # the end of the connection is the end of the body
        if self.has_close:
            lines.append(b"connection: close\r\n")
            count += 1
        lines.append(b"\r\n")
        self._head = b"".join(lines)
        if not self._head.count(b"\n") == self._head.count(b"\r") == count:
            raise RuntimeError("a line end in a response header")

    def _keeps(self, name: bytes, value: bytes) -> bool:
        """Understand a header about framing; False: it is not sent as it is."""
        if name == b"content-length":
            self._left = int(value)
            return True
        if name == b"transfer-encoding":
            self._is_chunked = value.lower() == b"chunked"
            return True
        self.has_close = self.has_close or b"close" in value.lower()
        return not self.has_close

    def frame(self, body: bytes, *, is_complete: bool) -> bytes:
        """`body`, the next piece, as it goes on the wire."""
        if self._has_no_body:
            body = b""
        elif self._is_chunked:
            body = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            if is_complete:
                body += b"0\r\n\r\n"
        elif self._left is not None:
            self._left -= len(body)
            if self._left < 0 or (is_complete and self._left):
                raise RuntimeError("the response is not as long as its Content-Length")
        return self.unsent() + body if self._head else body

    def unsent(self) -> bytes:
        """The head, if it has not left yet."""
        head, self._head = self._head, b""
        return head


def failure_headers(content: bytes) -> list[tuple[bytes, bytes]]:
    """Headers of an answer that the application did not give; `content` is its body."""
    return [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", b"%d" % len(content)),
        (b"tus-resumable", b"1.0.0"),
        (b"x-content-type-options", b"nosniff"),
        (b"connection", b"close"),
    ]


def failure_content(error: TusError) -> bytes:
    return f"{error.code}: {error.message}\n".encode("ascii", "replace")


def refusal(error: TusError, date_line: bytes, *, is_bodiless: bool = False) -> bytes:
    """A whole answer that no application gave."""
    content = failure_content(error)
    response = Response(
        error.status,
        failure_headers(content) + [(name.lower().encode(), value.encode()) for name, value in error.headers.items()],
        date_line=date_line,
        is_bodiless=is_bodiless,
        speaks_chunked=True,
        must_close=True,
    )
    return response.frame(content, is_complete=True)


_rendered: tuple[object, bytes] = (None, b"")


def header_lines(headers: list[tuple[bytes, bytes]]) -> bytes:
    """The server's own lines, such as Date, ready to send: the same list for a second."""
    global _rendered  # noqa: PLW0603  (one value, replaced whole)
    rendered = _rendered
    if rendered[0] is not headers:
        _rendered = rendered = headers, b"".join(b"%b: %b\r\n" % header for header in headers)
    return rendered[1]
