"""The folder in which the workers of one server keep their cells, and what they add up to.

The counters of dead workers are folded into one file by whoever looks and notices; their gauges are dropped. That file
names the files it contains, and these no longer count, so a crash between its rename and their removal changes nothing.
Who looks takes no lock, so nobody can keep him waiting: if the folded file changed meanwhile, he looks again.

Files of other makers, or of another version of this package, are neither counted nor touched.
"""

from __future__ import annotations

import fcntl
import os
import struct
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from tusd_py.metrics import cells
from tusd_py.metrics.catalogue import CELLS, GAUGES, LAYOUT
from tusd_py.metrics.cells import PREFIX, SUFFIX, UNFINISHED, Worker

_FOLDED = f"folded-{LAYOUT[:4].hex()}{SUFFIX}"
_FOLDING = f"folding-{LAYOUT[:4].hex()}.lock"

# Mark, layout, check sum of what follows, generation.
_HEAD = struct.Struct("=8s16sLQ")
_MARK = b"tusd_py+"

# A file that is being made shows for a millisecond; one this old was left by a crash.
_UNFINISHED_SECONDS = 60.0
# Folding happens once for each worker that dies, so a second look is rare already.
_LOOKS = 100


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`values` of all cells, and who is alive."""

    values: list[float]
    workers: tuple[Worker, ...]


@dataclass(frozen=True, slots=True)
class _Folded:
    """The counters of the dead, and the files that are contained."""

    generation: int
    values: list[float]
    names: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Seen:
    """A worker's file as it was found."""

    name: str
    worker: Worker
    values: memoryview[float]
    is_alive: bool


def alone(own: memoryview[float], slot: int) -> Snapshot:
    """Of one process that shares its numbers with nobody."""
    return Snapshot(list(own), (Worker(slot, os.getpid(), 0.0),))


class Folder:
    """Any number of processes and threads may look at once."""

    def __init__(self, path: str) -> None:
        self._path = path

    def snapshot(self) -> Snapshot:
        """All that was ever counted here, and the gauges of the living. Raises OSError."""
        for _ in range(_LOOKS):
            folded = self._read_folded()
            seen = list(self._read_workers(folded.names))
            if self._read_folded().generation == folded.generation:
                break
        else:
            raise OSError(f"the metrics in {self._path} change faster than they can be read")
        if any(not each.is_alive for each in seen) or self._has(folded.names):
            self._fold()
        values = _added(folded.values, seen)
        return Snapshot(values, tuple(sorted((each.worker for each in seen if each.is_alive), key=_order)))

    def _read_workers(self, contained: frozenset[str]) -> Iterator[_Seen]:
        for name in sorted(os.listdir(self._path)):
            if not name.startswith(PREFIX) or not name.endswith(SUFFIX) or name in contained:
                continue
            with suppress(OSError):  # folded and removed since: then the generation has changed
                content, is_alive = cells.read(self._join(name), is_touched=True)
                if (found := cells.parse(content)) is not None:
                    yield _Seen(name, *found, is_alive)

    def _read_folded(self) -> _Folded:
        try:
            descriptor = os.open(self._join(_FOLDED), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return _NOTHING_FOLDED
        with os.fdopen(descriptor, "rb") as file:
            return _parse_folded(file.read())

    # Folding.

    def _fold(self) -> None:
        """Add the dead to the folded file. Does nothing if somebody is at it, or the folder takes nothing now."""
        with suppress(OSError), self._folding():
            folded = self._read_folded()
            dead = [each for each in self._read_workers(folded.names) if not each.is_alive]
            left = [name for name in folded.names if self._has({name})]
            if dead:
                names = frozenset([*left, *(each.name for each in dead)])
                self._write_folded(_Folded(folded.generation + 1, _added(folded.values, dead), names))
                left = list(names)
            for name in left:
                os.unlink(self._join(name))
            self._sweep()

    @contextmanager
    def _folding(self) -> Iterator[None]:
        """Raises BlockingIOError if somebody else is at it."""
        descriptor = os.open(self._join(_FOLDING), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        finally:
            os.close(descriptor)

    def _write_folded(self, folded: _Folded) -> None:
        path = self._join(_FOLDED)
        with open(path + UNFINISHED, "wb", opener=_private) as file:
            file.write(_packed(folded))
        os.rename(path + UNFINISHED, path)

    def _sweep(self) -> None:
        """Remove what workers left that died while they made their files."""
        for name in os.listdir(self._path):
            if name.startswith(PREFIX) and name.endswith(SUFFIX + UNFINISHED):
                path = self._join(name)
                if os.stat(path).st_mtime < time.time() - _UNFINISHED_SECONDS:
                    os.unlink(path)

    def _has(self, names: frozenset[str] | set[str]) -> bool:
        return any(os.path.lexists(self._join(name)) for name in names)

    def _join(self, name: str) -> str:
        return os.path.join(self._path, name)


def _order(worker: Worker) -> tuple[int, float, int]:
    return worker.slot, worker.started_at, worker.pid


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _added(values: list[float], seen: list[_Seen]) -> list[float]:
    total = list(values)
    for each in seen:
        total = [a + b for a, b in zip(total, each.values, strict=True)]
        if not each.is_alive:
            for cell in GAUGES:
                total[cell] -= each.values[cell]
    return total


def _packed(folded: _Folded) -> bytes:
    rest = struct.pack(f"={CELLS}d", *folded.values) + "\n".join(sorted(folded.names)).encode()
    return _HEAD.pack(_MARK, LAYOUT, zlib.crc32(rest), folded.generation) + rest


def _parse_folded(content: bytes) -> _Folded:
    if len(content) < _HEAD.size + 8 * CELLS:
        return _NOTHING_FOLDED
    mark, layout, check, generation = _HEAD.unpack_from(content)
    rest = content[_HEAD.size :]
    if (mark, layout, check) != (_MARK, LAYOUT, zlib.crc32(rest)):
        return _NOTHING_FOLDED
    names = rest[8 * CELLS :].decode().split("\n")
    return _Folded(generation, list(struct.unpack_from(f"={CELLS}d", rest)), frozenset(names) - {""})


_NOTHING_FOLDED = _Folded(0, [0.0] * CELLS, frozenset())
