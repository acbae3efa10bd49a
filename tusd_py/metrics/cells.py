"""One worker's cells: doubles in a file that is mapped into memory, so that they outlive a killed worker.

    64 bytes of head   mark, layout, pid, slot, time of start
    8 bytes a cell     as the machine has them: the file never leaves it

The worker holds the file's flock while it lives; the kernel lets it go whatever the end. What is done with the files
of all workers is left to `folder`.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import secrets
import struct
import time
from contextlib import suppress
from dataclasses import dataclass

from tusd_py.metrics.catalogue import CELLS, LAYOUT

SUFFIX = ".cells"
UNFINISHED = ".new"
PREFIX = f"worker-{LAYOUT[:4].hex()}-"
HEAD_BYTES = 64
FILE_BYTES = HEAD_BYTES + 8 * CELLS

_MARK = b"tusd_py1"
_HEAD = struct.Struct("=8s16sqqd")


def anonymous() -> memoryview[float]:
    """Cells that no other process sees."""
    return memoryview(bytearray(8 * CELLS)).cast("d")


@dataclass(frozen=True, slots=True)
class Worker:
    """Who counts, or counted, in a file."""

    slot: int
    pid: int
    started_at: float


class OwnCells:
    """The file of this process. `cells` must not be used after `close`."""

    def __init__(self, descriptor: int, name: str) -> None:
        self.name = name
        self._descriptor = descriptor
        self._map = mmap.mmap(descriptor, FILE_BYTES)
        self.cells: memoryview[float] = memoryview(self._map)[HEAD_BYTES:].cast("d")

    @classmethod
    def create(cls, folder: str, slot: int) -> OwnCells:
        """Each start of a worker has a file of its own. Its name shows only when it is whole and locked."""
        name = f"{PREFIX}{slot}-{os.getpid()}-{secrets.token_hex(4)}{SUFFIX}"
        path = os.path.join(folder, name)
        os.makedirs(folder, mode=0o700, exist_ok=True)
        descriptor = os.open(path + UNFINISHED, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _write_all(descriptor, head(Worker(slot, os.getpid(), time.time())) + bytes(8 * CELLS))
            own = cls(descriptor, name)
            os.rename(path + UNFINISHED, path)
        except BaseException:
            os.close(descriptor)
            with suppress(OSError):
                os.unlink(path + UNFINISHED)
            raise
        return own

    def close(self) -> None:
        """Let go of the file, which stays. May be called twice."""
        if self._descriptor < 0:
            return
        self.cells.release()
        self._map.close()
        os.close(self._descriptor)
        self._descriptor = -1


def head(worker: Worker) -> bytes:
    return _HEAD.pack(_MARK, LAYOUT, worker.pid, worker.slot, worker.started_at).ljust(HEAD_BYTES, b"\0")


def parse(content: bytes) -> tuple[Worker, memoryview[float]] | None:
    """Whose cells these are and the cells, or None: not a file of ours, or not all of it."""
    if len(content) != FILE_BYTES:
        return None
    mark, layout, pid, slot, started_at = _HEAD.unpack_from(content)
    if (mark, layout) != (_MARK, LAYOUT):
        return None
    return Worker(slot, pid, started_at), memoryview(content)[HEAD_BYTES:].cast("d")


def read(path: str, *, is_touched: bool = False) -> tuple[bytes, bool]:
    """The content of a file and whether its worker lives. Raises OSError.

    First the lock, then the content: what is read of a dead worker is all it counted.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        is_alive = not _is_free(descriptor)
        if is_touched:
            os.utime(descriptor)  # cleaners of temporary folders look at this; counting does not change it
        return _read_all(descriptor), is_alive
    finally:
        os.close(descriptor)


def _is_free(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two who look do not see each other
    except BlockingIOError:
        return False
    return True


def _read_all(descriptor: int) -> bytes:
    # One byte more than there should be, to see files that are too long.
    return os.pread(descriptor, FILE_BYTES + 1, 0)


def _write_all(descriptor: int, content: bytes) -> None:
    # Written, not only sized: a hole that finds no room on the disk later would kill the process that counts in it.
    if os.write(descriptor, content) != len(content):
        raise OSError("no room for the metrics file")
