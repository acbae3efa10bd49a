"""Tells the store of uploads about which nothing is owed any more, a few at a time, so that no job waits for it.

What is lost here with the process is found by the next sweep, which asks the queue again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from itertools import islice

from tusd_py.core.upload import UploadId
from tusd_py.errors import TusError
from tusd_py.logs import event

log = logging.getLogger("tusd_py.jobs")

SETTLED_AT_ONCE = 8


class Settler:
    """For one event loop. `settle` is the store's."""

    def __init__(self, settle: Callable[[UploadId], Awaitable[None]]) -> None:
        self._settle = settle
        self._waiting: dict[UploadId, None] = {}
        self._task: asyncio.Task[None] | None = None

    def add(self, upload_ids: Iterable[UploadId]) -> None:
        self._waiting.update(dict.fromkeys(upload_ids))
        if self._waiting and self._task is None:
            self._task = asyncio.create_task(self._work())

    async def aclose(self) -> None:
        """Wait until all that was added is settled."""
        while self._task is not None:
            await asyncio.wait([self._task])

    async def _work(self) -> None:
        try:
            while self._waiting:
                batch = list(islice(self._waiting, SETTLED_AT_ONCE))
                for upload_id in batch:
                    del self._waiting[upload_id]
                await asyncio.gather(*map(self._settle_one, batch))
        finally:
            self._task = None

    async def _settle_one(self, upload_id: UploadId) -> None:
        try:
            await self._settle(upload_id)
        except TusError as error:
            event(log, "NotSettled", level=logging.WARNING, id=upload_id, reason=error.message)
