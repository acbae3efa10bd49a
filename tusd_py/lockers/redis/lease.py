"""What this process holds in Redis: a lease for each upload, renewed while it is held, and the fence that came with it.

A lock is the key `<prefix>lock:{id}` with the holder `<process>:<number>`; numbers grow, so a command that arrives late
can be told from the present holder's. `<prefix>fence:{id}` outlives it. Whether a lease is over is judged by our own
clock, from before it was asked for: Redis may be gone. Leaves to `turns` who holds it here.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from functools import partial
from typing import Any

from tusd_py.core.upload import UploadId
from tusd_py.lockers.redis.connection import Command, Connection
from tusd_py.logs import event

log = logging.getLogger("tusd_py.locks")

_FENCE_SECONDS = 7 * 86400
_MARGIN = 0.1  # of the lease: ours is over that much earlier than Redis'
_SHORTEST_PAUSE_SECONDS = 0.1

# KEYS lock, fence, note. ARGV process, number, lease and fence in ms. The fence, or nil and nothing changed.
# A lock with our process in it is one that was let go and did not hear of it, or is passed on to the next one here;
# but a claim that comes late must not take it from a later one. The clock, in microseconds, keeps fences growing when
# Redis lost them: nobody claims so often that they run ahead of it.
CLAIM = """
local holder = redis.call('GET', KEYS[1])
if holder then
  local process, number = string.match(holder, '^(.*):(%d+)$')
  if process ~= ARGV[1] or tonumber(number) > tonumber(ARGV[2]) then return nil end
