"""The load of one round: what is asked of a server, in how many client processes, and what came of it.

A `Load` says what to do; `run_load` does it in fresh processes that connect first and start together.
"""

from __future__ import annotations

import gc
import itertools
import multiprocessing
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from time import perf_counter
from typing import Any

from benchengine import Answer, Engine, Request, Script, StalledError
from benchwire import Target, location_of, offset_of

READY_SECONDS = 60.0
# Two uploads whose numbers follow each other have other bytes at every place.
BODY_STRIDE = 4099


@dataclass(frozen=True, kw_only=True)
class Load:
    """`count` uploads, or as many as begin within `seconds` if it is 0. Heads ask for `path`, of `size_bytes` and at
    `offset`; each connection asks `each` times, if it is not 0: else a server that lets one of them in and starves the
    others would look quick."""

    verb: str  # upload, create-with-upload, head
    size_bytes: int = 0
    piece_bytes: int = 0
    links: int = 1
    count: int = 0
    each: int = 0
    seconds: float = 0.0
    first_number: int = 0
    path: str = ""
    offset: int = 0
    notes_all: bool = False  # uploads, to be read back; else the last of each process


@dataclass
class Outcome:
    """`samples` are uploads to be read back: path, start in the pattern, length."""

    begin: float = 0.0
    end: float = 0.0
    cpu_seconds: float = 0.0
    busiest: float = 0.0  # share of its time that the busiest client process worked
    done: int = 0
    latencies: dict[str, array[float]] = field(default_factory=dict)
    errors: Counter[str] = field(default_factory=Counter)
    samples: list[tuple[str, int, int]] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return self.end - self.begin

    def add(self, other: Outcome) -> None:
        self.begin = min(self.begin, other.begin) if self.begin else other.begin
        self.end = max(self.end, other.end)
        self.cpu_seconds += other.cpu_seconds
        self.busiest = max(self.busiest, other.busiest)
        self.done += other.done
        self.errors += other.errors
        self.samples += other.samples
        for kind, seconds in other.latencies.items():
            self.latencies.setdefault(kind, array("d")).extend(seconds)


class _Driver:
    """One client process: the scripts of its share of a load."""

    def __init__(self, target: Target, load: Load, share: int, shares: int) -> None:
        self.engine = Engine(target)
        self.done = 0
        self.samples: list[tuple[str, int, int]] = []
        self._target, self._load = target, load
        self._share, self._shares = share, shares
        self._numbers = self._count()
        self._links = len(range(share, load.links, shares))

    def connect(self) -> None:
        script = {"upload": self._upload, "create-with-upload": self._create_with_upload, "head": self._head}
        self.engine.connect(script[self._load.verb]() for _ in range(self._links))

    def run(self) -> None:
        self._deadline = perf_counter() + self._load.seconds
        try:
            self.engine.run()
        except StalledError as error:
            self.engine.errors[str(error)] += 1

    def _count(self) -> Iterator[int]:
        """Numbers of uploads, shared by all scripts, until there are enough or time is up."""
        numbers = itertools.count(self._share, self._shares)
        load = self._load
        for number in numbers:
            if (load.count and number >= load.count) or (not load.count and perf_counter() >= self._deadline):
                return
            yield load.first_number + number

    def _is_good(self, kind: str, answer: Answer | None, statuses: tuple[int, ...], offset: int) -> bool:
        assert answer is not None  # nothing is cut here
        if answer.status in statuses and offset_of(answer.head) == offset:
            return True
        if answer.status:  # a lost connection is counted where it is lost
            detail = f" at offset {offset_of(answer.head)}" if answer.status in statuses else ""
            self.engine.errors[f"{kind}: {answer.status}{detail} {answer.body[:80]!r}"] += 1
        return False

    def _upload(self) -> Script:
        target, size, piece = self._target, self._load.size_bytes, self._load.piece_bytes
        for number in self._numbers:
            answer = yield Request("POST", target.post(size))
            assert answer is not None
            if not self._is_good("POST", answer, (201,), offset_of(answer.head)):
                continue
            path, start = target.path_of(location_of(answer.head)), number * BODY_STRIDE
            for offset in range(0, size, piece):
                length = min(piece, size - offset)
                answer = yield Request("PATCH", target.patch(path, offset, length), start + offset, length)
                if not self._is_good("PATCH", answer, (204, 200), offset + length):
                    break
            else:
                self._note(path, start)

    def _create_with_upload(self) -> Script:
        target, size = self._target, self._load.size_bytes
        head = target.post(size, size)
        for number in self._numbers:
            answer = yield Request("POST", head, number * BODY_STRIDE, size)
            assert answer is not None
            # Some leave Upload-Offset out; that the bytes are there is seen when the sample is read back.
            offset = offset_of(answer.head)
            if self._is_good("POST", answer, (201,), -1 if offset == -1 else size):
                self._note(target.path_of(location_of(answer.head)), number * BODY_STRIDE)

    def _head(self) -> Script:
        request = Request("HEAD", self._target.plain("HEAD", self._load.path), has_no_body=True)
        for _ in range(self._load.each) if self._load.each else self._numbers:
            if self._is_good("HEAD", (yield request), (200, 204), self._load.offset):
                self.done += 1

    def _note(self, path: str, start: int) -> None:
        self.done += 1
        if not self._load.notes_all:
            self.samples.clear()
        self.samples.append((path, start, self._load.size_bytes))


