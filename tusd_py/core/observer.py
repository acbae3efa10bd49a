"""What is told about the work as it happens, for metrics and the like; who listens is chosen in `app`.

The core tells of bodies, locks and uploads, `web` of requests. Every method is called in the event loop's thread, never
raises, and returns in about a microsecond: it counts, it does not wait. Durations are of a monotonic clock.
"""

from __future__ import annotations

from typing import Protocol


class Observer(Protocol):
    def request_ended(self, method: str, status: int, code: str | None, seconds: float) -> None:
        """A request was answered, or ended without (then `status` is what would have been said). `code` is ERR_*."""
        ...

    def body_started(self) -> None:
        """The first byte of a body may come now. Each call is followed by one of `body_ended`."""
        ...

    def bytes_received(self, count: int) -> None:
        """So many bytes of a body are with the store. Told of each piece, so that rates are true of long bodies."""
        ...

    def body_ended(self, client_seconds: float, store_seconds: float) -> None:
        """A body ended, for whatever reason, after so much waiting for the client and for the store."""
        ...

    def interrupted(self, code: str) -> None:
        """A body ended before its end, and why: the code of `Body.error` when that is an `Interrupted`."""
        ...

    def lock_waited(self, seconds: float) -> None:
        """A lock was had, or given up, after so long. Told of every lock, also of those that were free."""
        ...

    def upload_created(self) -> None: ...

    def upload_finished(self) -> None: ...

    def upload_terminated(self) -> None: ...

    def upload_expired(self) -> None: ...

    def hook_ended(self, event: str, seconds: float, *, has_failed: bool) -> None:
        """A hook was called for an event of this type, and answered or failed after so long."""
        ...


class Unobserved:
    """Nobody listens."""

    def request_ended(self, method: str, status: int, code: str | None, seconds: float) -> None: ...

    def body_started(self) -> None: ...

    def bytes_received(self, count: int) -> None: ...

    def body_ended(self, client_seconds: float, store_seconds: float) -> None: ...

    def interrupted(self, code: str) -> None: ...

    def lock_waited(self, seconds: float) -> None: ...

    def upload_created(self) -> None: ...

    def upload_finished(self) -> None: ...

    def upload_terminated(self) -> None: ...

    def upload_expired(self) -> None: ...

    def hook_ended(self, event: str, seconds: float, *, has_failed: bool) -> None: ...


NOBODY: Observer = Unobserved()
