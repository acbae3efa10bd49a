"""Which uploads are unfinished, at one append for each change: nothing is created or removed on the way.

Each process appends to a journal of its own, `+<id>` before an upload's files are made and `-<id>` when it is finished
or gone. Unfinished is what has a `+` in any of them and a `-` in none; so an id must never come again. A `+` too many
costs the sweep one look; one too few would be an upload that never expires.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Self

from tusd_py.core.upload import UploadId, parse_id
from tusd_py.stores.disk.descriptors import read_all, remove, sync_data

LONG_BYTES = 256 * 1024
"""After so much what is over is left out: by then some 4,000 uploads came and went. Every sweep reads about this."""

_SUFFIX = ".journal"
_READ_BYTES = 1 << 20


class Journal:
    """The journals in `folder`, one of them our own: made when there is something to note, locked while we live.

    Any thread may use it. `in_background` runs a call soon, in another thread.
    """

    def __init__(
        self,
        folder: str,
        *,
        is_durable: bool,
        file_permissions: int,
        in_background: Callable[[Callable[[], None]], object],
    ) -> None:
        self.folder = folder
        self._is_durable = is_durable
        self._file_permissions = file_permissions
        self._in_background = in_background
        self._own: _Volume | None = None
        self._lock = threading.Lock()
        self._long_bytes = LONG_BYTES
        self._tidying = threading.Lock()
        self._is_tidy_due = False  # and called for

    def add(self, upload_id: UploadId) -> None:
        """Note an upload that is about to be made: what cannot be noted must not be made.

        So nothing is made either where the folder was, when it is gone or unmounted.
        """
        with self._lock:
            own = self._own
            if own is None or not own.is_in_place():
                own = self._begin_anew()
            self._append(own, b"+%b\n" % upload_id.encode())

    def sync(self) -> None:
        """Bring what was added to the disk."""
        own = self._own  # keeps it open, should another take its place
        if own is not None:
            own.sync()

    def drop(self, upload_id: UploadId) -> None:
        """Note that an upload is finished or gone. Where that cannot be written the next sweep finds out."""
        try:
            with self._lock:
                self._append(self._own or self._begin_anew(), b"-%b\n" % upload_id.encode())
        except OSError:
            pass

    def unfinished(self) -> set[UploadId]:
        """What was added and not dropped, by whichever process."""
        lines = self._lines(())
        return {upload_id for line in lines if (upload_id := _added(line)) and _opposite(line) not in lines}

    def tidy(self) -> None:
        """Take over the journals of dead processes, and shorten our own if it is long or gone. Never raises OSError."""
        if not self._tidying.acquire(blocking=False):
            return  # somebody does
        try:
            self._tidy()
        except OSError:
            pass  # the disk is full or away: all stays as it is
        finally:
            self._is_tidy_due = False
            self._tidying.release()

    def close(self) -> None:
        """Leave our journal to whoever sweeps next. May be called twice."""
        with self._lock:
            if self._own is not None:
                self._own.unlock()  # somebody may still refer to it
            self._own = None

    # Our own.

    def _append(self, own: _Volume, line: bytes) -> None:
        own.append(line)
        if own.size > self._long_bytes and not self._is_tidy_due:
            self._is_tidy_due = True
            self._in_background(self.tidy)

    def _begin_anew(self) -> _Volume:
        """Our first journal; or one for that which was removed under us: while it is open it can still be read."""
        text = b""
        if self._own is not None:
            with suppress(OSError):  # its disk is gone
                text = self._own.read()
        self._own = self._begin(text)
        return self._own

    def _begin(self, text: bytes) -> _Volume:
        return _Volume.begin(self.folder, self._file_permissions, text)

    # Everybody's.

    def _lines(self, except_for: Collection[str]) -> set[bytes]:
        """All lines of all journals, but for some of these."""
        for _ in range(10):
            lines: set[bytes] = set()
            try:
                for path in self._paths():
                    if path not in except_for:
                        lines.update(_read_lines(path))
                return lines
            except FileNotFoundError:
                if not os.path.isdir(self.folder):
                    raise
                # Somebody has just put this journal's lines into another: look again.
        return lines

    def _tidy(self) -> None:
        own = self._own
        others = (path for path in self._paths() if own is None or path != own.path)
        dead = list(filter(None, map(_Volume.seize, others)))
        if dead or (own is not None and (own.size > self._long_bytes or not own.is_in_place())):
            self._replace(own, dead)

    def _paths(self) -> list[str]:
        return [f"{self.folder}/{name}" for name in os.listdir(self.folder) if name.endswith(_SUFFIX)]

    def _replace(self, own: _Volume | None, dead: list[_Volume]) -> None:
        """Put what still matters of these into one new journal, our own from now on. A crash leaves lines twice."""
        texts = [each.read() for each in dead]
        text = own.read() if own else b""
        lines = {line for each in (*texts, text) for line in each.split(b"\n")}
        old = {each for each in (*dead, own) if each}
        kept = _still_needed(lines, self._lines({each.path for each in old}))
        new = self._begin(b"".join(line + b"\n" for line in kept)) if kept else None
        with self._lock:
            current = self._own  # `own`, with what was appended meanwhile, or one begun meanwhile
            if current:
                old.add(current)
                if later := current.read(len(text) if current is own else 0):
                    new = new or self._begin(b"")
                    new.append(later)
            self._own = new
            # What is alive here may take its share; what only others need (a `-`) goes when they are shortened.
            alive_bytes = sum(len(line) + 1 for line in kept if line.startswith(b"+"))
            self._long_bytes = max(LONG_BYTES, 3 * alive_bytes) + (new.size if new else 0)
        if new and self._is_durable:
            new.sync()
        for each in old:
            each.remove()


class _Volume:
    """One file of a journal, locked as long as it is open. Closed when nobody refers to it any more."""

    __slots__ = ("_descriptor", "_identity", "_is_torn", "path", "size")

    def __init__(self, path: str, descriptor: int) -> None:
        self._descriptor = descriptor
        self.path = path
        state = os.fstat(descriptor)
        self._identity = (state.st_ino, state.st_dev)
        self.size = state.st_size
        self._is_torn = False

    def __del__(self) -> None:
        os.close(self._descriptor)

    @classmethod
    def begin(cls, folder: str, file_permissions: int, text: bytes) -> Self:
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC
        while True:
            path = f"{folder}/{secrets.token_hex(8)}{_SUFFIX}"
            volume = cls(path, os.open(path, flags, file_permissions))
            try:
                if volume._lock(or_without=True) and volume.is_in_place():
                    if text:
                        volume.append(text)
                    return volume
            except OSError:
                volume.unlock()  # it is nobody's
                raise
            # Somebody thought, before we had the lock, that its process is dead.

    @classmethod
    def seize(cls, path: str) -> Self | None:
        """The volume of a dead process; None if its process lives, or somebody else has seized it."""
        try:
            volume = cls(path, os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC))
        except FileNotFoundError:
            return None
        return volume if volume._lock(or_without=False) and volume.is_in_place() else None

    def _lock(self, *, or_without: bool) -> bool:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # this file system has no locks, so nobody can tell who is dead
            return or_without
        return True

    def unlock(self) -> None:
        with suppress(OSError):
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def is_in_place(self) -> bool:
        """Whether others find it, and it is not in a directory that was removed, replaced or unmounted."""
        try:
            state = os.stat(self.path)
        except FileNotFoundError:
            return False
        return (state.st_ino, state.st_dev) == self._identity

    def append(self, text: bytes) -> None:
        if self._is_torn:
            text = b"?\n" + text  # so that what was torn is no id
        self._is_torn = True
        count = os.write(self._descriptor, text)
        self.size += count
        if count != len(text):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.path)
        self._is_torn = False

    def read(self, start: int = 0) -> bytes:
        """Whole lines, from `start` on."""
        text = read_all(self._descriptor, start, _READ_BYTES)
        return text[: text.rfind(b"\n") + 1]

    def sync(self) -> None:
        sync_data(self._descriptor)

    def remove(self) -> None:
        if self.is_in_place():
            remove(self.path)


def _read_lines(path: str) -> list[bytes]:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return read_all(descriptor, 0, _READ_BYTES).split(b"\n")[:-1]  # a torn last line is none
    finally:
        os.close(descriptor)


def _added(line: bytes) -> UploadId | None:
    return parse_id(line[1:].decode("ascii", "replace")) if line.startswith(b"+") else None


def _opposite(line: bytes) -> bytes:
    return (b"-" if line.startswith(b"+") else b"+") + line[1:]


def _still_needed(lines: set[bytes], others: set[bytes]) -> list[bytes]:
    """What is added and dropped nowhere, and what is dropped here and added elsewhere."""
    return [
        line
        for line in lines
        if (_added(line) and _opposite(line) not in lines and _opposite(line) not in others)
        or (line.startswith(b"-") and _opposite(line) in others)
    ]
