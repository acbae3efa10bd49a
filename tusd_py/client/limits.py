"""Limits on waiting as a whole: those of sockets begin anew with each byte, and some servers bring one a minute.

No signals, and nothing that only some systems have. It is waited in steps, so that Ctrl-C is heard in between.
"""

from __future__ import annotations

import http.client
import io
import socket
import threading
import time
from collections.abc import Callable
from typing import BinaryIO

STEP_SECONDS = 0.2

Left = Callable[[], float]
"""How many seconds are left."""


def countdown(seconds: float) -> Left:
    ends_at = time.monotonic() + seconds
    return lambda: ends_at - time.monotonic()


def in_time(work: Callable[[], None], left: Left, undo: Callable[[], None]) -> None:
    """Raises TimeoutError when no time is left.

    For calls that neither a limit nor Ctrl-C ends, as looking up a name. What takes too long is left to itself, and
    undone when it is over after all.
    """
    errors: list[BaseException] = []
    is_abandoned = threading.Event()

    def run() -> None:
        try:
            work()
        except BaseException as error:  # it belongs to whoever waits
            errors.append(error)
        if is_abandoned.is_set():
            undo()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            if left() <= 0:
                raise TimeoutError("no answer in time")
            thread.join(min(STEP_SECONDS, max(left(), 0)))
    except BaseException:
        is_abandoned.set()
        raise
    if errors:
        raise errors[0]


class TimelyAnswer(http.client.HTTPResponse):
    """Raises TimeoutError where it is read when no time is left."""

    fp: io.BufferedReader

    def __init__(self, sock: socket.socket, left: Left, method: str | None = None) -> None:
        super().__init__(sock, method=method)
        self.fp = io.BufferedReader(_Reading(sock, self.fp, left))


class _Reading(io.RawIOBase):
    """`held` keeps the socket open until this is closed, whoever closes it before."""

    def __init__(self, sock: socket.socket, held: BinaryIO, left: Left) -> None:
        self._socket = sock
        self._held = held
        self._left = left

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        while (left := self._left()) > 0:
            self._socket.settimeout(min(STEP_SECONDS, left))
            try:
                return self._socket.recv_into(buffer)
            except TimeoutError:
                continue
        raise TimeoutError("no answer in time")

    def close(self) -> None:
        if not self.closed:
            self._held.close()
        super().close()
