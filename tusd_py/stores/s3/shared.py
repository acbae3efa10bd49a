"""What the store asks of a locker that all servers of a bucket share, besides its locks; it can do without."""

from __future__ import annotations

from typing import Protocol

from tusd_py.core.upload import UploadId


class Fences(Protocol):
    """What a locker knows of the locks that this process holds."""

    def fence(self, upload_id: UploadId) -> int | None:
        """Higher than that of every holder before; None: this process does not hold the lock."""
        ...

    async def is_held(self, upload_id: UploadId) -> bool:
        """Whether nobody else was given the lock since, as all others see it. Raises BackendError."""
        ...


class Notes(Protocol):
    """What was left of uploads lately, by whoever had the lock."""

    def leave_note(self, upload_id: UploadId, text: str) -> None:
        """Called under the lock; the note lasts until somebody takes it again, and for some seconds at most."""
        ...

    async def note(self, upload_id: UploadId) -> str | None:
        """The note, if nobody has had the lock since it was left. Never raises."""
        ...


class Shared(Fences, Notes, Protocol):
    pass
