"""The memory that bodies on their way to S3 may take in one process, and the bytes of one part in it.

Bytes arrive in a block that all uploads share; an upload has a block of its own only once it is half full, so idle
clients hold what they sent and no more. Where memory is short, a part goes on in a file without a name.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import tempfile
from collections.abc import AsyncGenerator, Callable
from io import BufferedRandom

import anyio.to_thread

from tusd_py.stores.s3.crc import crc64
from tusd_py.stores.s3.wire import Payload, Piece

BLOCK_BYTES = 256 * 1024
"""Measured on the disk's way in: larger ones leave the second-level cache, smaller ones cost more calls."""

_LEAST_TAKEN_BYTES = BLOCK_BYTES // 2
_LEAST_COPIED_BYTES = BLOCK_BYTES // 4
_FILE_PIECE_BYTES = 64 * 1024  # of each file two may be on their way, which nobody counts
_LOADS = 16


class Memory:
    """What one process has. Used in its event loop only.

    `loads` bounds how many tails are read at once: what comes from the storage is in no block yet, and not counted.
    `relieve(count)` is asked, where there is too little, to let go of that much of what is only kept to save calls;
    `relieve_files()`, where there is no room for another file: it returns whether there may be now.
    """

    def __init__(self, limit_bytes: int, folder: str | None = None) -> None:
        self.spare = _new_block()
        self.folder = folder
        self.used_bytes = 0
        self.loads = asyncio.Semaphore(_LOADS)
        self.relieve: Callable[[int], object] = lambda _count: None
        self.relieve_files: Callable[[], bool] = lambda: False
        self.limit_bytes = limit_bytes
        self._most_bytes = limit_bytes * 7 // 8  # the rest is on its way in queues, and not counted
        self._free: list[memoryview] = []

    @property
    def is_short(self) -> bool:
        if self.used_bytes > self._most_bytes:
            self.relieve(self.used_bytes - self._most_bytes)
        return self.used_bytes > self._most_bytes

    @property
    def is_ample(self) -> bool:
        """Whether larger parts would take nothing from other uploads: one alone, with four parts of 16 MiB, leaves
        it so."""
        return self.used_bytes < self.limit_bytes * 5 // 8

    def new(self) -> memoryview:
        self.used_bytes += BLOCK_BYTES
        return self._free.pop() if self._free else _new_block()

    def take(self) -> memoryview:
        """The spare with what is in it."""
        taken, self.spare = self.spare, self.new()
        return taken

    def give_back(self, block: memoryview) -> None:
        self.used_bytes -= BLOCK_BYTES
        if (len(self._free) + 1) * BLOCK_BYTES + self.used_bytes <= self._most_bytes:
            self._free.append(block)


def _new_block() -> memoryview:
    """Apart from the heap, in which blocks that come and go beside smaller things leave holes: 40 MiB of 250."""
    return memoryview(mmap.mmap(-1, BLOCK_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))


