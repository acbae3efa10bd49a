"""Bytes on their way into a file: gathered in pooled buffers, as many as there are, written at the committed offset
(failures F9), and brought to the disk while more arrive, so that little is left to wait for at the end.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

from tusd_py.stores.disk.descriptors import sync_data, write_all
from tusd_py.stores.disk.pace import Pace

BUFFER_BYTES = 256 * 1024
"""Measured: larger ones leave the second-level cache and are slower, smaller ones cost more calls."""

KEPT_BUFFERS = 32
"""How many stay for the next upload, since making one anew means page faults."""

SYNC_BYTES = 2 * 1024 * 1024
"""A sync starts in a thread each time this much is new; with 1 GiB in one PATCH it leaves 1 ms for the end, not 300.
Measured: 8 MiB would give a fifth less MiB/s."""

CHECKPOINT_SECONDS = 1.0
"""How often such a sync also commits the offset: a power cut in a long PATCH costs about this much."""


class BufferPool:
    """The buffers of one process, bounded however many uploads are under way. Used in the event loop only.

    `spare` is the one that the next bytes go into, whoever's they are: they stay there until the loop runs again.
    """

    def __init__(self, limit: int = 64) -> None:
        self.spare = memoryview(bytearray(BUFFER_BYTES))
        self._free: list[memoryview] = []
        self._limit = limit
        self._taken = 0

    def take(self) -> memoryview | None:
        """The spare with what is in it; None when so many are taken that there is none to replace it."""
        if self._taken >= self._limit:
            return None
        self._taken += 1
        taken, self.spare = self.spare, self._free.pop() if self._free else memoryview(bytearray(BUFFER_BYTES))
        return taken

    def copy(self, count: int) -> memoryview:
        """The first bytes of the spare, for whoever cannot do without."""
        self._taken += 1
        return memoryview(bytearray(self.spare[:count]))

    def give_back(self, buffer: memoryview) -> None:
        self._taken -= 1
        if len(buffer) == BUFFER_BYTES and len(self._free) < KEPT_BUFFERS:
            self._free.append(buffer)


class FileSink:
    """A `core.body.Sink` into the descriptor `file` from `offset` on. `written` counts bytes handed to the kernel.

    It has a buffer of its own only while bytes wait in it, and only if the pool has one: else they are written at once.
    With `checkpoint`, data is synced while it flows, and now and then `checkpoint(offset)` is called in a thread once
    the file is on the disk up to there. Call `flush` after the last byte, and `release` in any case.
    """

    __slots__ = (
        "_checkpoint",
        "_checkpoint_at",
        "_file",
        "_offset",
        "_own",
        "_pace",
        "_pool",
        "_sync",
        "_synced",
        "_used",
        "written",
    )

    def __init__(
        self, file: int, offset: int, pool: BufferPool, pace: Pace, checkpoint: Callable[[int], None] | None
    ) -> None:
        self.written = 0
        self._file = file
        self._offset = offset
        self._pool = pool
        self._pace = pace
        self._own: memoryview | None = None
        self._used = 0
        self._checkpoint = checkpoint
        self._checkpoint_at = time.monotonic() + CHECKPOINT_SECONDS if checkpoint else 0.0
        self._synced = 0
        self._sync: asyncio.Future[None] | None = None

    def buffer(self) -> memoryview:
        return self._pool.spare if self._own is None else self._own[self._used :]

    def filled(self, count: int) -> Awaitable[None] | None:
        self._used += count
        if self._own is None and self._used < BUFFER_BYTES:
            self._own = self._pool.take()
        if self._own is not None and self._used < BUFFER_BYTES:
            return None
        if self._pace.is_slow:
            self._own = self._own or self._pool.take() or self._pool.copy(self._used)
            return self._write_apart()
        self._pace.run_inline(self._write)
        self._let_go()
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
        self._let_go()

    def _let_go(self) -> None:
        if self._own is not None:
            self._pool.give_back(self._own)
            self._own = None

    async def _write_apart(self) -> None:
        await self._pace.run(self._write)
        self._let_go()
        self._sync_ahead()

    def _write(self) -> None:
        buffer = self._pool.spare if self._own is None else self._own
        count, self._used = self._used, 0
        write_all(self._file, buffer[:count], self._offset + self.written)
        self.written += count

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
