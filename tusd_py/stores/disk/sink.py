"""Bytes on their way into a file: gathered in pooled buffers, written at the committed offset (failures F9), and
brought to the disk while more arrive, so that little is left to wait for at the end.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

from tusd_py.stores.disk.files import sync_data, write_all
from tusd_py.stores.disk.pace import Pace

BUFFER_BYTES = 256 * 1024
"""Measured: larger ones leave the second-level cache and are slower, smaller ones cost more calls."""

SYNC_BYTES = 8 * 1024 * 1024
"""A sync starts in a thread each time this much is new; with 1 GiB in one PATCH it leaves 3 ms for the end, not 300."""

CHECKPOINT_SECONDS = 1.0
"""How often such a sync also commits the offset: a power cut in a long PATCH costs about this much."""


class BufferPool:
    """Spare buffers, since making one anew for each request means page faults. Keeps up to `keep` of them."""

    def __init__(self, keep: int = 64) -> None:
        self._spare: list[bytearray] = []
        self._keep = keep

    def take(self) -> bytearray:
        return self._spare.pop() if self._spare else bytearray(BUFFER_BYTES)

    def give_back(self, buffer: bytearray) -> None:
        if len(self._spare) < self._keep:
            self._spare.append(buffer)


class FileSink:
    """A `core.body.Sink` into the descriptor `file` from `offset` on. `written` counts bytes handed to the kernel.

    With `checkpoint`, data is synced while it flows, and now and then `checkpoint(offset)` is called in a thread once
    the file is on the disk up to there. Call `flush` after the last byte, and `release` in any case.
    """

    def __init__(
        self, file: int, offset: int, pool: BufferPool, pace: Pace, checkpoint: Callable[[int], None] | None
    ) -> None:
        self.written = 0
        self._file = file
        self._offset = offset
        self._pool = pool
        self._pace = pace
        self._buffer: bytearray | None = None  # taken for the first byte: an idle client costs no memory
        self._view = memoryview(b"")
        self._used = 0
        self._checkpoint = checkpoint
        self._synced = 0
        self._sync: asyncio.Future[None] | None = None
        self._checkpoint_at = time.monotonic() + CHECKPOINT_SECONDS

    def buffer(self) -> memoryview:
        if self._buffer is None:
            self._buffer = self._pool.take()
            self._view = memoryview(self._buffer)
        return self._view[self._used :]

    def filled(self, count: int) -> Awaitable[None] | None:
        self._used += count
        if self._used < BUFFER_BYTES:
            return None
        if self._pace.is_slow:
            return self._write_in_thread()
        self._pace.run_inline(self._write)
        self._sync_ahead()
        return None

    async def flush(self) -> None:
        """Write what is gathered and wait for the sync under way."""
        if self._used:
            await self._pace.run(self._write)
        if self._sync is not None:
            sync, self._sync = self._sync, None
            await self._pace.wait(sync)

    async def release(self) -> None:
        """Let go of thread and buffer, after a failure or a cancellation too. May be called twice."""
        sync, self._sync = self._sync, None
        if sync is not None:
            with suppress(OSError):  # the append has failed already
                await self._pace.wait(sync)
        if self._buffer is not None:
            self._view.release()
            self._pool.give_back(self._buffer)
            self._buffer = None

    async def _write_in_thread(self) -> None:
        await self._pace.run_in_thread(self._write)
        self._sync_ahead()

    def _write(self) -> None:
        write_all(self._file, self._view[: self._used], self._offset + self.written)
        self.written += self._used
        self._used = 0

    def _sync_ahead(self) -> None:
        """Start bringing to the disk what is new, unless a sync is still under way."""
        if self._checkpoint is None or self.written - self._synced < SYNC_BYTES:
            return
        if self._sync is not None:
            if not self._sync.done():
                return
            self._sync.result()  # a failed sync is told once by the kernel, so it is never passed over
        self._synced = self.written
        now = time.monotonic()
        is_due = now >= self._checkpoint_at
        if is_due:
            self._checkpoint_at = now + CHECKPOINT_SECONDS
        self._sync = self._pace.start(partial(self._bring_to_disk, self._offset + self.written if is_due else None))

    def _bring_to_disk(self, commit_offset: int | None) -> None:
        sync_data(self._file)
        if commit_offset is not None and self._checkpoint is not None:
            self._checkpoint(commit_offset)
