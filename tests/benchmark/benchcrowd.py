"""A crowd: thousands of uploads under way at the same moment, each body trickling in pieces, each compared at the end.

All connections are open and in the middle of their bodies before the first of them goes on; so what the server needs
for one upload under way can be read from its memory.
"""

from __future__ import annotations

import resource
import socket
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from benchload import BODY_STRIDE, Load, run_load
from benchwire import Target, location_of, measure_answer, offset_of, window

ANSWER_SECONDS = 60.0


def raise_file_limit(wanted: int) -> None:
    """For us, and for the servers that we start afterwards. Raises OSError if so many are not allowed."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise OSError(f"{wanted} open files are needed, {hard} are allowed; see ulimit -n")
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@dataclass
class CrowdOutcome:
    """Seconds that another client's small upload took while all were under way, and what went wrong."""

    under_way: int = 0
    finished: int = 0
    identical: int = 0
    seconds: float = 0.0
    bystander_ms: dict[str, float] = field(default_factory=dict)
    errors: Counter[str] = field(default_factory=Counter)


class Crowd:
    def __init__(self, target: Target, count: int, pieces: int, piece_bytes: int) -> None:
        self.outcome = CrowdOutcome()
        self._target, self._count = target, count
        self._pieces, self._piece_bytes = pieces, piece_bytes
        self._size = pieces * piece_bytes
        self._members: dict[int, tuple[socket.socket, str]] = {}

    @property
    def paths(self) -> list[str]:
        return [path for _sock, path in self._members.values()]

    def gather(self, on_progress: Callable[[int], None]) -> None:
        """Connect and create all, and send the head and the first piece of every body."""
        for number in range(self._count):
            try:
                sock = socket.create_connection((self._target.host, self._target.port), ANSWER_SECONDS)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.sendall(self._target.post(self._size))
                status, head = _read_head(sock)
                if status != 201:
                    raise OSError(f"POST was answered {status}")
                path = self._target.path_of(location_of(head))
                sock.sendall(self._target.patch(path, 0, self._size) + self._piece(number, 0))
            except OSError as error:
                self.outcome.errors[f"gather: {error}"] += 1
                continue
            self._members[number] = (sock, path)
            on_progress(number + 1)
        self.outcome.under_way = len(self._members)

    def ask_as_bystander(self) -> None:
        """What somebody else's uploads of 4 KiB take while all the others are under way."""
        load = Load(verb="upload", size_bytes=4096, piece_bytes=4096, count=200, first_number=self._count)
        outcome = run_load(self._target, load, 1)
        self.outcome.errors += Counter({f"bystander: {text}": count for text, count in outcome.errors.items()})
        for kind, seconds in outcome.latencies.items():
            self.outcome.bystander_ms[kind] = round(max(seconds) * 1000, 2)

    def trickle(self, seconds: float, on_progress: Callable[[int], None]) -> None:
        """Send the rest, one piece of every body after the other, spread over the seconds; then read all answers."""
        begin = time.monotonic()
        steps = (self._pieces - 1) * len(self._members)
        step = 0
        for piece in range(1, self._pieces):
            for number in list(self._members):
                self._send_piece(number, piece)
                step += 1
                if step % 50 == 0:
                    time.sleep(max(0.0, begin + seconds * step / max(steps, 1) - time.monotonic()))
            on_progress(piece)
        for number in list(self._members):
            sock, _path = self._members[number]
            with suppress(OSError):
                status, head = _read_head(sock)
                if status in (200, 204) and offset_of(head) == self._size:
                    self.outcome.finished += 1
                else:
                    self.outcome.errors[f"PATCH was answered {status}"] += 1
            sock.close()
        self.outcome.seconds = time.monotonic() - begin

    def compare(self, check: Callable[[str, int, int], str]) -> None:
        for number, (_sock, path) in self._members.items():
            if wrong := check(path, number * BODY_STRIDE, self._size):
                self.outcome.errors[f"read back: {wrong}"] += 1
            else:
                self.outcome.identical += 1

    def _send_piece(self, number: int, piece: int) -> None:
        sock, _path = self._members[number]
        try:
            sock.sendall(self._piece(number, piece))
        except OSError as error:
            self.outcome.errors[f"trickle: {error}"] += 1
            sock.close()
            del self._members[number]

    def _piece(self, number: int, piece: int) -> bytes:
        return bytes(window(number * BODY_STRIDE + piece * self._piece_bytes, self._piece_bytes))


def _read_head(sock: socket.socket) -> tuple[int, bytes]:
    data = b""
    while True:
        found = measure_answer(data, True)
        if found and found[0] >= 200:
            return found[0], data[: found[1]]
        if found:
            data = data[found[1] :]
            continue
        more = sock.recv(65536)
        if not more:
            raise OSError("closed by the server")
        data += more
