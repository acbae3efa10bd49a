"""What lies between the kernel and us when a connection ends (failures F10)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator

_READ_BYTES = 64 * 1024


def undelivered(transport: asyncio.Transport) -> Iterator[bytes]:
    """What the loop will not deliver any more, piece by piece.

    A failed write ends the connection without reading what the kernel holds; under TLS a RST, or an end of input
    that meets a small buffer, ends it without what was received and, because reading was paused, not yet decrypted.
    """
    tls = transport.get_extra_info("ssl_object")
    with contextlib.suppress(OSError):  # nothing left, or nothing to read from; ssl.SSLError is one
        if tls is not None:
            while data := tls.read(_READ_BYTES):
                yield data
            return
        descriptor = os.dup(transport.get_extra_info("socket").fileno())
        with socket.socket(fileno=descriptor) as connection:
            connection.setblocking(False)
            while data := connection.recv(_READ_BYTES):
                yield data
