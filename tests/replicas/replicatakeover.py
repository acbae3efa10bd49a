"""One client goes on with what another one's server holds, or held, and what came of both.

The two have bytes that differ everywhere, so what was stored tells whose it is.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

from faultclient import Answer, Client, Connection, LostError, patch_headers
from replicaserver import MIB

LENGTH = 13 * MIB + 17
FIRST = os.urandom(LENGTH)
SECOND = FIRST.translate(bytes(255 - each for each in range(256)))
RETRIED = frozenset({409, 423, 503})
PATIENCE_SECONDS = 30.0


@dataclass(frozen=True)
class Taken:
    """From which offset, and after how many seconds it was let in."""

    offset: int
    seconds: float


def take_over(client: Client, path: str) -> Taken:
    """Send the rest of SECOND as clients do: ask, go on from there, try again after what clients try again after."""
    began = time.monotonic()
    while time.monotonic() < began + PATIENCE_SECONDS:
        head = client.head(path)
        if head.status != 200:
            assert head.status in RETRIED, head
            continue
        with client.connect() as connection:
            offset = head.offset
            connection.begin("PATCH", path, patch_headers(offset, LENGTH - offset, Expect="100-continue"))
            answer = connection.head()
            seconds = time.monotonic() - began
            if answer.status == 100:  # it has the lock
                connection.try_to_send(SECOND[offset:])
                answer = connection.answer()
            if answer.status == 204:
                assert answer.offset == LENGTH
                return Taken(offset, seconds)
            assert answer.status in RETRIED, answer
    raise AssertionError("it was never let in")


def send_up_to(client: Client, path: str, data: bytes, end: int) -> None:
    """The same with any data, and without an end."""
    began = time.monotonic()
    while (head := client.head(path)).status != 200 or head.offset < end:
        assert time.monotonic() < began + PATIENCE_SECONDS, head
        if head.status == 200:
            head = client.patch(path, head.offset, data[head.offset : end])
        assert head.status in RETRIED | {204}, head


def late_answer(connection: Connection) -> Answer | None:
    """What the other client hears in the end; None: nothing."""
    try:
        return connection.answer()
    except LostError:
        return None


def seam(content: bytes) -> int:
    """Where `content` goes over from FIRST to SECOND; there is no other byte in it."""
    assert len(content) == LENGTH
    low, high = 0, LENGTH
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if content[:middle] == FIRST[:middle] else (low, middle - 1)
    assert content[low:] == SECOND[low:]
    return low
