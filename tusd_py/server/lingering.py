"""The end of a connection, gentle and not.

After an early last answer: read and drop what the client still sends, so that it can read the answer. Closing at once
would make the kernel send a RST, which destroys the answer in the client's buffer (RFC 9112 9.6). Where nobody reads
the answer, a RST it is: otherwise the kernel would go on offering megabytes of it for minutes.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct


class Lingering:
    """Ends the connection when the client closes, is silent for `silence_seconds`, or `seconds` are over.

    No bound in bytes, since a blocking client looks for the answer only after its last byte; discarding is cheap.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport, silence_seconds: float, seconds: float
    ) -> None:
        self._loop = loop
        self._transport = transport
        self._silence_seconds = silence_seconds
        self._heard_at = loop.time()
        self._until = self._heard_at + seconds
        self._timer: asyncio.TimerHandle | None = None
        if transport.can_write_eof():
            transport.write_eof()
        self._watch()

    def heard(self) -> None:
        self._heard_at = self._loop.time()

    def hurry(self) -> None:
        """The server stops: the time of one silence must do."""
        self._until = min(self._until, self._loop.time() + self._silence_seconds)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _watch(self) -> None:
        now = self._loop.time()
        silent_at = self._heard_at + self._silence_seconds
        is_flushed = self._transport.get_write_buffer_size() == 0
        if now >= self._until or (now >= silent_at and is_flushed):
            self._transport.abort()
            return
        pause_seconds = max(min(silent_at, self._until) - now, 0.05)
        self._timer = self._loop.call_later(pause_seconds, self._watch)


def reset(transport: asyncio.Transport) -> None:
    """End the connection now, and drop what the client has not taken."""
    with contextlib.suppress(OSError, AttributeError):  # closed already, or a transport without a socket
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
