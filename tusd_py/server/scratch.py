"""Memory that all connections of an event loop read into, one read at a time."""

from __future__ import annotations

import threading

# A head with the first of its body. More only where the application waits for it: what it does not is kept.
_HEAD_READ_BYTES = 32 * 1024
_BODY_READ_BYTES = 256 * 1024


class Scratch(threading.local):
    """Where an event loop reads what goes to the parser. The parser copies what stays, before the next read."""

    def __init__(self) -> None:
        self.body = memoryview(bytearray(_BODY_READ_BYTES))
        self.head = self.body[:_HEAD_READ_BYTES]


scratch = Scratch()
