"""Ctrl-C at a time when it does no harm."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def deferred() -> Iterator[None]:
    """Ctrl-C waits for the end of the block: what it does on the server is then known, and can be undone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    is_wanted = False

    def note(_number: int, _frame: FrameType | None) -> None:
        nonlocal is_wanted
        is_wanted = True

    before = signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if is_wanted:
            raise KeyboardInterrupt