class Part:
    """The bytes of one part, from the first to the last. `crc` is their CRC64NVME, None where nothing computes it."""

    def __init__(self, memory: Memory) -> None:
        self.size = 0
        self.crc: int | None = 0
        self._memory = memory
        self._blocks: list[memoryview] = []  # to give back
        self._pieces: list[Piece] = []
        self._small = bytearray()  # the last piece, while it may grow,
        self._open: memoryview | None = None  # or what is free of the last block
        self._copied_bytes = 0
        self._file: BufferedRandom | None = None
        self._file_bytes = 0

    @property
    def has_file(self) -> bool:
        return self._file is not None

    @property
    def pending_bytes(self) -> int:
        """Those that are not in the file yet, if there is one."""
        return self.size - self._file_bytes

    def add_spare(self, count: int) -> None:
        """`count` bytes are at the start of the spare block."""
        view = self._memory.spare[:count]
        self.size += count
        self.crc = crc64(view, self.crc)
        if count >= _LEAST_TAKEN_BYTES:
            self._seal()
            self._blocks.append(self._memory.take())
            self._pieces.append(view)
        else:
            self._copy(view)

    async def add(self, data: bytes) -> None:
        """Copied into blocks, which fit into each other's places; to the file where memory is short. Raises OSError."""
        for start in range(0, len(data), BLOCK_BYTES):
            piece = memoryview(data)[start : start + BLOCK_BYTES]
            self._memory.spare[: len(piece)] = piece
            self.add_spare(len(piece))
        if self._memory.is_short and self.pending_bytes >= BLOCK_BYTES:
            await self.spill()

    async def spill(self) -> None:
        """Move what is in memory to the file. Raises OSError."""
        self._seal()
        try:
            await self._write()
        except OSError:
            if not self._memory.relieve_files():
                raise
            await self._write()
        self._file_bytes = self.size
        self._give_back()

    async def rest(self) -> None:
        """Nothing will be added for a while: where memory is not ample, take little of it. Raises OSError."""
        is_large = self.pending_bytes >= BLOCK_BYTES and not self._memory.is_ample
        if is_large or (self.has_file and self.pending_bytes):
            await self.spill()

    def payload(self) -> Payload:
        """All the bytes, to be sent as often as one likes; nothing may be added meanwhile."""
        self._seal()
        if self._file is None:
            return Payload(self.size, self._pieces)
        return Payload(self.size, read=self._read)

    async def read(self) -> AsyncGenerator[Piece, None]:
        """All the bytes, in order; nothing may be added meanwhile."""
        self._seal()
        if self._file is not None:
            async for piece in self._read():
                yield piece
        else:
            for piece in self._pieces:
                yield piece

    def clear(self) -> None:
        """Be empty again."""
        self.release()
        self.size, self.crc, self._file_bytes = 0, 0, 0

    def release(self) -> None:
        """Nothing of it is needed any more. May be called twice."""
        self._give_back()
        if self._file is not None:
            self._file.close()
            self._file = None

    def _copy(self, view: memoryview) -> None:
        """To what there is of a few bytes; into a block, once they are worth one."""
        if self._open is None and len(self._small) + len(view) < _LEAST_COPIED_BYTES:
            self._small += view
            self._count_copied(len(view))
            return
        while view:
            if self._open is None:
                self._open_block()
            assert self._open is not None  # noqa: S101
            count = min(len(view), len(self._open))
            self._open[:count] = view[:count]
            self._open, view = self._open[count:], view[count:]
            if not self._open:
                self._seal()

    def _open_block(self) -> None:
        small, self._small = self._small, bytearray()
        self._count_copied(-len(small))
        block = self._memory.new()
        block[: len(small)] = small
        self._blocks.append(block)
        self._open = block[len(small) :]

    def _seal(self) -> None:
        if self._open is not None:
            self._pieces.append(self._blocks[-1][: BLOCK_BYTES - len(self._open)])
            self._open = None
        if self._small:
            self._pieces.append(self._small)
            self._small = bytearray()

    def _count_copied(self, count: int) -> None:
        self._copied_bytes += count
        self._memory.used_bytes += count

    def _give_back(self) -> None:
        self._memory.used_bytes -= self._copied_bytes
        self._copied_bytes = 0
        self._pieces = []
        self._small, self._open = bytearray(), None
        for block in self._blocks:
            self._memory.give_back(block)
        self._blocks = []

    async def _write(self) -> None:
        if self._file is None:
            self._file = await anyio.to_thread.run_sync(open_nameless, self._memory.folder)
        await anyio.to_thread.run_sync(_write, self._file.fileno(), self._pieces, self._file_bytes)

    async def _read(self) -> AsyncGenerator[Piece, None]:
        file, end, pieces = self._file, self._file_bytes, self._pieces
        assert file is not None  # noqa: S101  (a payload is of a part that is not released)
        start = 0
        while start < end:
            piece = memoryview(bytearray(min(_FILE_PIECE_BYTES, end - start)))
            count = _read_cached(file.fileno(), piece, start)
            if not count:
                count = await anyio.to_thread.run_sync(os.preadv, file.fileno(), [piece], start)
            if not count:
                raise OSError(f"a temporary file has {start} bytes instead of {end}")
            yield piece[:count]
            start += count
        for each in pieces:
            yield each


def _write(file: int, pieces: list[Piece], start: int) -> None:
    for piece in pieces:
        view = memoryview(piece)
        while view:
            count = os.pwrite(file, view, start)
            view, start = view[count:], start + count


def _read_cached(file: int, piece: memoryview, start: int) -> int:
    """How many bytes are there without waiting for the disk: a thread for each piece costs five times as much."""
    try:
        return os.preadv(file, [piece], start, os.RWF_NOWAIT)
    except (OSError, AttributeError):  # not now; or never, with this file system or on this platform
        return 0


def open_nameless(folder: str | None) -> BufferedRandom:
    """A file that is gone when it is closed, by a crash too. Raises OSError. Blocking."""
    return tempfile.TemporaryFile(dir=folder)
