"""What the holder of a lock leaves in Redis for those who only ask, so that they need not look where uploads are kept.

A note is gone as soon as somebody takes the lock (see `lease.CLAIM`), and after ten seconds. Only a Redis that lost
what it was told last could still have one that is not true any more, as after a failover; then our subscription was
lost, too, and for as long as a note lives none is believed.
"""

from __future__ import annotations

import asyncio

from tusd_py.core.upload import UploadId
from tusd_py.errors import BackendError
from tusd_py.lockers.redis.connection import Connection
from tusd_py.lockers.redis.lease import Leases
from tusd_py.lockers.redis.requests import Requests

NOTE_SECONDS = 10.0
_MOST_CHARACTERS = 16 * 1024

# KEYS lock, note. ARGV holder, text, ms.
_LEAVE = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3]) end"


class Notes:
    """Those of all processes, seen from this one."""

    def __init__(self, connection: Connection, leases: Leases, requests: Requests) -> None:
        self._connection = connection
        self._leases = leases
        self._requests = requests

    def leave(self, upload_id: UploadId, text: str) -> None:
        """Not waited for, and not at all unless this process holds the lock, and the text is short."""
        lease = self._leases.held.get(upload_id)
        if lease is None or len(text) > _MOST_CHARACTERS:
            return
        keys = self._leases.lock_key(upload_id), self._leases.note_key(upload_id)
        self._connection.tell("EVAL", _LEAVE, 2, *keys, lease.holder, text, int(NOTE_SECONDS * 1000))

    async def find(self, upload_id: UploadId) -> str | None:
        """What the last holder left. None: nothing, or somebody has the lock, or it is not to be believed."""
        if not self._is_believable():
            return None
        try:
            found: str | None = await self._connection.call("GET", self._leases.note_key(upload_id))
        except BackendError:
            return None
        return found if self._is_believable() else None

    def _is_believable(self) -> bool:
        """Whether the subscription is older than any note that there may be."""
        since = self._requests.listening_since
        return since is not None and asyncio.get_running_loop().time() >= since + NOTE_SECONDS