def _drive(target: Target, load: Load, share: int, shares: int, pipe: Connection) -> None:
    try:
        driver = _Driver(target, load, share, shares)
        driver.connect()
    except OSError as error:
        pipe.send(f"cannot connect: {error}")
        return
    gc.disable()
    pipe.send("")
    pipe.recv()
    begin, before = perf_counter(), time.process_time()
    driver.run()
    end, cpu_seconds = perf_counter(), time.process_time() - before
    pipe.send(
        Outcome(
            begin=begin,
            end=end,
            cpu_seconds=cpu_seconds,
            busiest=cpu_seconds / (end - begin),
            done=driver.done,
            latencies=driver.engine.latencies,
            errors=driver.engine.errors,
            samples=driver.samples,
        )
    )


def run_load(target: Target, load: Load, processes: int, on_start: Callable[[], None] = lambda: None) -> Outcome:
    """Put the load on the server; `on_start` is called when all clients are connected, right before the clock runs."""
    context = multiprocessing.get_context("spawn")
    shares = min(processes, load.links)
    pipes, clients = [], []
    for share in range(shares):
        ours, theirs = context.Pipe()
        client = context.Process(target=_drive, args=(target, load, share, shares, theirs), daemon=True)
        client.start()
        theirs.close()
        pipes.append(ours)
        clients.append(client)
    try:
        for pipe in pipes:
            if complaint := _receive(pipe, READY_SECONDS):
                raise OSError(complaint)
        on_start()
        for pipe in pipes:
            pipe.send("go")
        outcome = Outcome()
        for pipe in pipes:
            outcome.add(_receive(pipe, None))
        return outcome
    finally:
        for pipe in pipes:
            pipe.close()
        for client in clients:
            client.join(5)
            client.kill()


def _receive(pipe: Connection, timeout_seconds: float | None) -> Any:
    if not pipe.poll(timeout_seconds):
        raise OSError("a client process does not start")
    try:
        return pipe.recv()
    except EOFError as error:
        raise OSError("a client process died") from error


def shrink(load: Load, share: float) -> Load:
    """The same load, smaller, for warming up."""
    pieces = max(1, round(load.size_bytes * share / max(load.piece_bytes, 1)))
    size = load.size_bytes
    if load.piece_bytes >= 1 << 20:  # a bulk case
        size = load.piece_bytes * pieces if load.piece_bytes < load.size_bytes else max(1, int(size * share))
    return replace(
        load,
        size_bytes=size,
        piece_bytes=min(load.piece_bytes, size),
        count=max(load.links, int(load.count * share)) if load.count else 0,
        seconds=load.seconds * share,
    )
