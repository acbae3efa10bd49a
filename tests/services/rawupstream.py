"""An S3 in the hands of a test, behind a proxy of its own."""

from __future__ import annotations

import socket

from s3proxy import FaultProxy


class RawUpstream:
    """An S3 that says what it is told, byte by byte, to see what exactly the proxy passes on."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        # Little is received before it is read, so that what is thrown away on its way here is missed.
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._listener.settimeout(10)
        self.proxy = FaultProxy(*self._listener.getsockname())
        self._sockets: list[socket.socket] = []

    def connect(self) -> socket.socket:
        """A client's connection to the proxy."""
        return self._kept(socket.create_connection(("127.0.0.1", self.proxy.port), 10))

    def accept(self) -> socket.socket:
        """The proxy's connection to us."""
        return self._kept(self._listener.accept()[0])

    def close(self) -> None:
        for each in self._sockets:
            each.close()
        self._listener.close()
        self.proxy.close()

    def _kept(self, connection: socket.socket) -> socket.socket:
        connection.settimeout(10)
        self._sockets.append(connection)
        return connection


def exactly(connection: socket.socket, expected: bytes) -> None:
    received = b""
    while len(received) < len(expected) and (data := connection.recv(len(expected) - len(received))):
        received += data
    assert received == expected
