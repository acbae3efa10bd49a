"""Clients that upload through anything, two to an upload with different bytes, and note all that they see.

A `Writer` knows no better than any tus client: it asks for the offset, sends from there, and tries again after what
clients try again after. Whether what it saw can be is left to `replicahistory`.
"""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from faultclient import BASE_PATH, Answer, Client, Connection, LostError, checksum, patch_headers, path_of
from replicahistory import REFUSALS, Event, History

PAUSE_SECONDS = 0.03
STALL_SECONDS = 0.9
END_SECONDS = 90.0
"""In which every upload comes to its end once nothing goes wrong any more."""


@dataclass
class Track:
    """The uploads that some writers share, one after the other: whoever comes first makes the next one."""

    lengths: Sequence[int]
    paths: dict[int, str] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def length(self, number: int) -> int:
        return self.lengths[number % len(self.lengths)]


class Writer(threading.Thread):
    """Uploads one of its track after the other until `is_over`, and then ends the one that it is at."""

    def __init__(self, name: str, seed: str, client: Client, track: Track, history: History) -> None:
        super().__init__(name=name, daemon=True)
        self.error: BaseException | None = None
        self.finished = 0
        self.refused = 0
        self.is_over = threading.Event()
        self.is_given_up = False
        self._rng = random.Random(f"{seed}/{name}")
        self._client = client
        self._track = track
        self._history = history

    def run(self) -> None:
        try:
            number = 0
            while not self.is_over.is_set():
                self._upload(number)
                number += 1
        except BaseException as error:
            self.error = error

    def _upload(self, number: int) -> None:
        path = self._created(number)
        length = self._track.length(number)
        data = self._rng.randbytes(length)
        self._history.data[self.name, path] = data
        offset: int | None = None
        while offset != length:
            offset = self._patch(path, offset, data) if offset is not None else self._head(path)
        while not self._read_back(path):
            self._head(path)  # what drives on an upload whose server died when it was about to finish it
        self.finished += 1

    def _created(self, number: int) -> str:
        with self._track.lock:
            while number not in self._track.paths:
                began = time.monotonic()
                headers = {"Upload-Length": str(self._track.length(number)), "Content-Length": "0"}
                answer = self._asked("POST", BASE_PATH, headers)
                if answer is None or answer.status != 201:
                    assert answer is None or answer.status in REFUSALS, answer
                    self.refused += 1
                    self._pause()
                else:
                    path = self._track.paths[number] = path_of(answer)
                    event = self._history.invoke(self.name, path, "POST")
                    event.invoked, event.returned = began, time.monotonic()
                    event.status, event.offset = 201, 0
            return self._track.paths[number]

    def _head(self, path: str) -> int | None:
        event = self._history.invoke(self.name, path, "HEAD")
        answer = self._asked("HEAD", path, {})
        return self._noted(event, answer)

    def _read_back(self, path: str) -> bool:
        event = self._history.invoke(self.name, path, "GET")
        answer = self._asked("GET", path, {})
        if answer is not None and answer.status == 200:
            event.content = self._history.keep(answer.body)
        self._noted(event, answer)
        return event.status == 200

    def _asked(self, method: str, path: str, headers: dict[str, str]) -> Answer | None:
        try:
            return self._client.ask(method, path, headers)
        except (LostError, TimeoutError):
            return None

    def _patch(self, path: str, offset: int, data: bytes) -> int | None:
        end = min(len(data), offset + int(self._rng.expovariate(4 / len(data))) + 1)
        body = data[offset:end]
        is_checked, stalls = self._rng.random() < 0.2, self._rng.random() < 0.1
        headers = patch_headers(offset, len(body), Upload_Checksum=checksum(body) if is_checked else None)
        event = self._history.invoke(self.name, path, "PATCH", offset, end)
        answer = None
        try:
            with self._client.connect() as connection:
                connection.begin("PATCH", path, headers)
                answer = self._sent(connection, body, stalls=stalls)
        except (LostError, TimeoutError):
            pass
        return self._noted(event, answer)

    def _sent(self, connection: Connection, body: bytes, *, stalls: bool) -> Answer:
        middle = len(body) // 2
        connection.send(body[:middle])
        if stalls:
            connection.has_answer(STALL_SECONDS)  # long enough that whoever asks gets the upload
        connection.try_to_send(body[middle:])
        return connection.answer()

    def _noted(self, event: Event, answer: Answer | None) -> int | None:
        """The offset to go on from, if that is known now."""
        if answer is None:
            self._pause()
            return None
        event.status = answer.status
        offset = answer.headers.get("upload-offset")
        event.offset = None if offset is None else int(offset)
        event.returned = time.monotonic()
        if answer.status >= 300:
            self.refused += 1
            self._pause()
            return None
        return event.offset

    def _pause(self) -> None:
        """The client's own, before it tries again."""
        if self.is_given_up:
            sys.exit("the test has failed")
        time.sleep(self._rng.uniform(0, 2 * PAUSE_SECONDS))


@contextmanager
def writing(writers: list[Writer]) -> Iterator[list[Writer]]:
    """They write, and in the end each comes to the end of its upload; raises what went wrong in one."""
    for writer in writers:
        writer.start()
    try:
        yield writers
    except BaseException:
        for writer in writers:
            writer.is_given_up = True
        raise
    finally:
        for writer in writers:
            writer.is_over.set()
        deadline = time.monotonic() + END_SECONDS
        for writer in writers:
            writer.join(max(0.0, deadline - time.monotonic()))
    for writer in writers:
        if writer.error is not None:
            raise writer.error
        assert not writer.is_alive(), f"{writer.name} does not come to an end"
