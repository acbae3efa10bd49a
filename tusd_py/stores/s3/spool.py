"""A copy of a body whose checksum comes after it, without an announcement of the algorithm: parts that S3 has taken
cannot be read again before the upload is complete. A `core.body.Sink` before another one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from io import BufferedRandom

import anyio.to_thread

from tusd_py.core.body import Sink
from tusd_py.stores.s3.memory import open_nameless

_IN_MEMORY_BYTES = 256 * 1024
_PIECE_BYTES = 1024 * 1024


class Spool:
    """In memory as long as it is short, then in a file without a name in `folder`."""

    def __init__(self, sink: Sink, folder: str | None) -> None:
        self._sink = sink
        self._folder = folder
        self._window = memoryview(b"")
        self._latest = bytearray()
        self._file: BufferedRandom | None = None

    def buffer(self) -> memoryview:
        self._window = self._sink.buffer()
        return self._window

    def filled(self, count: int) -> Awaitable[None] | None:
        self._latest += self._window[:count]
        pause = self._sink.filled(count)
        return self._write(pause) if len(self._latest) >= _IN_MEMORY_BYTES else pause

    async def read_back(self) -> AsyncIterator[bytes]:
        if self._file is not None:
            await anyio.to_thread.run_sync(self._file.seek, 0)
            while piece := await anyio.to_thread.run_sync(self._file.read, _PIECE_BYTES):
                yield piece
        yield bytes(self._latest)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    async def _write(self, pause: Awaitable[None] | None) -> None:
        if self._file is None:
            self._file = await anyio.to_thread.run_sync(open_nameless, self._folder)
        latest, self._latest = self._latest, bytearray()
        await anyio.to_thread.run_sync(self._file.write, latest)
        if pause is not None:
            await pause
