"""What lies between `turns` and those who share a lock with other processes: contracts, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from tusd_py.core.body import Wish
from tusd_py.core.upload import UploadId


class Watcher(Protocol):
    """Somebody who cares about the present turn and does not wait for one. Nothing is called after `ended`."""

    def answered(self, wish: Wish, is_letting_go: bool) -> None: ...
    def ended(self) -> None: ...


class Foreign(Protocol):
    """The turn of a holder in another process, as far as it is known here."""

    async def release_requested(self, wish: Wish) -> bool: ...

    def close(self) -> None:
        """Nobody here is interested any more."""
        ...


Right = bool | asyncio.Future[int | None]
"""Whether it was got. If that takes a while, a future: the fence of the new turn, None if somebody else has the right,
or BackendError. The future is bounded in time by whoever made it."""


class Beyond(Protocol):
    """The right that is shared with others than this process. Asked only for what nobody in this process holds."""

    def claim(self, upload_id: UploadId) -> Right:
        """Take the right if nobody has it. Raises BackendError."""
        ...

    def keep(self, upload_id: UploadId) -> Right:
        """The holder here is gone and the next one is here too. Raises BackendError."""
        ...

    async def is_taken(self, upload_id: UploadId) -> bool:
        """Whether somebody has it. Raises BackendError."""
        ...

    def follow(self, upload_id: UploadId, ended: Callable[[], None]) -> Foreign:
        """The turn of whoever has it. `ended` is called once, later, when it is worth trying again."""
        ...

    def let_go(self, upload_id: UploadId) -> None:
        """Give the right back. Never raises."""
        ...
