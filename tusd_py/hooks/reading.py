"""The bytes of an upload as handlers read them: whole and in order, or an error. What a store gives in pieces of any
size comes in pieces that are worth a step between threads; fewer bytes than the upload has are never taken for its end.
"""

from __future__ import annotations

import io
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator, Iterator
from contextlib import suppress
from typing import Any, BinaryIO, Protocol

import anyio

from tusd_py.hooks.contract import HookError
from tusd_py.hooks.threads import Errand

LONGEST_PIECE = 1 << 20
_HOP_BYTES = 1 << 20
_CLOSE_SECONDS = 5


class Bytes(Protocol):
    """What an upload consists of, wherever it is stored."""

    @property
    def length(self) -> int: ...

    def pieces(self, start: int, end: int) -> AsyncIterator[bytes]:
        """The bytes from `start` up to, not including, `end`, in order. Is closed when it is not read to its end."""
        ...


class AsyncStream:
    """A `contract.Stream`, during one call of a handler."""

    def __init__(self, source: Bytes) -> None:
        self._source = source
        self._open: list[AsyncIterator[bytes]] = []

    @property
    def length(self) -> int:
        return self._source.length

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self.pieces(0, self.length)

    async def read(self, start: int = 0, end: int | None = None) -> bytes:
        first, last = _bounds(start, end, self.length)
        return b"".join([piece async for piece in self.pieces(first, last)])

    async def pieces(self, start: int, end: int) -> AsyncGenerator[bytes, None]:
        count = start
        if start < end:
            source = self._source.pieces(start, end)
            self._open.append(source)
            try:
                async for piece in source:
                    count += len(piece)
                    if len(piece) <= LONGEST_PIECE:
                        yield piece
                    else:
                        for first in range(0, len(piece), LONGEST_PIECE):
                            yield piece[first : first + LONGEST_PIECE]
            finally:
                await self._close(source)
        if count != max(start, end):
            raise HookError(f"the storage ended at byte {count} of what should be read up to byte {end}")

    async def aclose(self) -> None:
        """Close what a handler has left half read."""
        for source in list(self._open):
            await self._close(source)

    async def _close(self, source: AsyncIterator[bytes]) -> None:
        if source in self._open:
            self._open.remove(source)
            close = getattr(source, "aclose", None)
            if close is not None:
                # RuntimeError: a task that the handler left behind is reading.
                with anyio.move_on_after(_CLOSE_SECONDS, shield=True), suppress(RuntimeError):
                    await close()


class ThreadStream:
    """A `contract.SyncStream`, in the thread of a plain handler."""

    def __init__(self, stream: AsyncStream, errand: Errand) -> None:
        self._stream = stream
        self._errand = errand

    @property
    def length(self) -> int:
        return self._stream.length

    def __iter__(self) -> Iterator[bytes]:
        return self.pieces(0)

    def read(self, start: int = 0, end: int | None = None) -> bytes:
        return self._errand.ask(lambda: self._stream.read(start, end))

    def open(self) -> BinaryIO:
        """A file of these bytes, for what reads files: csv, zipfile, gzip, pandas. It can be sought."""
        return io.BufferedReader(_File(self), LONGEST_PIECE)

    def pieces(self, start: int) -> Generator[bytes, None, None]:
        iterator = self._stream.pieces(start, self.length)
        try:
            while batch := self._errand.ask(_next_batch(iterator)):
                yield from batch
        finally:
            with suppress(HookError):  # the call is over, and has closed it
                self._errand.ask(iterator.aclose)


def _next_batch(iterator: AsyncIterator[bytes]) -> Callable[[], Coroutine[Any, Any, list[bytes]]]:
    async def gather() -> list[bytes]:
        batch = []
        count = 0
        async for piece in iterator:
            batch.append(piece)
            count += len(piece)
            if count >= _HOP_BYTES:
                break
        return batch

    return gather


class _File(io.RawIOBase):
    """What `io.BufferedReader` reads: in one run as long as nobody seeks."""

    def __init__(self, stream: ThreadStream) -> None:
        self._stream = stream
        self._position = 0
        self._pieces: Generator[bytes, None, None] | None = None
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._stream.length}[whence]
        if start + offset < 0:
            raise ValueError(f"no byte is at {start + offset}")
        if start + offset != self._position:
            if self._pieces is not None:
                self._pieces.close()
            self._pieces = None
            self._rest = memoryview(b"")
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        if self._pieces is None:
            self._pieces = self._stream.pieces(self._position)
        if not self._rest:
            self._rest = memoryview(next(self._pieces, b""))
        count = min(len(self._rest), len(buffer))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        self._position += count
        return count


def _bounds(start: int, end: int | None, length: int) -> tuple[int, int]:
    last = length if end is None else end
    if start < 0 or last < 0:
        raise ValueError(f"read({start}, {end}): bytes are counted from the start; it has {length}, see stream.length")
    return start, min(last, length)
