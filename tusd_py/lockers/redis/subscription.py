"""Being told by Redis what is said on channels, for as long as one wants to: a subscription that is made again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

from tusd_py.lockers.redis.connection import COMMAND_SECONDS, Connection

_SILENCE_SECONDS = 5.0  # after which one asks whether the subscription is still alive
_SHORTEST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 5.0
_AGAIN_SECONDS = 0.5


class Subscription:
    """`began` is called each time when all channels are subscribed to, `received` with what is said, `ended` when the
    subscription is lost, or could not be had."""

    def __init__(
        self,
        connection: Connection,
        channels: tuple[str, ...],
        *,
        began: Callable[[], None],
        received: Callable[[str], None],
        ended: Callable[[], None],
    ) -> None:
        self._connection = connection
        self._channels = channels
        self._began = began
        self._received = received
        self._ended = ended
        self._is_on = False
        self._listening: asyncio.Task[None] | None = None

    def open(self) -> None:
        if self._listening is None:
            self._listening = asyncio.get_running_loop().create_task(self._listen())

    async def aclose(self) -> None:
        listening, self._listening = self._listening, None
        while listening is not None and not listening.done():
            listening.cancel()
            # redis-py may lose this while it meets a Cluster (`asyncio.wait_for` before Python 3.12): then once more.
            await asyncio.wait([listening], timeout=_AGAIN_SECONDS)

    async def _listen(self) -> None:
        pause_seconds = _SHORTEST_PAUSE_SECONDS
        while True:
            self._is_on = False
            try:
                await self._listen_once()
            except Exception as error:  # of redis-py, of the network; it goes on whatever it was
                self._connection.failure(error)
            if self._is_on:
                pause_seconds = _SHORTEST_PAUSE_SECONDS
            self._ended()
            await asyncio.sleep(pause_seconds * random.uniform(0.5, 1))  # noqa: S311
            pause_seconds = min(2 * pause_seconds, _LONGEST_PAUSE_SECONDS)

    async def _listen_once(self) -> None:
        """Until it fails."""
        async with asyncio.timeout(2 * COMMAND_SECONDS):
            client = await self._connection.address.listener(self._connection.client)
        subscription = client.pubsub()
        try:
            async with asyncio.timeout(2 * COMMAND_SECONDS):
                await subscription.subscribe(*self._channels)
            is_silent = False
            while True:
                message = await subscription.get_message(timeout=_SILENCE_SECONDS)
                if message is not None:
                    is_silent = False
                    self._understood(message)
                elif is_silent:
                    raise TimeoutError("the subscription is silent")
                else:
                    is_silent = True
                    await subscription.ping()
        finally:
            await subscription.aclose()  # type: ignore[no-untyped-call]
            if client is not self._connection.client:
                await client.aclose()

    def _understood(self, message: dict[str, Any]) -> None:
        if message["type"] == "subscribe" and message["data"] == len(self._channels):
            self._is_on = True
            self._began()
        elif message["type"] == "message":
            self._received(str(message["data"]))
