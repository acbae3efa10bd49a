"""Accepting connections ourselves: those that nobody else takes, and those that have to shake hands first.

A loop's own servers are faster, but tell nobody who is in the middle of a TLS handshake: who retires would not wait for
them, and a loop must not be closed under them.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable

from tusd_py.server.bounds import Admission

# Accepted in one turn of the loop: others want theirs too.
_MOST_AT_ONCE = 256
# How long to leave a listener alone that has a connection for which there is no descriptor.
_PAUSE_SECONDS = 0.5


class Acceptor:
    """Makes connections of what non-blocking listeners have. `is_awaiting`: some are neither made nor given up yet."""

    def __init__(
        self,
        connect: Callable[[], asyncio.BaseProtocol],
        tls: ssl.SSLContext | None,
        handshake_seconds: float,
        admission: Admission,
    ) -> None:
        self._connect = connect
        self._tls = tls
        self._handshake_seconds = handshake_seconds if tls is not None else None
        self._admission = admission
        self._coming: set[asyncio.Task[None]] = set()
        self._watched: list[socket.socket] = []

    @property
    def is_awaiting(self) -> bool:
        return bool(self._coming)

    def watch(self, listener: socket.socket) -> None:
        """Take whoever comes, until `stop`."""
        listener.setblocking(False)
        self._watched.append(listener)
        self._heed(listener)

    def stop(self) -> None:
        """Close the listeners. Who has been accepted is still coming."""
        for listener in self._watched:
            asyncio.get_running_loop().remove_reader(listener)
            listener.close()
        self._watched.clear()

    def cancel(self) -> None:
        for task in self._coming:
            task.cancel()

    def take(self, listener: socket.socket) -> int:
        """Take those that wait now; returns how many. Raises OSError."""
        for count in range(_MOST_AT_ONCE):
            try:
                connection, address = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return count
            connection.setblocking(False)
            if self._tls is not None and not self._admission.takes_one_more_than(len(self._coming)):
                self._admission.turn_away(address[0] if address else None)
                connection.close()  # a word would need a handshake
                continue
            task = asyncio.get_running_loop().create_task(self._adopt(connection))
            self._coming.add(task)
            task.add_done_callback(self._coming.discard)
        return _MOST_AT_ONCE

    def _heed(self, listener: socket.socket) -> None:
        if listener in self._watched:
            asyncio.get_running_loop().add_reader(listener, self._take_watched, listener)

    def _take_watched(self, listener: socket.socket) -> None:
        try:
            self.take(listener)
        except OSError:  # it stays readable
            loop = asyncio.get_running_loop()
            loop.remove_reader(listener)
            loop.call_later(_PAUSE_SECONDS, self._heed, listener)

    async def _adopt(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):  # the client has left, or speaks no TLS
            await asyncio.get_running_loop().connect_accepted_socket(
                self._connect, connection, ssl=self._tls, ssl_handshake_timeout=self._handshake_seconds
            )
