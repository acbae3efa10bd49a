"""What the environment says beside settings: how memory is allocated, and who wants to know that the server is ready.

Only this folder reads the environment; what is read here goes to whoever starts processes, as plain values.
"""

from __future__ import annotations

import os

# glibc gives the heap back after each body and faults it in again at the next; these halve the CPU of receiving. As
# each thread would keep a heap of its own that way (20 downloads: 93 MiB), all share one: 11 MiB. glibc reads them when
# a process starts, so they are set for processes that do not run yet.
_MALLOC = {
    "MALLOC_TRIM_THRESHOLD_": str(256 * 2**20),
    "MALLOC_TOP_PAD_": str(16 * 2**20),
    "MALLOC_MMAP_THRESHOLD_": str(64 * 2**20),
    "MALLOC_ARENA_MAX": "1",
}
_NOTIFY = "NOTIFY_SOCKET"


def is_tuned() -> bool:
    """Whether this process was started with everything that `serving_environment` adds."""
    return os.environ.keys() >= _MALLOC.keys()


def serving_environment() -> dict[str, str]:
    """Ours, and what a process needs that receives bodies; what the operator has set counts more."""
    return _MALLOC | os.environ


def notify_address() -> str:
    """Where systemd listens for news of a service of type notify; empty without one."""
    return os.environ.get(_NOTIFY, "")
