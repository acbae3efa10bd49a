"""A connection between two processes of one machine, on which each says lines of ASCII."""

from __future__ import annotations

import asyncio
from typing import ClassVar, cast


class Lines(asyncio.Protocol):
    """Lines in either direction. Whoever sends longer ones than allowed, or does not read, is hung up on."""

    longest_line_bytes: ClassVar[int] = 256
    longest_backlog_bytes: ClassVar[int] = 4096
    """Of what the other side does not read."""

    def __init__(self, connections: set[Lines]) -> None:
        self.is_lost = asyncio.Event()
        self._connections = connections
        self._transport: asyncio.Transport
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by name
        self._connections.add(self)

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if self._transport.is_closing():
                return
            self.heard(line.decode("ascii", "replace"))
        if len(self._rest) > self.longest_line_bytes:
            self.abort()

    def connection_lost(self, _error: Exception | None) -> None:
        self._connections.discard(self)
        self.is_lost.set()

    def heard(self, line: str) -> None:
        raise NotImplementedError

    def say(self, line: str) -> None:
        if not self._transport.is_closing():
            self._transport.write(line.encode() + b"\n")
            if self._transport.get_write_buffer_size() > self.longest_backlog_bytes:
                self.abort()

    def close(self) -> None:
        """What was said still goes out."""
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()
