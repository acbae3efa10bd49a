"""What several steps of a batch want on the disk in the same way, such as the directory: synced once, at their end."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Settling(threading.local):
    """Of one thread: `due` is what its batch owes, None outside of one."""

    due: list[Callable[[], None]] | None = None

    def need(self, sync: Callable[[], None]) -> None:
        """Call `sync` at once, or at the end of the batch that the caller is part of, whose result waits for it."""
        if self.due is None:
            sync()
        else:
            self.due.append(sync)
