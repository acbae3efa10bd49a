"""Clients that upload through any number of deaths of their servers, and hold every server to what it answered.

A `Fleet` is the servers of one directory, killed and started again; an `Uploader` is one client in a thread, busy with
one `Job` after the other. A job asserts after each lost connection that no acknowledged byte is gone and no byte is
counted that was never sent (failures F1, F11), and in the end reads everything back.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from faultclient import BASE_PATH, Client, LostError, checksum, chunk, patch_headers, path_of
from faultserver import Server

MAX_LENGTH_BYTES = 2_000_000
UPLOAD_TYPE = "application/offset+octet-stream"
RELOCATE_SECONDS = 20.0


class Fleet:
    """Servers on one directory; those that are up can be had from `pick`."""

    def __init__(self, servers: list[Server]) -> None:
        self.servers = servers
        self.is_over = threading.Event()
        self.unanswered_creations = 0
        self._up = {server.port for server in servers}
        self._changed = threading.Condition()

    def pick(self, rng: random.Random) -> Client:
        """Some server that is up; waits for one."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._up, RELOCATE_SECONDS)
            return Client(rng.choice(sorted(self._up)))

    def kill(self, server: Server) -> None:
        with self._changed:
            self._up.discard(server.port)
        server.kill()

    def restart(self, server: Server) -> None:
        server.start()
        with self._changed:
            self._up.add(server.port)
            self._changed.notify_all()

    def end(self, uploaders: Iterable[Uploader]) -> None:
        """Let every uploader come to the end of its job."""
        self.is_over.set()
        for uploader in uploaders:
            uploader.join(60)

    def lose_creation(self) -> None:
        with self._changed:
            self.unanswered_creations += 1


@dataclass
class Job:
    """One upload of `content`. `acknowledged` was answered, `sent` is how far bytes were ever handed to a socket."""

    fleet: Fleet
    rng: random.Random
    content: bytes
    is_partial: bool = False
    path: str | None = None
    acknowledged: int = 0
    sent: int = 0
    atomic: tuple[int, int] | None = None

    def run(self) -> None:
        while self.path is None or self.acknowledged < len(self.content):
            client = self.fleet.pick(self.rng)
            try:
                if self.path is None:
                    self._create(client)
                offset = self.check(client)
                while offset < len(self.content):
                    self._append(self.fleet.pick(self.rng) if self.rng.random() < 0.3 else client, offset)
                    offset = self.acknowledged
            except LostError:
                continue

    def check(self, client: Client) -> int:
        """HEAD, while this job is not sending."""
        assert self.path is not None
        answer = client.head(self.path)
        assert answer.status == 200, answer
        assert self.acknowledged <= answer.offset <= self.sent, (self.acknowledged, answer.offset, self.sent)
        if self.atomic is not None:
            assert answer.offset in self.atomic  # failures F11: whole or not at all
        self.acknowledged = answer.offset
        return answer.offset

    def watch(self, client: Client) -> None:
        """HEAD, while this job may be sending."""
        if self.path is None:
            return
        before = self.acknowledged
        answer = client.head(self.path)
        assert answer.status == 200, answer
        assert before <= answer.offset <= self.sent, (before, answer.offset, self.sent)

    def verify(self, client: Client) -> None:
        assert self.path is not None
        assert client.offset(self.path) == len(self.content)
        assert client.content(self.path) == self.content

    def _create(self, client: Client) -> None:
        size = len(self.content)
        first = self.rng.randrange(size + 1) if self.rng.random() < 0.3 else 0
        headers = {
            "Upload-Length": str(size),
            "Upload-Concat": "partial" if self.is_partial else None,
            "Content-Length": str(first),
            "Content-Type": UPLOAD_TYPE if first else None,
        }
        try:
            with client.connect() as connection:
                connection.begin("POST", BASE_PATH, headers)
                for piece in self._pieces(0, first):
                    connection.send(piece)
                answer = connection.answer("POST")
        except LostError:
            self.fleet.lose_creation()
            raise
        assert (answer.status, answer.offset) == (201, first), answer
        self.sent = first
        self.acknowledged = first
        self.path = path_of(answer)

    def _append(self, client: Client, offset: int) -> None:
        assert self.path is not None
        end = min(len(self.content), offset + int(self.rng.expovariate(1 / 300_000)) + 1)
        body = self.content[offset:end]
        kind = self.rng.choice(["plain", "chunked", "checksummed", "trailed"])
        self.atomic = (offset, end) if kind in ("checksummed", "trailed") else None
        is_chunked = kind in ("chunked", "trailed")
        headers = patch_headers(
            offset,
            None if is_chunked else len(body),
            Upload_Checksum=checksum(body) if kind == "checksummed" else None,
            Trailer="Upload-Checksum" if kind == "trailed" else None,
        )
        with client.connect() as connection:
            connection.begin("PATCH", self.path, headers)
            for piece in self._pieces(offset, end):
                connection.send(chunk(piece) if is_chunked else piece)
            if is_chunked:
                trailer = f"Upload-Checksum: {checksum(body)}\r\n" if kind == "trailed" else ""
                connection.send(b"0\r\n" + trailer.encode() + b"\r\n")
            answer = connection.answer()
        assert (answer.status, answer.offset) == (204, end), (kind, answer)
        self.acknowledged, self.atomic = end, None

    def _pieces(self, start: int, end: int) -> list[bytes]:
        """Counted as sent before they are."""
        pieces = []
        while start < end:
            size = self.rng.choice([1, 1000, 30_000, 100_000])
            pieces.append(self.content[start : min(start + size, end)])
            start += size
        self.sent = max(self.sent, end)
        return pieces