end
local time = redis.call('TIME')
local fence = math.max((tonumber(redis.call('GET', KEYS[2])) or 0) + 1, time[1] * 1000000 + time[2])
redis.call('SET', KEYS[2], string.format('%.0f', fence), 'PX', ARGV[4])
redis.call('SET', KEYS[1], ARGV[1] .. ':' .. ARGV[2], 'PX', ARGV[3])
redis.call('DEL', KEYS[3])
return fence
"""

# KEYS lock, fence. ARGV holder, its fence, lease and fence in ms. 1: still ours.
# A lock that is gone was lost by Redis; it is taken again if nobody else had it since.
RENEW = """
local holder = redis.call('GET', KEYS[1])
if holder == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[3]) end
if holder or (tonumber(redis.call('GET', KEYS[2])) or 0) > tonumber(ARGV[2]) then return 0 end
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[4])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
return 1
"""

# KEYS lock. ARGV holder.
RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


class Lease:
    __slots__ = ("ends_at", "fence", "holder")

    def __init__(self, holder: str, fence: int, ends_at: float) -> None:
        self.holder = holder
        self.fence = fence
        self.ends_at = ends_at


class Leases:
    """The leases of one process. `lost` is called once for each that ended without having been let go."""

    def __init__(
        self, connection: Connection, prefix: str, lease_seconds: float, lost: Callable[[UploadId], None]
    ) -> None:
        self.process = secrets.token_hex(8)
        self.prefix = prefix
        self.lease_seconds = lease_seconds
        self.held: dict[UploadId, Lease] = {}
        self._connection = connection
        self._lost = lost
        self._number = 0
        self._pause_seconds = _SHORTEST_PAUSE_SECONDS
        self._renewal: asyncio.TimerHandle | None = None
        self._watch: asyncio.TimerHandle | None = None

    def lock_key(self, upload_id: str) -> str:
        return f"{self.prefix}lock:{{{upload_id}}}"

    def note_key(self, upload_id: str) -> str:
        return f"{self.prefix}note:{{{upload_id}}}"

    def is_ours(self, holder: str) -> bool:
        return process_of(holder) == self.process

    def claim(self, upload_id: UploadId) -> asyncio.Future[int | None]:
        """The contract is `turns.Beyond`'s, also for one that is held here and passed on."""
        self.held.pop(upload_id, None)
        self._number += 1
        holder = f"{self.process}:{self._number}"
        ends_at = self._end_of_lease()
        return self._connection.call(
            *("EVAL", CLAIM, 3, *self._keys(upload_id), self.note_key(upload_id)),
            *(self.process, self._number, *self._times()),
            convert=partial(self._claimed, upload_id, holder, ends_at),
        )

    async def is_held(self, upload_id: UploadId) -> bool:
        """As Redis has it now; renews it."""
        lease = self.held.get(upload_id)
        if lease is None:
            return False
        ends_at = self._end_of_lease()
        await self._connection.call(
            *self._renewal_of(upload_id, lease), convert=partial(self._renewed, upload_id, lease, ends_at)
        )
        return self.held.get(upload_id) is lease

    def let_go(self, upload_id: UploadId) -> None:
        """Not waited for; what this process says later is heard later. If it is not heard, the lease ends by itself."""
        lease = self.held.pop(upload_id, None)
        if lease is not None:
            self.release(upload_id, lease.holder)

    def release(self, upload_id: str, holder: str) -> None:
        self._connection.tell("EVAL", RELEASE, 1, self.lock_key(upload_id), holder)

    def close(self) -> None:
        """Let go of everything. May be called twice."""
        for upload_id in list(self.held):
            self.let_go(upload_id)
        for timer in (self._renewal, self._watch):
            if timer is not None:
                timer.cancel()
        self._renewal = self._watch = None

    def _keys(self, upload_id: UploadId) -> tuple[str, str]:
        return self.lock_key(upload_id), f"{self.prefix}fence:{{{upload_id}}}"

    def _times(self) -> tuple[int, int]:
        return int(self.lease_seconds * 1000), _FENCE_SECONDS * 1000

    def _end_of_lease(self) -> float:
        return asyncio.get_running_loop().time() + self.lease_seconds * (1 - _MARGIN)

    def _claimed(self, upload_id: UploadId, holder: str, ends_at: float, fence: int | None) -> int | None:
        if fence is not None:
            self.held[upload_id] = Lease(holder, fence, ends_at)
            loop = asyncio.get_running_loop()
            if self._renewal is None:
                self._renewal = loop.call_later(self.lease_seconds / 3, self._renew)
            if self._watch is None:
                self._watch = loop.call_at(ends_at, self._look)
        return fence

    # Renewing.

    def _renew(self) -> None:
        """All of them at once, as long as there are any."""
        self._renewal = None
        if not self.held:
            return
        ends_at = self._end_of_lease()
        for upload_id, lease in self.held.items():
            self._connection.call(
                *self._renewal_of(upload_id, lease),
                convert=partial(self._renewed, upload_id, lease, ends_at),
            ).add_done_callback(self._heard)
        self._renewal = asyncio.get_running_loop().call_later(self.lease_seconds / 3, self._renew)

    def _renewal_of(self, upload_id: UploadId, lease: Lease) -> Command:
        return ("EVAL", RENEW, 2, *self._keys(upload_id), lease.holder, lease.fence, *self._times())

    def _renewed(self, upload_id: UploadId, lease: Lease, ends_at: float, is_ours: int) -> None:
        if is_ours:
            lease.ends_at = ends_at
        elif self.held.get(upload_id) is lease:
            self._lose([upload_id], "another process has it")

    def _heard(self, answered: asyncio.Future[Any]) -> None:
        """After a failure again soon, but less and less so."""
        if answered.exception() is None:
            self._pause_seconds = _SHORTEST_PAUSE_SECONDS
        elif self._renewal is not None:
            loop = asyncio.get_running_loop()
            if self._renewal.when() > loop.time() + self._pause_seconds:
                self._renewal.cancel()
                self._renewal = loop.call_later(self._pause_seconds, self._renew)
                self._pause_seconds = min(2 * self._pause_seconds, self.lease_seconds / 6)

    def _look(self) -> None:
        """Whoever could not be renewed in time is lost, whatever Redis would say."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        late = [upload_id for upload_id, lease in self.held.items() if lease.ends_at <= now]
        if late:
            self._lose(late, "not renewed in time")
        ends = [lease.ends_at for lease in self.held.values()]
        self._watch = loop.call_at(min(ends), self._look) if ends else None

    def _lose(self, upload_ids: list[UploadId], reason: str) -> None:
        event(log, "LocksLost", level=logging.WARNING, count=len(upload_ids), first=upload_ids[0], reason=reason)
        for upload_id in upload_ids:
            self.release(upload_id, self.held.pop(upload_id).holder)
            self._lost(upload_id)


def process_of(holder: str) -> str:
    return holder.rpartition(":")[0]
