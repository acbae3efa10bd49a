"""Telling of what the server itself turns away, which no application sees: a line in the log, a count.

A line for each request. Connections may come in floods: at most one line a second, which says how many it stands for.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, Protocol

from tusd_py.errors import TusError
from tusd_py.logs import event

_QUIET_SECONDS = 1.0

log = logging.getLogger("tusd_py.server")


class Counter(Protocol):
    """Who is told of connections, and of answers with an error that the application did not give."""

    def connection_opened(self) -> None: ...

    def connection_closed(self) -> None: ...

    def refused(self, status: int, code: str) -> None: ...


class Refusals:
    """What one process turned away. `client` is an address, None for a unix socket."""

    def __init__(self, counter: Counter | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._counter = counter
        self._clock = clock
        self._untold = 0
        self._told_at = -_QUIET_SECONDS

    def request(self, error: TusError, client: str | None) -> None:
        self._count(error)
        _tell("RequestRefused", error, client, status=error.status)

    def connection(self, error: TusError, client: str | None) -> None:
        self._count(error)
        self._untold += 1
        now = self._clock()
        if now - self._told_at < _QUIET_SECONDS:
            return
        count, self._untold, self._told_at = self._untold, 0, now
        _tell("ConnectionsRefused", error, client, level=logging.WARNING, count=count)

    def silence(self, seconds: float, client: str | None) -> None:
        """A connection that sent nothing at all: it is closed without an answer, as there is no request."""
        event(log, "ConnectionSilent", seconds=seconds, client=client or "unix")

    def _count(self, error: TusError) -> None:
        if self._counter is not None:
            self._counter.refused(error.status, error.code)


def _tell(name: str, error: TusError, client: str | None, *, level: int = logging.INFO, **first: Any) -> None:
    event(log, name, level=level, **first, code=error.code, reason=error.message, client=client or "unix")
