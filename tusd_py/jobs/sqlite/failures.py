"""What SQLite and the disk say went wrong, in the words of the house, and what to do about it."""

from __future__ import annotations

import logging
import sqlite3

from tusd_py.errors import BackendError, ConfigError, storage_full
from tusd_py.logs import Seldom, event

log = logging.getLogger("tusd_py.jobs")

MESSAGE = "the queue of jobs cannot be used at the moment; try again soon"

_LOCKED = "another process keeps it locked: end what has it open, such as a backup or a sqlite3 shell"
_UNKNOWN = "restore it from a backup, or move it away: a new one is made"
_SET_ASIDE = "it is damaged and was set aside; the line before says where"
_ADVICE = {
    sqlite3.SQLITE_BUSY: _LOCKED,
    sqlite3.SQLITE_LOCKED: _LOCKED,
    sqlite3.SQLITE_FULL: "the disk is full: free space, or move the queue to a larger one",
    sqlite3.SQLITE_IOERR: "the disk does not read or write: look for room, quotas, limits and errors in the kernel log",
    sqlite3.SQLITE_READONLY: "it is read-only: let the server's user own the file and folder, and mount them writable",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened: let the server's user own the file and folder, and mount the disk",
    sqlite3.SQLITE_PERM: "permission denied: let the server's user own the file and its folder",
    sqlite3.SQLITE_CORRUPT: _SET_ASIDE,
    sqlite3.SQLITE_NOTADB: _SET_ASIDE,
}
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_PASSING = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL}


def code(error: BaseException) -> int:
    """SQLite's primary code; 0 if it has none."""
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


def is_damage(error: BaseException) -> bool:
    return code(error) in _DAMAGED


def breaks_connection(error: BaseException) -> bool:
    """Whether it is better opened anew: not after what passes, or is the statement's own fault."""
    return type(error) in (sqlite3.OperationalError, sqlite3.DatabaseError) and code(error) not in _PASSING


def is_of_file(error: BaseException) -> bool:
    """Whether the file is to blame, and not the one call that met it."""
    return isinstance(error, OSError | ConfigError) or (isinstance(error, sqlite3.Error) and code(error) in _ADVICE)


class Failures:
    """Tells of the failures of one file."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._seldom = Seldom()

    def advice(self, error: BaseException) -> str | None:
        """What to do about it; None: it says so itself."""
        if isinstance(error, ConfigError):
            return None
        if isinstance(error, BlockingIOError):
            return _LOCKED
        return _ADVICE.get(sqlite3.SQLITE_CANTOPEN if isinstance(error, OSError) else code(error), _UNKNOWN)

    def translated(self, error: BaseException) -> BaseException:
        """As BackendError, 507 when there is no room; what no disk is to blame for as it is. Tells the log."""
        if not isinstance(error, sqlite3.Error | OSError | ConfigError):
            return error
        if self._seldom.is_due(code(error) or type(error)):
            event(
                log,
                "JobsFailed",
                level=logging.ERROR,
                path=self.path,
                reason=str(error),
                advice=self.advice(error),
            )
        is_full = code(error) == sqlite3.SQLITE_FULL
        told = storage_full() if is_full else BackendError(MESSAGE)
        told.__cause__ = error
        return told
