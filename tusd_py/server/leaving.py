"""The last resort of a process that is to end: it is left, whatever is still at work in it.

A task that swallows its cancellation, such as one of a hook that catches everything, would keep it for ever.
"""

from __future__ import annotations

import logging
import os
import threading

from tusd_py.logs import event

log = logging.getLogger("tusd_py.server")

LAST_SECONDS = 10.0
"""What an application may take to close, beside the shutdown timeout."""


def leave_after(seconds: float, exit_code: int) -> threading.Timer:
    """Unless the timer is cancelled before."""

    def leave() -> None:
        event(log, "ServerLeft", level=logging.ERROR, reason="something in it does not end, though it was cancelled")
        os._exit(exit_code)

    timer = threading.Timer(seconds, leave)
    timer.daemon = True
    timer.start()
    return timer
