"""Who waits for jobs, in one process, and what wakes them: news, or the time. Where jobs are kept is left to queues."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from tusd_py.core.jobs import Claim

Take = Callable[[], Awaitable[tuple[list[Claim], float]]]
"""Claims that can be had, and how many seconds from now the next job is due."""

_SHORTEST_SECONDS = 0.001
"""The clock of a queue and that of the loop may disagree about whether it is time yet."""


class Wakeups:
    """Belongs to one event loop."""

    def __init__(self) -> None:
        self._sleepers: set[asyncio.Event] = set()

    def wake(self) -> None:
        """There may be jobs that were not there before."""
        for sleeper in self._sleepers:
            sleeper.set()

    async def wait_for_some(
        self, take: Take, patience_seconds: float, look_seconds: float = float("inf")
    ) -> list[Claim]:
        """What `take` gives, as soon as it gives something; nothing when patience is over. It is asked again when
        woken, when it said that something is due, and after `look_seconds`, for what nobody tells of here."""
        loop = asyncio.get_running_loop()
        end = loop.time() + patience_seconds
        awake = asyncio.Event()
        self._sleepers.add(awake)
        try:
            while True:
                awake.clear()  # before looking: what comes meanwhile is seen in the next round
                claims, due_seconds = await take()
                left_seconds = end - loop.time()
                if claims or left_seconds <= 0:
                    return claims
                seconds = min(due_seconds, look_seconds, left_seconds)
                with suppress(TimeoutError):
                    async with asyncio.timeout(max(seconds, _SHORTEST_SECONDS)):
                        await awake.wait()
        finally:
            self._sleepers.discard(awake)
