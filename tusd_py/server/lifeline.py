"""The socket between a supervisor and one worker, as the worker holds it, and the orders that come over it.

The first line is the worker's orders; after it the supervisor may only say `retire`. When the socket ends, the
supervisor is dead, and no worker outlives it. The worker says `ready`, `beat` while its loop turns, `leaving`, and
`refused` with the reason if it cannot start. Starting and watching workers is left to `supervise`.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

READY, BEAT, LEAVING, REFUSED = "ready", "beat", "leaving", "refused"
RETIRE = "retire"


@dataclass(frozen=True, slots=True)
class Orders:
    """What a worker is told. `slot` counts from 0, and its successor has the same; `folder` is for all workers of the
    supervisor, and theirs alone. `own` and `others` are descriptors of listening sockets: to accept on, and to look
    after in case their owner hangs; `operations` is for metrics and health, and all workers accept on it."""

    slot: int
    folder: str
    settings: dict[str, str]
    own: list[int]
    others: list[int]
    operations: list[int]

    def to_line(self) -> bytes:
        return json.dumps(asdict(self)).encode() + b"\n"


class Lifeline:
    """The worker's end. Reads its orders when made; raises ValueError if there is no supervisor at the other end."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        line = self._first_line()
        try:
            self.orders = Orders(**json.loads(line))
        except TypeError as error:
            raise ValueError(f"not orders: {line!r}") from error
        for each in (descriptor, *self.orders.own, *self.orders.others, *self.orders.operations):
            os.set_inheritable(each, False)  # programs that the worker starts must not hold the port
        self.is_orphan = False

    def _first_line(self) -> bytes:
        line = bytearray()
        while not line.endswith(b"\n"):  # byte by byte: what follows is `watch`'s
            byte = os.read(self._descriptor, 1)
            if not byte:
                raise ValueError("the supervisor said nothing")
            line += byte
        return bytes(line)

    def say(self, word: str, details: object = None) -> None:
        line = word if details is None else f"{word} {json.dumps(details)}"
        connection = socket.socket(fileno=self._descriptor)
        # A dead supervisor is noticed by `watch`; one that was stopped reads nothing, and must not stop us.
        with contextlib.suppress(OSError):
            connection.send(line.encode() + b"\n", socket.MSG_DONTWAIT)
        connection.detach()

    def refuse(self, message: str, exit_code: int) -> int:
        self.say(REFUSED, [message, exit_code])
        return exit_code

    def watch(self, *, retire: Callable[[], None], stop: Callable[[], None], end_within_seconds: float) -> None:
        """Call `retire` when told so, and `stop` when the supervisor is dead; a worker that hangs then is ended."""

        def listen() -> None:
            while heard := self._hear():
                if RETIRE.encode() in heard:
                    retire()
            self.is_orphan = True
            stop()
            time.sleep(end_within_seconds)
            os._exit(1)

        # A thread, because the loop may be what hangs.
        threading.Thread(target=listen, name="lifeline", daemon=True).start()

    def _hear(self) -> bytes:
        try:
            return os.read(self._descriptor, 4096)
        except OSError:
            return b""
