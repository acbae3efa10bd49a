"""The file of the queue: opened, made, found damaged or gone. For one thread; what is in it is left to `statements`.

A file that was removed or replaced while in use is noticed by its inode before and after each transaction, so nothing
is acknowledged that went into a file nobody will find. A damaged one is set aside, never used on and never deleted;
what was owed in it is found again in the stores.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

from tusd_py.errors import ConfigError
from tusd_py.jobs.sqlite.failures import code, is_damage, log
from tusd_py.jobs.sqlite.statements import SCHEMA, VERSION
from tusd_py.logs import event

_APPLICATION = 0x74757371  # "tusq": tells our files from other people's databases
_LONGEST_LOG_BYTES = 16 * 1024 * 1024

_BUSY_MILLISECONDS = 20
"""For how long SQLite waits before we ask again. Its pauses grow to a tenth of a second: who is in one while another
process writes and writes waits for more than a second."""

_Identity = tuple[int, int]


class Database:
    """`busy_seconds`: how long other processes are waited for."""

    def __init__(self, path: str, busy_seconds: float) -> None:
        self._path = path
        self._folder = os.path.dirname(path) or "."
        self._busy_seconds = busy_seconds
        self._connection: sqlite3.Connection | None = None
        self._identity: _Identity | None = None
        self.has_lost = False
        """Whether what was owed has gone with a file since this was last set to False."""

    def connection(self) -> sqlite3.Connection:
        """Raises sqlite3.Error or OSError, or ConfigError for a file that is not ours to use."""
        if self._connection is not None and self._identity != self._found():
            event(
                log,
                "JobsFileGone",
                level=logging.ERROR,
                path=self._path,
                advice="it was removed or replaced while in use: what was owed is found again in the store of uploads",
            )
            self.close()
            self.has_lost = True
        if self._connection is None:
            with self._alone():
                try:
                    self._connection = self._open()
                except sqlite3.DatabaseError as error:
                    if not is_damage(error):
                        raise
                    rebuild(self._path, str(error))
                    self.has_lost = True
                    self._connection = self._open()
                self._identity = self._found()
        return self._connection

    def begin(self, how: str) -> sqlite3.Connection:
        """A connection with a transaction. Waits while others write, but not for longer than `busy_seconds`."""
        connection = self.connection()
        end = time.monotonic() + self._busy_seconds
        while True:
            try:
                connection.execute(how)
                return connection
            except sqlite3.OperationalError as error:
                if code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                    raise

    def is_in_place(self) -> bool:
        """Whether what we write is what others find."""
        return self._identity == self._found()

    def set_aside(self, reason: str) -> None:
        """It is damaged. The next who asks for a connection gets one to a new file."""
        self.close()
        self.has_lost = True
        with self._alone():
            if self._found() == self._identity:  # else another process has done it
                rebuild(self._path, reason)

    def close(self) -> None:
        """May be called twice. Never raises."""
        if self._connection is not None:
            with suppress(sqlite3.Error):  # a damaged file says so once more
                self._connection.close()
            self._connection = None

    def _found(self) -> _Identity | None:
        try:
            found = os.stat(self._path)
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keeps other processes from opening the file or setting it aside: SQLite waits for nobody while a new file
        gets its journal."""
        try:
            folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ConfigError(f"the folder of the queue, {self._folder}, is not there: make or mount it") from error
        try:
            end = time.monotonic() + self._busy_seconds
            while True:
                try:
                    fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > end:
                        raise
                    time.sleep(0.01)
            yield
        finally:
            os.close(folder)

    def _open(self) -> sqlite3.Connection:
        # Before SQLite makes it: payloads may hold what only the server's user should read.
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(
            self._path, timeout=self._busy_seconds, isolation_level=None, check_same_thread=False
        )
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        def ask(what: str) -> int:
            return int(connection.execute(f"PRAGMA {what}").fetchone()[0])

        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]  # first: it meets most damage
        version, application = ask("user_version"), ask("application_id")
        is_new = version == application == tables == 0
        if not is_new and application != _APPLICATION:
            raise ConfigError(f"{self._path} is the database of another program: give the queue a file of its own")
        if version > VERSION:
            raise ConfigError(
                f"{self._path} was made by a newer tusd-py (version {version} of the file, this one knows {VERSION}):"
                " run that one, or give the queue another file"
            )
        if is_new:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA fullfsync = ON")
        connection.execute(f"PRAGMA journal_size_limit = {_LONGEST_LOG_BYTES}")
        if is_new:
            connection.executescript(
                f"BEGIN IMMEDIATE; {SCHEMA}; PRAGMA application_id = {_APPLICATION};"
                f" PRAGMA user_version = {VERSION}; COMMIT"
            )
        connection.execute(f"PRAGMA busy_timeout = {_BUSY_MILLISECONDS}")


def rebuild(path: str, reason: str = "an operator wanted it") -> str:
    """Set a queue's file aside, so that a new one is made; returns where it went. No process may be using it, but for
    those of this version, which notice."""
    aside = f"{path}.corrupt-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{os.getpid()}"
    os.rename(path, aside)  # first: without its log, what is left would look whole and lack what came last
    for suffix in ("-wal", "-shm"):
        with suppress(FileNotFoundError):
            os.rename(path + suffix, aside + suffix)
    folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    event(
        log,
        "JobsFileSetAside",
        level=logging.ERROR,
        path=path,
        to=aside,
        reason=reason,
        advice="a new file is made, and what was owed is found again in the store of uploads; dead jobs are in the old"
        " one, from which `sqlite3 FILE .recover` saves what it can",
    )
    return aside


def checked(path: str) -> str | None:
    """What SQLite finds wrong with a file when it reads all of it; None: nothing. For operators and tests."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        try:
            found = str(connection.execute("PRAGMA integrity_check(1)").fetchone()[0])
        except sqlite3.DatabaseError as error:
            return f"{error} ({code(error)})"
    return None if found == "ok" else found
