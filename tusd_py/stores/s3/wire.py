"""HTTP/1.1 to the storage: connections that are kept, bodies of many pieces of memory, whole answers or streamed ones.

Pieces go to the kernel as they are: whoever gets an answer or an error may use their memory again. Raises `WireError`
for everything that the network does. What an answer means, and whether to ask again, is left to `client`.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

import httptools

Piece = bytes | bytearray | memoryview

_IDLE_SECONDS = 15.0
"""Amazon closes a connection after some 20 s without a request."""
_CONNECT_SECONDS = 5.0

SILENCE_SECONDS = 20.0
"""How long a storage may take no byte, or answer none. A part of 8 MiB is written in less; a listing, too."""

_JOINED_BYTES = 32 * 1024  # shorter bodies go out in one call with their heads
_PAUSE_AT_BYTES = 256 * 1024
_RESUME_AT_BYTES = 64 * 1024


class WireError(Exception):
    """The network failed; whether the storage has seen the request, nobody can tell."""


@dataclass(frozen=True, slots=True)
class Payload:
    """The body of a request, of `size` bytes: pieces of memory, or, with `read`, what that yields each time anew."""

    size: int
    pieces: Sequence[Piece] = ()
    read: Callable[[], AsyncGenerator[Piece, None]] | None = None


NOTHING = Payload(0)


def payload(*pieces: Piece) -> Payload:
    return Payload(sum(map(len, pieces)), pieces)


@dataclass(slots=True)
class Answer:
    """Names of headers are in lower case; `body` is empty while it is streamed."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


class _Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._parser: httptools.HttpResponseParser
        self._drained: asyncio.Future[None] | None = None
        self._news: asyncio.Future[None] | None = None
        self._pieces: deque[bytes] = deque()
        self._queued_bytes = 0
        self._is_bodiless = False
        self._is_complete = True
        self.is_lost = asyncio.Event()
        self._must_close = False
        self.answer = Answer()
        self.idle_since = self._loop.time()

    # What asyncio tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        # The memory of what was written may be used again once the kernel has it. TLS has copied it by then, and
        # asyncio's never resumes at 0.
        self._transport.set_write_buffer_limits(1 if transport.get_extra_info("sslcontext") else 0)

    def pause_writing(self) -> None:
        self._drained = self._loop.create_future()

    def resume_writing(self) -> None:
        _wake(self._drained)
        self._drained = None

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.abort()

    def connection_lost(self, _error: Exception | None) -> None:
        self.is_lost.set()
        _wake(self._drained)
        _wake(self._news)

    # What the parser tells.

    def on_header(self, name: bytes, value: bytes) -> None:
        self.answer.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:
            self.answer.headers.clear()  # an interim answer
            return
        self.answer.status = status
        self._must_close = not self._parser.should_keep_alive()
        self._is_complete = self._is_bodiless or status in (204, 304)
        _wake(self._news)

    def on_body(self, data: bytes) -> None:
        self._pieces.append(data)
        self._queued_bytes += len(data)
        if self._queued_bytes > _PAUSE_AT_BYTES:
            self._transport.pause_reading()
        _wake(self._news)

    def on_message_complete(self) -> None:
        if self.answer.status:
            self._is_complete = True
            _wake(self._news)

    # What the caller does.

    @property
    def is_reusable(self) -> bool:
        is_idle = self._is_complete and not self._pieces  # who left a download left its rest here
        return is_idle and not (self._must_close or self.is_lost.is_set() or self._transport.is_closing())

    def abort(self) -> None:
        self._must_close = True
        self._transport.abort()

    async def send(self, head: bytes, payload: Payload, silence_seconds: float, *, is_bodiless: bool) -> None:
        """Until the kernel has all, or an answer came early."""
        self._parser = httptools.HttpResponseParser(self)
        self.answer = Answer()
        self._is_bodiless, self._is_complete, self._must_close = is_bodiless, False, False
        if payload.size and payload.size <= _JOINED_BYTES and payload.read is None:
            self._transport.write(b"".join((head, *payload.pieces)))
        else:
            self._transport.write(head)
            async for piece in _each(payload):
                await self._drain(silence_seconds)
                if self.answer.status:
                    self._must_close = True  # the rest of the body will not come
                    return
                self._transport.write(piece)
        await self._drain(silence_seconds)

    async def _drain(self, silence_seconds: float) -> None:
        if self._drained is not None:
            await _within(self._drained, silence_seconds, "took no bytes")
        if self.is_lost.is_set() and not self.answer.status:
            raise WireError("the storage closed the connection")

    async def head(self, silence_seconds: float) -> None:
        """Until the head of the answer is there."""
        while not self.answer.status:
            await self._wait(silence_seconds)

    async def body(self, silence_seconds: float) -> AsyncGenerator[bytes, None]:
        while True:
            while self._pieces:
                piece = self._pieces.popleft()
                self._queued_bytes -= len(piece)
                if self._queued_bytes < _RESUME_AT_BYTES and not self.is_lost.is_set():
                    self._transport.resume_reading()
                yield piece
            if self._is_complete:
                return
            await self._wait(silence_seconds)

    async def _wait(self, silence_seconds: float) -> None:
        if self.is_lost.is_set():
            raise WireError("the storage closed the connection")
        self._news = self._loop.create_future()
        try:
            await _within(self._news, silence_seconds, "did not answer")
        finally:
            self._news = None


