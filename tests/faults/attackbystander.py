"""A healthy client, run as a program: its clock must not wait for the attackers, nor they for it.

A round is POST, PATCH of 64 KiB, HEAD and GET, and is due every `PERIOD_SECONDS`. Its latency counts from when it was
due, so that a server that stands still for a second is slow for all the rounds of that second and not for one. Each
round is a line of JSON on standard output; the end of standard input ends it all.
"""

from __future__ import annotations

import itertools
import json
import os
import select
import sys
import time
from collections import deque
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from attackpriority import go_first
from faultclient import BASE_PATH, PIECE_BYTES, Answer, Client, Connection, Headers, patch_headers, path_of

PERIOD_SECONDS = 0.02
# More than this is not made up for: who asks for seconds in vain has shown it.
MOST_LATE_SECONDS = 1.0
# Each round takes another piece of it, so that one upload's bytes are not taken for another's.
BYTES = os.urandom(2 * PIECE_BYTES)


class Rounds:
    """With `kept` connections they are used in turn, over and over; with none, each round has one of its own."""

    def __init__(self, client: Client, kept: int) -> None:
        self._client = client
        self._kept = kept
        self._idle = deque(client.connect() for _ in range(kept))
        self._numbers = itertools.count()

    def run(self) -> float:
        """One round; returns when its last answer was there. Raises OSError or AssertionError."""
        connection = self._idle.popleft() if self._idle else self._client.connect()
        start = next(self._numbers) % PIECE_BYTES
        try:
            path = _create(connection)
            _fill_and_read(connection, path, BYTES[start : start + PIECE_BYTES])
            ended_at = time.monotonic()
            answer = _ask(connection, "DELETE", path, {})
            assert answer.status == 204, answer
        except BaseException:
            connection.close()
            raise
        if len(self._idle) < self._kept and answer.headers.get("connection") != "close":
            self._idle.append(connection)
        else:
            connection.close()
        return ended_at


def _ask(connection: Connection, method: str, path: str, headers: Headers, body: bytes = b"") -> Answer:
    connection.begin(method, path, headers)
    connection.send(body)
    return connection.answer(method)


def _create(connection: Connection) -> str:
    answer = _ask(connection, "POST", BASE_PATH, {"Upload-Length": str(PIECE_BYTES), "Content-Length": "0"})
    assert answer.status == 201, answer
    return path_of(answer)


def _fill_and_read(connection: Connection, path: str, data: bytes) -> None:
    answer = _ask(connection, "PATCH", path, patch_headers(0, len(data)), data)
    assert (answer.status, answer.offset) == (204, len(data)), answer
    answer = _ask(connection, "HEAD", path, {})
    assert (answer.status, answer.offset) == (200, len(data)), answer
    answer = _ask(connection, "GET", path, {})
    assert answer.status == 200, answer
    assert answer.body == data, "other bytes came back"


def main(port: int, kept: int) -> None:
    go_first()
    rounds = Rounds(Client(port), kept)
    due = time.monotonic()
    while not select.select([sys.stdin], [], [], max(0.0, due - time.monotonic()))[0]:
        error = ""
        try:
            ended_at = rounds.run()
        except (OSError, AssertionError) as failure:
            ended_at, error = time.monotonic(), f"{type(failure).__name__}: {failure}"[:300]
        print(json.dumps([due, ended_at, error]), flush=True)
        due = max(due + PERIOD_SECONDS, time.monotonic() - MOST_LATE_SECONDS)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
