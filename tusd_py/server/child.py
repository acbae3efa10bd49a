"""One worker process as its supervisor sees it: how it is started, what it says, and how it ended.

When workers are started and ended is left to `supervise`; what they say is listed in `lifeline`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Mapping, Sequence
from typing import Any

from tusd_py.server.lifeline import RETIRE, Orders

# Kept from a worker until it has handlers for them: Ctrl-C and the end of a terminal come to all processes in it.
_SIGNALS = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)


class Child:
    """A running worker. `leave_by` is set once it is to end: then it is killed."""

    def __init__(self, pid: int, connection: socket.socket, orders: Orders) -> None:
        self.pid = pid
        self.connection = connection
        self.orders = orders
        self.started_at = self.heard_at = time.monotonic()
        self.is_ready = False
        self.leave_by: float | None = None
        self.refusal: tuple[str, int] | None = None
        self._rest = b""

    @classmethod
    def start(cls, command: Sequence[str], environment: Mapping[str, str], orders: Orders) -> Child:
        """A new program, not a fork of ours. Its last argument is the descriptor of its lifeline. Raises OSError."""
        ours, theirs = socket.socketpair()
        try:
            ours.sendall(orders.to_line())
            ours.setblocking(False)
            theirs.set_inheritable(True)
            argv = [*command, str(theirs.fileno())]
            pid = os.posix_spawn(argv[0], argv, environment, setsigmask=_SIGNALS)
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        return cls(pid, ours, orders)

    def read(self) -> list[tuple[str, Any]] | None:
        """What it has said since, each with its details; None if it will not say any more."""
        try:
            received = self.connection.recv(65536)
        except BlockingIOError:
            return []
        except OSError:
            received = b""
        if not received:
            return None
        self.heard_at = time.monotonic()
        *lines, self._rest = (self._rest + received).split(b"\n")
        parts = (line.decode().partition(" ") for line in lines)
        return [(word, json.loads(details) if details else None) for word, _, details in parts]

    def retire(self, leave_by: float) -> None:
        self.leave_by = leave_by
        with contextlib.suppress(OSError):
            self.connection.send(RETIRE.encode() + b"\n")

    def end(self, number: signal.Signals, leave_by: float) -> None:
        """Not reaped yet, so that its pid is still its own."""
        self.leave_by = leave_by
        os.kill(self.pid, number)


def describe(status: int) -> str:
    """A status of os.waitpid in words."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"exit status {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
