"""The Redis locker: `core.ports.Locker` over one Redis, put together from the modules beside it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tusd_py.core.upload import UploadId
from tusd_py.errors import BackendError, ConfigError
from tusd_py.lockers.holding import SharedLocker
from tusd_py.lockers.redis.address import parse
from tusd_py.lockers.redis.connection import COMMAND_SECONDS, Connection
from tusd_py.lockers.redis.lease import Leases
from tusd_py.lockers.redis.notes import Notes
from tusd_py.lockers.redis.relay import RedisRelay
from tusd_py.lockers.redis.requests import Follow, Requests
from tusd_py.lockers.turns import Turns

_START_KEY_MS = 1000


class RedisLocker(SharedLocker):
    """A `core.ports.Locker` for all processes that share the Redis at `url` and `prefix`; for one event loop.

    The holder finds its fence in `Turn.fence`; one that lost the lease is asked to let go NOW, and `Turn.is_lost` says
    so.
    """

    def __init__(
        self, url: str, prefix: str = "tusd-py:", timeout_seconds: float = 20.0, lease_seconds: float = 10.0
    ) -> None:
        if not prefix or any(sign in prefix for sign in "{} "):
            raise ConfigError(f"the Redis prefix {prefix!r} is wrong: it needs a sign, and none of '{{', '}}' and ' '")
        if lease_seconds < 1:
            raise ConfigError(f"the lease of {lease_seconds:g} s is too short: at least 1 s")
        self._fleet = _Fleet(Connection(parse(url)), prefix, timeout_seconds, lease_seconds)
        super().__init__(self._fleet.turns)

    async def start(self) -> None:
        """Be reachable for the other processes. Raises BackendError when Redis cannot be used."""
        try:
            await self._fleet.start()
        except BackendError:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """Let go of everything that is held, and tell those who wait."""
        await self._fleet.aclose()

    def fence(self, upload_id: UploadId) -> int | None:
        """Of the lock that this process holds; None: it does not."""
        lease = self._fleet.leases.held.get(upload_id)
        return lease.fence if lease is not None else None

    async def is_held(self, upload_id: UploadId) -> bool:
        """Whether Redis, asked now, has given the lock to nobody else since. Raises BackendError."""
        return await self._fleet.leases.is_held(upload_id)

    @property
    def relay(self) -> RedisRelay:
        """How its processes tell each other what happens to uploads."""
        return self._fleet.relay

    def leave_note(self, upload_id: UploadId, text: str) -> None:
        """Of what this process, which holds the lock, leaves behind; not waited for."""
        self._fleet.notes.leave(upload_id, text)

    async def note(self, upload_id: UploadId) -> str | None:
        """What the last holder left, if nobody has had the lock since, and it was lately. Never raises."""
        return await self._fleet.notes.find(upload_id)


class _Fleet:
    """All processes that share the prefix, seen from this one: a `turns.Beyond`."""

    def __init__(self, connection: Connection, prefix: str, timeout_seconds: float, lease_seconds: float) -> None:
        self.turns = Turns(timeout_seconds, self)
        self.connection = connection
        self.leases = Leases(connection, prefix, lease_seconds, self.turns.lose)
        self.requests = Requests(connection, self.leases, self.turns)
        self.notes = Notes(connection, self.leases, self.requests)
        self.relay = RedisRelay(connection, self.leases, self.requests)

    async def start(self) -> None:
        self.requests.open()
        key = f"{self.leases.prefix}start:{self.leases.process}"
        await self.connection.call("SET", key, 1, "PX", _START_KEY_MS)  # can be reached, and written to
        try:
            async with asyncio.timeout(2 * COMMAND_SECONDS):
                await self.requests.is_listening.wait()
        except TimeoutError as error:
            raise self.connection.failure(error) from error

    async def aclose(self) -> None:
        await self.connection.flush()  # what was claimed until now is known
        self.leases.close()
        await self.relay.aclose()
        await self.requests.aclose()
        await self.connection.aclose()

    # turns.Beyond

    def claim(self, upload_id: UploadId) -> asyncio.Future[int | None]:
        self.requests.open()  # whoever has a lock can be asked for it
        return self.leases.claim(upload_id)

    def keep(self, upload_id: UploadId) -> asyncio.Future[int | None]:
        return self.leases.claim(upload_id)  # each holder has a fence of its own

    async def is_taken(self, upload_id: UploadId) -> bool:
        holder = await self.connection.call("GET", self.leases.lock_key(upload_id))
        return holder is not None and not self.leases.is_ours(holder)

    def follow(self, upload_id: UploadId, ended: Callable[[], None]) -> Follow:
        self.requests.open()
        return Follow(self.requests, upload_id, ended)

    def let_go(self, upload_id: UploadId) -> None:
        self.leases.let_go(upload_id)