@dataclass
class Joined:
    """Partial uploads and the final one that is made of them, asked for at any time between."""

    fleet: Fleet
    rng: random.Random
    partials: list[Job]
    path: str | None = None

    @property
    def content(self) -> bytes:
        return b"".join(partial.content for partial in self.partials)

    def run(self) -> None:
        asked_at = self.rng.randrange(1, len(self.partials) + 1)
        for number, partial in enumerate(self.partials, 1):
            if number < asked_at:
                partial.run()
            else:
                self._create_partial(partial)
        self._join()
        for partial in self.partials:
            partial.run()
        self._join()  # a client that never got the answer asks again, and gets the same upload (failures F16)

    def _create_partial(self, partial: Job) -> None:
        while partial.path is None:
            try:
                partial._create(self.fleet.pick(self.rng))
            except LostError:
                continue

    def _join(self) -> None:
        while True:
            headers = {"Upload-Concat": "final;" + " ".join(str(partial.path) for partial in self.partials)}
            try:
                answer = self.fleet.pick(self.rng).ask("POST", BASE_PATH, headers)
            except LostError:
                continue
            assert answer.status == 201, answer
            assert self.path in (None, path_of(answer))
            self.path = path_of(answer)
            return

    def watch(self, client: Client) -> None:
        for partial in self.partials:
            partial.watch(client)

    def verify(self, client: Client) -> None:
        assert self.path is not None
        assert client.offset(self.path) == len(self.content)
        assert client.content(self.path) == self.content
        for partial in self.partials:
            partial.verify(client)


class Uploader(threading.Thread):
    """One client: does one job after the other until the fleet is over, and checks each at its end."""

    def __init__(self, fleet: Fleet, seed: str) -> None:
        super().__init__()
        self.jobs: list[Job | Joined] = []
        self.error: BaseException | None = None
        self._fleet = fleet
        self._rng = random.Random(seed)

    def run(self) -> None:
        try:
            while not self._fleet.is_over.is_set():
                job = self._new_job()
                self.jobs.append(job)
                job.run()
                self._verify(job)
        except BaseException as error:
            self.error = error
            self._fleet.is_over.set()

    def _new_job(self) -> Job | Joined:
        if self._rng.random() < 0.8:
            return self._new_upload()
        return Joined(self._fleet, self._rng, [self._new_upload(is_partial=True) for _ in range(3)])

    def _new_upload(self, *, is_partial: bool = False) -> Job:
        content = self._rng.randbytes(self._rng.randrange(MAX_LENGTH_BYTES))
        return Job(self._fleet, self._rng, content, is_partial)

    def _verify(self, job: Job | Joined) -> None:
        deadline = time.monotonic() + RELOCATE_SECONDS
        while True:
            try:
                job.verify(self._fleet.pick(self._rng))
                return
            except LostError:
                assert time.monotonic() < deadline


def check_uploaders(uploaders: Iterable[Uploader]) -> None:
    """All have ended, and none found anything wrong."""
    for uploader in uploaders:
        if uploader.error is not None:
            raise uploader.error
        assert not uploader.is_alive()


def check_records(directory: Path) -> int:
    """Every record is whole at every moment (failures F12), but for one that is just being made, of an upload that
    nobody was told of and that has no byte; returns how many there are."""
    records = list(directory.glob("*.info"))
    for record in records:
        with suppress(FileNotFoundError):  # deleted just now
            text = record.read_bytes()
            if text or record.with_suffix("").stat().st_size:
                assert json.loads(text)["ID"] == record.stem
    return len(records)
