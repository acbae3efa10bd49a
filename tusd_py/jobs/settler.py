"""Tells the store of uploads about which nothing is owed any more, some at a time.

What is lost here with the process is found by the next sweep, which asks the queue the same question.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from tusd_py.core.jobs import Queue
from tusd_py.core.upload import UploadId
from tusd_py.errors import TusError
from tusd_py.logs import event

log = logging.getLogger("tusd_py.jobs")

MOST_AT_ONCE = 500
SETTLED_AT_ONCE = 8


class Settler:
    """For one event loop. `settle` is the store's; uploads may be added again and again."""

    def __init__(self, queue: Queue, settle: Callable[[UploadId], Awaitable[None]]) -> None:
        self._queue = queue
        self._settle = settle
        self._added: dict[UploadId, None] = {}
        self._task: asyncio.Task[None] | None = None

    def add(self, upload_id: UploadId) -> None:
        """A job about this upload is over."""
        self._added[upload_id] = None
        if self._task is None:
            self._task = asyncio.create_task(self._work())

    async def aclose(self) -> None:
        """Wait until all that was added is settled."""
        while self._task is not None:
            await asyncio.wait([self._task])

    async def _work(self) -> None:
        try:
            while self._added:
                batch = list(self._added)[:MOST_AT_ONCE]
                for upload_id in batch:
                    del self._added[upload_id]
                await self._settle_all(batch)
        finally:
            self._task = None

    async def _settle_all(self, batch: list[UploadId]) -> None:
        try:
            owing = await self._queue.owing(batch)
            settled = [each for each in batch if each not in owing]
            for start in range(0, len(settled), SETTLED_AT_ONCE):
                await asyncio.gather(*(self._settle(each) for each in settled[start : start + SETTLED_AT_ONCE]))
        except TusError as error:
            event(log, "NotSettled", level=logging.WARNING, uploads=len(batch), reason=error.message)
