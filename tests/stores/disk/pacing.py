"""Time that passes only when a test says so, for the pace of file calls."""

from __future__ import annotations

import threading
from collections.abc import Callable

from tusd_py.stores.disk.pace import Pace


class Clock:
    """Wall time, and the time that the process worked."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self.busy_seconds = 50.0

    def advance(self, seconds: float, *, busy: float = 0.0) -> None:
        """`busy`: the share of it that the process works."""
        self.seconds += seconds
        self.busy_seconds += seconds * busy

    def taking(self, seconds: float, *, busy: float = 0.0) -> Callable[[], threading.Thread]:
        """A call that takes so long and tells where it ran."""

        def call() -> threading.Thread:
            self.advance(seconds, busy=busy)
            return threading.current_thread()

        return call

    def pace(self, threads: int = 16) -> Pace:
        return Pace(threads=threads, clock=lambda: self.seconds, cpu_clock=lambda: self.busy_seconds)
