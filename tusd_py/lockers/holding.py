"""What all lockers do alike: hand out turns, and, where other processes are to be reached, begin and end."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from tusd_py.core.body import Wish
from tusd_py.core.ports import ReleaseRequested
from tusd_py.core.upload import UploadId
from tusd_py.lockers.turns import Turn, Turns


class TurnsLocker:
    """The `core.ports.Locker` over `turns`."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    def hold(
        self, upload_id: UploadId, release_requested: ReleaseRequested, *, wish: Wish | None = Wish.WHEN_STALLED
    ) -> Turn:
        return Turn(self._turns, upload_id, release_requested, wish)

    async def settle(self, upload_id: UploadId) -> bool:
        return await self._turns.settle(upload_id)


class SharedLocker(TurnsLocker):
    """One that several processes share. Opened by `start`, or by the first use; `aclose` when nothing is held any more.
    As a context it does both."""

    async def start(self) -> None:
        """Be reachable for the other processes. Raises BackendError."""
        raise NotImplementedError

    async def aclose(self) -> None:
        """Let go of everything that is held, and tell those who wait."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
