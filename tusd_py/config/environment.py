"""What the environment says beside settings: what others read, and who wants to know that the server is ready.

Only this folder reads the environment; what is read here goes to whoever starts processes, as plain values.
"""

from __future__ import annotations

import os

_NOTIFY = "NOTIFY_SOCKET"


def inherited() -> dict[str, str]:
    """All of it, for processes that are started, and for what has no setting of ours."""
    return dict(os.environ)


def notify_address() -> str:
    """Where systemd listens for news of a service of type notify; empty without one."""
    return os.environ.get(_NOTIFY, "")


def state_folder() -> str:
    """Where a user's programs keep what should outlive them, as the XDG Base Directory Specification has it."""
    named = os.environ.get("XDG_STATE_HOME", "")
    return named if os.path.isabs(named) else os.path.expanduser("~/.local/state")
