"""How many parts one process sends at once, whosever they are, so that those of one upload do not crowd out others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

STANDING_SECONDS = 5.0
"""A part that takes longer stands, or nearly so: it counts no more, and whoever waits goes on (failures F25). What
memory there is bounds how many of them there can be."""


class Slots:
    """Used in one event loop."""

    def __init__(self, count: int) -> None:
        self._free = asyncio.Semaphore(count)

    @asynccontextmanager
    async def one(self) -> AsyncGenerator[None, None]:
        """While a part is being sent."""
        await self._free.acquire()
        held = _Held(self._free)
        timer = asyncio.get_running_loop().call_later(STANDING_SECONDS, held.give_back)
        try:
            yield
        finally:
            timer.cancel()
            held.give_back()


class _Held:
    def __init__(self, free: asyncio.Semaphore) -> None:
        self._free: asyncio.Semaphore | None = free

    def give_back(self) -> None:
        """Once, however often it is called."""
        if self._free is not None:
            self._free.release()
            self._free = None
