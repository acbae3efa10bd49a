"""Ctrl-C at a time when it does no harm, but soon: from then on, no server is waited for longer than a moment."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from tusd_py.client.limits import Left, countdown

ANSWER_SECONDS = 1.0
PARTING_SECONDS = 5.0


class Haste:
    """Once it has begun, each wait ends after a second, also that under way, and all of them after a few."""

    def __init__(self) -> None:
        self.is_on = False
        self._ends_at = self._parts_at = math.inf

    def begin(self) -> None:
        if not self.is_on:
            self.is_on = True
            self._parts_at = time.monotonic() + PARTING_SECONDS
            self.renew()

    def renew(self) -> None:
        """For the next wait."""
        if self.is_on:
            self._ends_at = min(time.monotonic() + ANSWER_SECONDS, self._parts_at)

    def give_up(self) -> None:
        """Nobody answers: if there is haste, no further wait."""
        if self.is_on:
            self._ends_at = self._parts_at = 0.0

    @property
    def is_over(self) -> bool:
        return time.monotonic() > self._parts_at

    def countdown(self, seconds: float) -> Left:
        """Less, if there is haste by then."""
        left = countdown(seconds)
        return lambda: min(left(), self._ends_at - time.monotonic())


@contextmanager
def deferred(haste: Haste) -> Iterator[None]:
    """Ctrl-C waits for the end of the block, which makes haste from then on: what it does on the server is then known,
    and can be undone. Who presses it once more waits for nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    is_wanted = False

    def note(_number: int, _frame: FrameType | None) -> None:
        nonlocal is_wanted
        if haste.is_on:
            raise KeyboardInterrupt
        is_wanted = True
        haste.begin()

    before = signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if is_wanted:
            raise KeyboardInterrupt


def end_at_once() -> None:
    """The next Ctrl-C needs no words of ours: the last ones are being said."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_DFL)
