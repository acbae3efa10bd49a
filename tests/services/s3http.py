"""Just enough HTTP/1.1 for a proxy: heads, the framing of bodies, and a socket that is read through a buffer.

Bodies go piece by piece to a sink, as they came over the wire; who wants a whole one collects it.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

BUFFER_BYTES = 256 << 10
BODILESS_STATUSES = {204, 304}
RESET_ON_CLOSE = struct.pack("ii", 1, 0)

Piece = bytes | memoryview
Sink = Callable[[Piece], Awaitable[None]]


class Gone(ConnectionError):
    """The other side closed in the middle of a message."""


@dataclass(frozen=True)
class Head:
    """The first line and the headers of a request or an answer, as received."""

    raw: bytes

    @cached_property
    def first(self) -> list[str]:
        """Method, target, version; or version, status, reason."""
        return self.raw.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)

    @cached_property
    def headers(self) -> dict[str, str]:
        lines = self.raw.decode("latin-1").split("\r\n")[1:-2]
        return {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}

    @property
    def status(self) -> int:
        return int(self.first[1])

    @property
    def is_chunked(self) -> bool:
        return self.headers.get("transfer-encoding", "").lower() == "chunked"

    @property
    def length(self) -> int | None:
        value = self.headers.get("content-length")
        return None if value is None else int(value)

    @property
    def expects_continue(self) -> bool:
        return self.headers.get("expect", "").lower() == "100-continue"

    @property
    def keeps_alive(self) -> bool:
        return "HTTP/1.1" in self.first and self.headers.get("connection", "").lower() != "close"

    def ends_with_connection(self, method: str) -> bool:
        """Of an answer: whether only the end of the connection tells where its body ends."""
        return self.has_body(method) and not self.is_chunked and self.length is None

    def has_body(self, method: str) -> bool:
        return method != "HEAD" and self.status not in BODILESS_STATUSES


@dataclass(frozen=True)
class Answer:
    """A whole answer, to be kept, changed or made up. `raw` adds its length where no header tells one."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    def raw(self, method: str) -> bytes:
        lines = [f"HTTP/1.1 {self.status} {'OK' if self.status < 300 else 'Not So'}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        if self.status not in BODILESS_STATUSES and "content-length" not in dict(self.headers):
            lines.append(f"content-length: {len(self.body)}")
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        return head + self.body if method != "HEAD" else head


class Wire:
    """One connection: what it sends is read ahead into a buffer, of which pieces are handed on without copies."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = connection
        self._loop = asyncio.get_running_loop()
        self._bytes = bytearray(BUFFER_BYTES)
        self._buffer = memoryview(self._bytes)
        self._start = self._end = 0

    @property
    def has_ended(self) -> bool:
        """Whether an idle connection is of no more use, since the other side closed it."""
        try:
            return not self.socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True

    async def head(self) -> Head | None:
        """None: the connection ended, and properly so."""
        while (found := self._bytes.find(b"\r\n\r\n", self._start, self._end)) < 0:
            if not await self._fill():
                if self._start == self._end:
                    return None
                raise Gone
        return Head(self._take(found + 4 - self._start).tobytes())

    async def body(self, head: Head, sink: Sink, framing: Sink | None = None) -> None:
        """Hand on a body, with the framing of chunks, which goes to another sink if there is one.

        A piece is valid until the sink has returned.
        """
        if head.is_chunked:
            await self._chunks(sink, framing or sink)
        elif head.length is not None:
            await self._exactly(head.length, sink)
        elif head.raw.startswith(b"HTTP/"):
            while self._start < self._end or await self._fill():
                await sink(self._take(BUFFER_BYTES))

    async def send(self, data: Piece) -> None:
        await self._loop.sock_sendall(self.socket, data)

    def reset(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self.socket.close()

    def close(self) -> None:
        self.socket.close()

    async def _chunks(self, sink: Sink, framing: Sink) -> None:
        while size := int((await self._line(framing)).split(b";")[0], 16):
            await self._exactly(size, sink)
            await self._exactly(2, framing)
        while await self._line(framing) != b"\r\n":
            pass

    async def _line(self, sink: Sink) -> bytes:
        while (found := self._bytes.find(b"\r\n", self._start, self._end)) < 0:
            if not await self._fill():
                raise Gone
        line = self._take(found + 2 - self._start).tobytes()
        await sink(line)
        return line

    async def _exactly(self, count: int, sink: Sink) -> None:
        while count:
            if self._start == self._end and not await self._fill():
                raise Gone
            piece = self._take(count)
            count -= len(piece)
            await sink(piece)

    def _take(self, count: int) -> memoryview:
        start = self._start
        self._start = min(self._end, start + count)
        return self._buffer[start : self._start]

    async def _fill(self) -> int:
        """Receive more; answers how much, 0 at the end."""
        if self._start:  # what is left is moved to the front, so that there is room
            rest = bytes(self._buffer[self._start : self._end])
            self._buffer[: len(rest)] = rest
            self._start, self._end = 0, len(rest)
        if self._end == BUFFER_BYTES:
            raise Gone("a head or a line that is longer than the buffer")
        count = await self._loop.sock_recv_into(self.socket, self._buffer[self._end :])
        self._end += count
        return count


async def whole_answer(wire: Wire, head: Head, method: str) -> Answer:
    """Collect an answer whose head was read; its framing is given up."""
    content = bytearray()
    if head.has_body(method):
        await wire.body(head, into(content), framing=nowhere)
    dropped = {"transfer-encoding", "connection", "keep-alive"}
    if head.has_body(method):
        dropped.add("content-length")
    return Answer(head.status, without(head.headers.items(), dropped), bytes(content))


def without(headers: Iterable[tuple[str, str]], names: set[str]) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, value in headers if name not in names)


def into(content: bytearray) -> Sink:
    async def keep(piece: Piece) -> None:
        content.extend(piece)

    return keep


async def nowhere(piece: Piece) -> None:
    """A sink for what nobody wants."""
