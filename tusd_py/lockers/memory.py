"""Locks for one process: a dictionary of what is held, and nothing else. All the work is done by `turns`."""

from __future__ import annotations

from tusd_py.core.body import Wish
from tusd_py.core.ports import ReleaseRequested
from tusd_py.core.upload import UploadId
from tusd_py.lockers.turns import Turn, Turns


class MemoryLocker:
    """A `core.ports.Locker` for one event loop. Two processes with one store need another locker (failures F21)."""

    def __init__(self, timeout_seconds: float = 20.0) -> None:
        self._turns = Turns(timeout_seconds)

    def hold(
        self, upload_id: UploadId, release_requested: ReleaseRequested, *, wish: Wish | None = Wish.WHEN_STALLED
    ) -> Turn:
        return Turn(self._turns, upload_id, release_requested, wish)

    async def settle(self, upload_id: UploadId) -> bool:
        return await self._turns.settle(upload_id)
