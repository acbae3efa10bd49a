"""Hears from Redis that there may be jobs which were not there before, by whichever process: nobody has to look.

News are a short stream, not a channel, so that none are lost between two readings. Every few seconds, and with each
new connection, it is also seen whether this is still the Redis and the queue that it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tusd_py.jobs import backoff
from tusd_py.jobs.redis.connection import Connection, Known, Place
from tusd_py.jobs.redis.failures import Failures

_READ_SECONDS = 5.0
_ANSWER_SECONDS = 2.0


class News:
    """`heard` is called when there are any, and when some may have been missed."""

    def __init__(self, place: Place, known: Known, failures: Failures, heard: Callable[[], None]) -> None:
        self._connection = Connection(place, known)
        self._known = known
        self._failures = failures
        self._heard = heard
        self._outage = backoff.Outage()
        self._listening: asyncio.Task[None] | None = None

    def open(self) -> None:
        """May be called twice."""
        if self._listening is None:
            self._listening = asyncio.get_running_loop().create_task(self._listen())

    async def aclose(self) -> None:
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.wait([self._listening])

    async def _listen(self) -> None:
        while True:
            try:
                await self._listen_once()
            except Exception as error:  # of redis-py, of the network; it goes on whatever it was
                self._failures.tell(error)
                await asyncio.sleep(self._outage.next_seconds())
            finally:
                await self._connection.drop()

    async def _listen_once(self) -> None:
        """Until it fails, or the queue is another one."""
        async with asyncio.timeout(_ANSWER_SECONDS):
            await self._connection.open()
        self._outage = backoff.Outage()
        epoch, start = self._known.epoch, self._known.start
        last: bytes | str = "0"  # what is there may have come since we looked
        while epoch == self._known.epoch:
            async with asyncio.timeout(_READ_SECONDS + _ANSWER_SECONDS):
                read = ("XREAD", "BLOCK", int(_READ_SECONDS * 1000), "STREAMS", f"{start}news", last)
                answers = await self._connection.ask([read, ("GET", f"{start}epoch")])
            for answer in answers:
                if isinstance(answer, Exception):
                    raise answer
            news, found = answers
            if news:
                last = news[0][1][-1][0]
                self._heard()
            if found != epoch.encode():
                return