async def _each(payload: Payload) -> AsyncIterator[Piece]:
    if payload.read is None:
        for piece in payload.pieces:
            yield piece
        return
    async with aclosing(payload.read()) as pieces:
        async for piece in pieces:
            yield piece


def _wake(future: asyncio.Future[None] | None) -> None:
    if future is not None and not future.done():
        future.set_result(None)


async def _within(future: asyncio.Future[None], seconds: float, what: str) -> None:
    try:
        async with asyncio.timeout(seconds):
            await future
    except TimeoutError:
        raise WireError(f"the storage {what} for {seconds:g} s") from None


class Wire:
    """Connections to one host. Used in one event loop."""

    def __init__(
        self,
        host: str,
        port: int,
        tls: ssl.SSLContext | None,
        *,
        most_connections: int,
    ) -> None:
        self._host, self._port, self._tls = host, port, tls
        self._idle: list[_Connection] = []
        self._slots = asyncio.Semaphore(most_connections)

    async def request(self, method: str, target: str, headers: Mapping[str, str], payload: Payload = NOTHING) -> Answer:
        """One request and its whole answer. `headers` are complete but for Content-Length's correctness."""
        async with self.stream(method, target, headers, payload) as (answer, body):
            answer.body = b"".join([piece async for piece in body])
            return answer

    @asynccontextmanager
    async def stream(
        self, method: str, target: str, headers: Mapping[str, str], payload: Payload = NOTHING
    ) -> AsyncGenerator[tuple[Answer, AsyncGenerator[bytes, None]], None]:
        """The head of the answer, and its body as it comes; who leaves early closes the connection."""
        head = _head(method, target, headers)
        async with self._slots:
            connection = self._take() or await self._connect()
            try:
                await connection.send(head, payload, SILENCE_SECONDS, is_bodiless=method == "HEAD")
                await connection.head(SILENCE_SECONDS)
                yield connection.answer, connection.body(SILENCE_SECONDS)
            finally:
                if connection.is_reusable:
                    connection.idle_since = asyncio.get_running_loop().time()
                    self._idle.append(connection)
                else:
                    connection.abort()

    async def aclose(self) -> None:
        """Close the idle connections; those in use are their requests'."""
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.abort()
            await connection.is_lost.wait()

    def _take(self) -> _Connection | None:
        """The one that was used last: the others may end by themselves."""
        oldest = asyncio.get_running_loop().time() - _IDLE_SECONDS
        while self._idle:
            connection = self._idle.pop()
            if connection.is_reusable and connection.idle_since > oldest:
                return connection
            connection.abort()
        return None

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                _, connection = await loop.create_connection(
                    _Connection,
                    self._host,
                    self._port,
                    ssl=self._tls,
                    server_hostname=self._host if self._tls else None,
                )
        except TimeoutError:
            raise WireError(f"no connection within {_CONNECT_SECONDS:g} s") from None
        except OSError as error:
            raise WireError(f"no connection: {error.strerror or error}") from error
        return connection


def _head(method: str, target: str, headers: Mapping[str, str]) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode("latin-1")
