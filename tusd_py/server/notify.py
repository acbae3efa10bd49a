"""Tells systemd what the server does (sd_notify), if somebody listens. It is no error if nobody does."""

from __future__ import annotations

import contextlib
import socket
import time

READY, STOPPING = "READY=1", "STOPPING=1"


def tell(address: str, news: str) -> None:
    """Send to `address`; "" is nobody. An address that begins with @ is an abstract one."""
    if address:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
            connection.setblocking(False)
            connection.sendto(news.encode(), "\0" + address[1:] if address.startswith("@") else address)


def reloading() -> str:
    # The time tells systemd which READY=1 belongs to this.
    return f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}"
