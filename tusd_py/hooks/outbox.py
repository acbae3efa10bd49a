"""Jobs on their way into the queue, for those whose requests do not wait for it.

Stores can tell of them again (`Hooks.remind`), so what is lost here with the process is only late. While the queue
cannot be used they wait here, as many as there is room for.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence

import anyio

from tusd_py.core.jobs import Job, Queue
from tusd_py.core.upload import UploadId
from tusd_py.errors import BackendError
from tusd_py.logs import event

log = logging.getLogger("tusd_py.hooks")

MOST_WAITING = 20_000
MOST_AT_ONCE = 1_000
_GATHER_SECONDS = 0.005
"""Nobody waits for them, and together they cost less."""
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 10.0


class Outbox:
    """For one event loop. Keeps the order in which jobs are added."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._waiting: deque[Job] = deque()
        self._putting = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._is_full = False
        self._moved = asyncio.Event()  # set, and another one made, when something left `_waiting`

    def add(self, jobs: Sequence[Job]) -> bool:
        """All of them, which are about one upload, or none: then there is no room."""
        if len(self._waiting) + len(jobs) > MOST_WAITING:
            if not self._is_full:
                event(
                    log, "HooksPutOff", level=logging.WARNING, advice="the next sweep tells them what is left out now"
                )
            self._is_full = True
            return False
        self._waiting.extend(jobs)
        if self._task is None:
            self._task = asyncio.create_task(self._send())
        return True

    async def drop(self, upload_id: UploadId) -> None:
        """Forget what is still here about an upload; what was here is in the queue by then."""
        kept = [job for job in self._waiting if job.upload_id != upload_id]
        if len(kept) != len(self._waiting):
            self._waiting = deque(kept)
            self._tell_moved()
            async with self._putting:
                pass

    async def sent(self) -> None:
        """Wait until what is here now is in the queue; not for what comes meanwhile, which may have no end."""
        last = self._waiting[-1] if self._waiting else None
        while self._task is not None and any(job is last for job in self._waiting):
            await self._moved.wait()

    async def aclose(self, within_seconds: float = 2.0) -> None:
        with anyio.move_on_after(within_seconds):
            while self._task is not None:
                await asyncio.wait([self._task])
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _send(self) -> None:
        pause_seconds = _FIRST_PAUSE_SECONDS
        try:
            while self._waiting:
                batch = self._batch()
                try:
                    async with self._putting:
                        await self._queue.put(batch)
                except BackendError as error:
                    event(log, "QueueFailed", level=logging.ERROR, waiting=len(self._waiting), reason=error.message)
                    await asyncio.sleep(pause_seconds)
                    pause_seconds = min(2 * pause_seconds, _LONGEST_PAUSE_SECONDS)
                    continue
                pause_seconds, self._is_full = _FIRST_PAUSE_SECONDS, False
                self._forget(batch)
                if self._waiting:
                    await asyncio.sleep(_GATHER_SECONDS)
        finally:
            self._task = None
            self._tell_moved()

    def _batch(self) -> list[Job]:
        """The next, with all that is about the last of their uploads: one that is in the queue in part looks done as
        soon as that part is."""
        batch: list[Job] = []
        for job in self._waiting:
            if len(batch) >= MOST_AT_ONCE and job.upload_id != batch[-1].upload_id:
                break
            batch.append(job)
        return batch

    def _forget(self, batch: Sequence[Job]) -> None:
        """Of those that were put, some may have been dropped meanwhile."""
        put = {job.key for job in batch}
        while self._waiting and self._waiting[0].key in put:
            self._waiting.popleft()
        self._tell_moved()

    def _tell_moved(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()
