"""Who goes first where there is more to do than processors: the server and its healthy client before all else that
runs here by chance, the attackers after it, for they stand for other machines. So what the healthy client feels is what
the attack does to the server.

Linux shares processors between sessions first (sched(7), autogroup), within them by niceness. Going first takes a right
that not everybody has; without it everything runs as it is.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path

_FIRST, _LAST = -10, 10


def go_first() -> None:
    """This process with its session, which should be its own, and the threads that it starts from now on."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, _FIRST)
        Path("/proc/self/autogroup").write_text(str(_FIRST))


def go_last() -> None:
    """This thread, for good."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LAST)
