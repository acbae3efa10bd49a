"""How long a client may be silent or slow in the middle of a body, and the clock that tells.

Only time spent waiting for the client counts, never time in the store (failures F37). What follows from lost patience
is the body's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from tusd_py.errors import Interrupted

LAST_LOOK_SECONDS = 0.05
"""Silence is looked at once more after this: when the loop was busy, timers may run before bytes that are there."""


@dataclass(frozen=True, slots=True)
class Patience:
    """`stall_seconds` of silence and the client is stalled: a request that waits for the upload may have it. After
    `idle_seconds` the body ends by itself; so it does when fewer than `least_rate` bytes a second came for that long
    (0: any rate will do).
    """

    stall_seconds: float = 0.5
    idle_seconds: float = 60.0
    least_rate: float = 0.0


def taken_over() -> Interrupted:
    return Interrupted("another request took this upload over; ask for the offset and go on from there")


def _timed_out(message: str) -> Interrupted:
    # tus K19: the connection is closed. 503, since a client that wakes up again retries on it (tusd: 500).
    return Interrupted(message, code="ERR_READ_TIMEOUT", status=503, headers={"Connection": "close"})


class Watch:
    """Interrupts a body whose client has lost the patience it is owed. `client_seconds` is what the client took.

    One timer, set anew only when it is due: each piece costs no more than a look at the clock.
    """

    __slots__ = (
        "_activity", "_heard_at", "_interrupt", "_patience", "_received", "_resumed_at", "_timer", "_watchers",
        "_window_at", "_window_bytes", "client_seconds",
    )  # fmt: skip

    def __init__(self, patience: Patience) -> None:
        self.client_seconds = 0.0
        self._patience = patience
        self._interrupt: Callable[[Interrupted], None] | None = None  # while reading
        self._resumed_at = self._heard_at = self._window_at = 0.0
        self._received = self._window_bytes = 0
        self._watchers = 0
        self._activity: asyncio.Event | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_reading(self) -> bool:
        """Waiting for the client, not for the store."""
        return self._interrupt is not None

    def resume(self, interrupt: Callable[[Interrupted], None]) -> None:
        """From now on we wait for the client; `interrupt` is called when it is too slow."""
        self._interrupt = interrupt
        self._resumed_at = self._heard_at = self._window_at = time.monotonic()
        self._window_bytes = self._received
        self._announce()
        self._look()

    def suspend(self) -> None:
        """The client waits for us, or has ended."""
        if self.is_reading:
            self.client_seconds += time.monotonic() - self._resumed_at
        self._interrupt = None
        self._announce()
        self._cancel()

    def heard(self, received: int, given_at: float) -> None:
        """Something came, `received` bytes in all; the store had it from `given_at` until now."""
        self._heard_at = now = time.monotonic()
        self.client_seconds -= now - given_at
        self._received = received
        if self._activity is not None:
            self._announce()

    # For those who wait for the upload.

    def add_watcher(self) -> None:
        self._watchers += 1
        self._look()

    def remove_watcher(self) -> None:
        self._watchers -= 1

    async def activity(self) -> None:
        """Until something comes, or the waiting for the client ends."""
        self._activity = self._activity or asyncio.Event()
        await self._activity.wait()

    def _announce(self) -> None:
        if self._activity is not None:
            self._activity.set()
            self._activity = None

    # The clock.

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self, *, is_last_look: bool = False) -> None:
        self._cancel()
        interrupt = self._interrupt
        if interrupt is None:
            return
        patience, now = self._patience, time.monotonic()
        left = self._heard_at - now + (patience.stall_seconds if self._watchers else patience.idle_seconds)
        if left <= 0 and is_last_look:
            silence = f"no byte for {patience.idle_seconds:g} s"
            interrupt(taken_over() if self._watchers else _timed_out(silence))
            return
        if patience.least_rate and left > 0:
            if self._is_too_slow(now):
                interrupt(_timed_out(f"fewer than {patience.least_rate:g} bytes a second"))
                return
            left = min(left, self._window_at - now + patience.idle_seconds)
        look = partial(self._look, is_last_look=left <= 0)
        self._timer = asyncio.get_running_loop().call_later(left if left > 0 else LAST_LOOK_SECONDS, look)

    def _is_too_slow(self, now: float) -> bool:
        """Judged over windows of `idle_seconds`; a pause for the store begins a new one."""
        if now - self._window_at < self._patience.idle_seconds:
            return False
        came = self._received - self._window_bytes
        self._window_at, self._window_bytes = now, self._received
        return came < self._patience.least_rate * self._patience.idle_seconds
