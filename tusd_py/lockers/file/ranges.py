"""One lock file for any number of names: each name is one byte of it, locked or not.

The kernel keeps these locks, so they end with the process that has them, whatever ends it (failures F23), nothing is
written and locking costs one system call. They exclude other processes only: within a process somebody else keeps
order, and each process opens the file once. The file must not be inherited by forked children, which would keep it
locked; Python's exec'd ones do not inherit it. Nobody is woken here; that is for `peers`.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import struct
import sys
from functools import lru_cache

from tusd_py.logs import event

log = logging.getLogger("tusd_py.locks")

_FLOCK = struct.Struct("hhqqi0q")  # l_type, l_whence, l_start, l_len, l_pid of Linux
_HAS_OFD = sys.platform == "linux" and hasattr(fcntl, "F_OFD_SETLK")


@lru_cache(maxsize=4096)
def _position(name: str) -> int:
    """62 bits: two names on one byte are less likely than an undetected disk error, and offsets are 63 bits."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big") >> 2


class LockFile:
    """The file at `path`, opened by this process. Everything may raise OSError, if not said otherwise."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file = -1
        self._held: dict[str, int] = {}

    @property
    def is_open(self) -> bool:
        return self._file >= 0

    def open(self) -> None:
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._file = file
        self.touch()

    def close(self) -> None:
        """Gives back every lock. Never raises, may be called twice."""
        if self.is_open:
            os.close(self._file)
        self._file = -1
        self._held.clear()

    def touch(self) -> None:
        """Tell those who clean up old files that this one is in use."""
        os.utime(self._file)

    def lock(self, name: str) -> bool:
        """Take `name` if nobody has it. Counts only if the file `is_removed` not afterwards."""
        position = _position(name)
        is_mine = _set(self._file, position, fcntl.F_WRLCK)
        if is_mine:
            self._held[name] = position
        return is_mine

    def unlock(self, name: str) -> None:
        """Never raises."""
        position = self._held.pop(name, None)
        if position is None:
            return  # closed meanwhile, which gave it back
        try:
            _set(self._file, position, fcntl.F_UNLCK)
        except OSError as error:
            advice = "locked for other processes until this one ends"
            event(log, "UnlockFailed", level=logging.ERROR, error=error, id=name, advice=advice)

    def is_locked(self, name: str) -> bool:
        """Whether another process has `name`."""
        return _is_set(self._file, _position(name))

    def is_removed(self) -> bool:
        """Whether somebody removed the file, so that its locks exclude nobody who comes later."""
        return os.fstat(self._file).st_nlink == 0

    def move(self) -> None:
        """Go on with a new file at the same path and take everything held here along."""
        advice = "made again; leave it alone while a server runs"
        event(log, "LockFileRemoved", level=logging.WARNING, path=self._path, advice=advice)
        old = self._file
        self.open()
        for name, position in dict(self._held).items():
            if not _set(self._file, position, fcntl.F_WRLCK):
                reason = "the lock file was removed and another process has the upload now"
                event(log, "LockLost", level=logging.ERROR, id=name, reason=reason)
                del self._held[name]
        os.close(old)


def _set(file: int, position: int, kind: int) -> bool:
    """False: somebody else has it."""
    try:
        if _HAS_OFD:
            fcntl.fcntl(file, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, position, 1, 0))
        else:
            # Owned by the process, not by the descriptor: the same as long as the file is opened once and stays open.
            flags = fcntl.LOCK_UN if kind == fcntl.F_UNLCK else fcntl.LOCK_EX | fcntl.LOCK_NB
            fcntl.lockf(file, flags, 1, position)
    except BlockingIOError:
        return False
    return True


def _is_set(file: int, position: int) -> bool:
    if _HAS_OFD:
        found = fcntl.fcntl(file, fcntl.F_OFD_GETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, position, 1, 0))
        return bool(_FLOCK.unpack(found)[0] != fcntl.F_UNLCK)
    # There is no portable question. Who tries just now finds it taken for a moment, and tries again.
    if not _set(file, position, fcntl.F_WRLCK):
        return True
    _set(file, position, fcntl.F_UNLCK)
    return False
