"""The time by which a client must have done something: one lazy timer for each connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

STILL_SECONDS = 0.05
"""Whoever finds out this much late was kept from it by a loop that stood still."""


class Deadline:
    """Calls `is_late` when the time that was set last has come.

    A loop that stood still, for a slow disk or in a frozen process, could not see who was in time: what it lost is
    given back, once.
    Setting a later time, or none, costs a look at the clock: the timer that runs already finds out when it fires.
    From `hold` to `release` no other time counts; what is set meanwhile begins then.
    """

    __slots__ = ("_due", "_is_extended", "_is_held", "_is_late", "_loop", "_next_seconds", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, is_late: Callable[[], None]) -> None:
        self._loop = loop
        self._is_late = is_late
        self._due: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_extended = False
        self._is_held = False
        self._next_seconds: float | None = None

    def set(self, seconds: float) -> None:
        if self._is_held:
            self._next_seconds = seconds
        else:
            self._set(seconds)

    def clear(self) -> None:
        if self._is_held:
            self._next_seconds = None
        else:
            self._due = None

    def hold(self, seconds: float) -> None:
        if not self._is_held:
            self._is_held, self._next_seconds = True, None
        self._set(seconds)

    def release(self) -> None:
        self._is_held, self._due = False, None
        if self._next_seconds is not None:
            self._set(self._next_seconds)

    def _set(self, seconds: float) -> None:
        self._is_extended = False
        self._due = due = self._loop.time() + seconds
        if self._timer is None:
            self._timer = self._loop.call_at(due, self._look)
        elif due < self._timer.when():
            self._timer.cancel()
            self._timer = self._loop.call_at(due, self._look)

    def close(self) -> None:
        """For the end of the connection, which the timer would keep in memory, and which refers to us."""
        self._due = None
        self._is_late = _too_late
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        if self._due is None:
            return
        now = self._loop.time()
        lost_seconds = now - self._due
        if lost_seconds > STILL_SECONDS and not self._is_extended:
            self._is_extended = True
            self._due = now + lost_seconds
        if now >= self._due:
            self._due = None
            self._is_late()
        else:
            self._timer = self._loop.call_at(self._due, self._look)


def _too_late() -> None:
    """Nobody is left to be told."""
