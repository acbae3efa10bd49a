"""The `core.feed.Relay` of all processes that share a Redis: one channel, on which is said what happens to uploads.

Nothing is said there unless somebody listens: who does tells everybody so, now and then, on the locks' channel.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tusd_py.core.upload import UploadId
from tusd_py.lockers.redis.connection import Connection
from tusd_py.lockers.redis.lease import Leases
from tusd_py.lockers.redis.requests import Requests
from tusd_py.lockers.redis.subscription import Subscription

REMIND_SECONDS = 4.0
_FORGET_SECONDS = 3 * REMIND_SECONDS


class RedisRelay:
    """By way of the locker's Redis; opened by the locker."""

    def __init__(self, connection: Connection, leases: Leases, requests: Requests) -> None:
        self._connection = connection
        self._leases = leases
        self._requests = requests
        self._channel = f"{leases.prefix}news"
        self._heard_of: dict[str, float] = {}  # when those that listen last said so
        self._subscription: Subscription | None = None
        self._reminding: asyncio.TimerHandle | None = None
        self._closing: set[asyncio.Task[None]] = set()
        requests.listeners = self._listens

    async def aclose(self) -> None:
        self.leave()
        if self._closing:
            await asyncio.wait(self._closing)

    # core.feed.Relay

    @property
    def has_listeners(self) -> bool:
        if not self._heard_of:
            return False
        oldest = asyncio.get_running_loop().time() - _FORGET_SECONDS
        self._heard_of = {process: at for process, at in self._heard_of.items() if at > oldest}
        return bool(self._heard_of)

    def send(self, upload_id: UploadId, message: bytes) -> None:
        line = f"{self._leases.process} {message.decode('ascii')}"
        self._requests.publish(self._channel, line, upload_id)

    def listen(self, heard: Callable[[bytes], None], missed: Callable[[], None]) -> None:
        def received(line: str) -> None:
            process, _, message = line.partition(" ")
            if process != self._leases.process:  # our own are known
                heard(message.encode())

        def began() -> None:
            self._remind()
            missed()

        self.leave()
        self._requests.open()
        self._subscription = Subscription(
            self._connection, (self._channel,), began=began, received=received, ended=missed
        )
        self._subscription.open()

    def leave(self) -> None:
        if self._reminding is not None:
            self._reminding.cancel()
            self._reminding = None
        if self._subscription is not None:
            closing = asyncio.get_running_loop().create_task(self._subscription.aclose())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
            self._subscription = None

    # Steps.

    def _listens(self, process: str) -> None:
        if process != self._leases.process:
            self._heard_of[process] = asyncio.get_running_loop().time()

    def _remind(self) -> None:
        if self._reminding is not None:
            self._reminding.cancel()
        self._reminding = asyncio.get_running_loop().call_later(REMIND_SECONDS, self._remind)
        self._requests.tell_everybody(f"listening {self._leases.process}")
