"""The memory that bodies on their way to S3 may take in one process, and the bytes of one part in it.

Bytes arrive in a block that all uploads share; an upload has a block of its own only once it is half full, so idle
clients hold what they sent and no more. Where memory is short, a part goes on in a file without a name.
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncGenerator, Callable
from typing import IO

import anyio.to_thread

from tusd_py.stores.s3.crc import crc64
from tusd_py.stores.s3.wire import Payload, Piece

BLOCK_BYTES = 256 * 1024
"""Measured on the disk's way in: larger ones leave the second-level cache, smaller ones cost more calls."""

_LEAST_TAKEN_BYTES = BLOCK_BYTES // 2
_FILE_PIECE_BYTES = 1024 * 1024


class Memory:
    """What one process has. Used in its event loop only.

    `relieve(count)` is asked, where there is too little, to let go of that much of what is only kept to save calls.
    """

    def __init__(self, limit_bytes: int, folder: str | None = None) -> None:
        self.spare = memoryview(bytearray(BLOCK_BYTES))
        self.folder = folder
        self.used_bytes = 0
        self.relieve: Callable[[int], object] = lambda _count: None
        self._limit_bytes = limit_bytes
        self._free: list[memoryview] = []

    @property
    def is_short(self) -> bool:
        if self.used_bytes > self._limit_bytes:
            self.relieve(self.used_bytes - self._limit_bytes)
        return self.used_bytes > self._limit_bytes

    def take(self) -> memoryview:
        """The spare with what is in it."""
        self.used_bytes += BLOCK_BYTES
        taken, self.spare = self.spare, self._free.pop() if self._free else memoryview(bytearray(BLOCK_BYTES))
        return taken

    def give_back(self, block: memoryview) -> None:
        self.used_bytes -= BLOCK_BYTES
        if (len(self._free) + 1) * BLOCK_BYTES + self.used_bytes <= self._limit_bytes:
            self._free.append(block)


class Part:
    """The bytes of one part, from the first to the last. `crc` is their CRC64NVME, None where nothing computes it."""

    def __init__(self, memory: Memory) -> None:
        self.size = 0
        self.crc: int | None = 0
        self._memory = memory
        self._blocks: list[memoryview] = []  # to give back
        self._pieces: list[Piece] = []
        self._small = bytearray()  # the last piece, while it may grow
        self._copied_bytes = 0
        self._file: IO[bytes] | None = None
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
            return
        self._small += view
        self._count_copied(count)
        if len(self._small) >= BLOCK_BYTES:
            self._seal()

    async def add(self, data: bytes) -> None:
        """`data` as it is, without a copy; to the file where memory is short. Raises OSError."""
        self._seal()
        self.size += len(data)
        self.crc = crc64(data, self.crc)
        self._pieces.append(data)
        self._count_copied(len(data))
        if self._memory.is_short and self.pending_bytes >= BLOCK_BYTES:
            await self.spill()

    async def spill(self) -> None:
        """Move what is in memory to the file. Raises OSError."""
        self._seal()
        if self._file is None:
            self._file = await anyio.to_thread.run_sync(open_nameless, self._memory.folder)
        await anyio.to_thread.run_sync(self._file.writelines, self._pieces)
        self._file_bytes = self.size
        self._give_back()

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

    def _seal(self) -> None:
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
        self._small = bytearray()
        for block in self._blocks:
            self._memory.give_back(block)
        self._blocks = []

    async def _read(self) -> AsyncGenerator[Piece, None]:
        file, pieces = self._file, self._pieces
        assert file is not None  # noqa: S101  (a payload is of a part that is not released)
        await anyio.to_thread.run_sync(file.seek, 0)
        while piece := await anyio.to_thread.run_sync(file.read, _FILE_PIECE_BYTES):
            yield piece
        for each in pieces:
            yield each


def open_nameless(folder: str | None) -> IO[bytes]:
    """A file that is gone when it is closed, by a crash too. Raises OSError. Blocking."""
    return tempfile.TemporaryFile(dir=folder)
