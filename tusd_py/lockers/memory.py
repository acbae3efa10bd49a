"""Locks for one process: a dictionary of what is held, and nothing else. All the work is done by `turns`."""

from __future__ import annotations

from tusd_py.lockers.holding import TurnsLocker
from tusd_py.lockers.turns import Turns


class MemoryLocker(TurnsLocker):
    """A `core.ports.Locker` for one event loop. Two processes with one store need another locker (failures F21)."""

    def __init__(self, timeout_seconds: float = 20.0) -> None:
        super().__init__(Turns(timeout_seconds))
