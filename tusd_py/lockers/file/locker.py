"""The file locker: `core.ports.Locker` over one directory, put together from the modules beside it."""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tusd_py.core.upload import UploadId
from tusd_py.errors import BackendError
from tusd_py.lockers.file.folder import Folder
from tusd_py.lockers.file.peers import Link, Peers
from tusd_py.lockers.file.ranges import LockFile
from tusd_py.lockers.holding import SharedLocker
from tusd_py.lockers.turns import Turns
from tusd_py.logs import Seldom, event

log = logging.getLogger("tusd_py.locks")

_TOUCH_SECONDS = 3600.0

_ADVICE = {
    errno.EACCES: "permission denied: let the server's user own the directory and the files in it",
    errno.EPERM: "permission denied: let the server's user own the directory and the files in it",
    errno.EROFS: "the file system is read-only: remount it writable (look for disk errors in the kernel log)",
    errno.ENOSPC: "the disk is full: free space",
    errno.ENOLCK: "the kernel has no room for locks, or the file system has none: use a local file system",
    errno.EMFILE: "too many open files: raise the limit (ulimit -n)",
    errno.ENFILE: "too many open files on this machine: raise fs.file-max",
}


class FileLocker(SharedLocker):
    """A `core.ports.Locker` for the processes that share `directory`; it must be on a local file system."""

    def __init__(self, directory: str | os.PathLike[str], timeout_seconds: float = 20.0) -> None:
        self._machine = _Machine(os.fspath(directory))
        self._machine.turns = Turns(timeout_seconds, self._machine)
        super().__init__(self._machine.turns)

    async def start(self) -> None:
        """Be reachable for the other processes and clean up after dead ones. Raises BackendError."""
        self._machine.open()
        self._machine.sweep()

    async def aclose(self) -> None:
        await self._machine.aclose()


class _Machine:
    """All processes that share the directory, seen from this one: a `turns.Beyond`."""

    turns: Turns

    def __init__(self, path: str) -> None:
        self._path = path
        self._folder = Folder(path)
        self._file = LockFile(self._folder.lock_path)
        self._peers: Peers | None = None
        self._touched_at = 0.0
        self._seldom = Seldom()

    def open(self) -> None:
        if self._file.is_open:
            return
        with self._translated():
            try:
                self._folder.open()
                self._file.open()
                self._peers = Peers(self._folder, self.turns, self._refresh)
                self._peers.listen()  # before any lock is taken: whoever has one can be asked for it
            except BaseException:
                self._file.close()
                self._folder.close()
                raise
        self._touched_at = time.monotonic()

    def sweep(self) -> None:
        with self._translated():
            self._folder.sweep()

    async def aclose(self) -> None:
        self._file.close()
        if self._peers is not None:
            await self._peers.aclose()
        self._folder.close()

    # turns.Beyond

    def claim(self, upload_id: UploadId) -> bool:
        try:
            self._be_open()
            is_mine = self._file.lock(upload_id)
            # Looked at while it is locked: whoever comes later finds this very file, locked.
            if not self._file.is_removed():
                return is_mine
            # Its locks say nothing any more. So it counts as taken: then everybody is asked before the next try, and
            # whoever is asked moves to the new file first.
            self._file.unlock(upload_id)
            self._move()
            return False
        except OSError as error:
            raise self._failure(error) from error

    def keep(self, _upload_id: UploadId) -> bool:
        return True

    async def is_taken(self, upload_id: UploadId) -> bool:
        return self._is_taken(upload_id)

    def _is_taken(self, upload_id: UploadId) -> bool:
        try:
            self._be_open()
            if self._file.is_removed():
                self._move()
            return self._file.is_locked(upload_id)
        except OSError as error:
            raise self._failure(error) from error

    def follow(self, upload_id: UploadId, ended: Callable[[], None]) -> Link:
        assert self._peers is not None  # noqa: S101  (opened by the claim that found it taken)
        return self._peers.follow(upload_id, lambda: self._is_taken(upload_id), ended)

    def let_go(self, upload_id: UploadId) -> None:
        self._file.unlock(upload_id)

    # Staying findable.

    def _be_open(self) -> None:
        self.open()
        if time.monotonic() - self._touched_at > _TOUCH_SECONDS:
            self._touched_at = time.monotonic()
            self._file.touch()
            self._be_listed()

    def _be_listed(self) -> None:
        if self._peers is not None and not self._folder.touch():
            self._peers.listen()

    def _refresh(self) -> None:
        try:
            if self._file.is_removed():
                self._move()
        except OSError as error:
            self._failure(error)

    def _move(self) -> None:
        self._folder.open()
        self._file.move()
        self._be_listed()

    # Failures.

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._failure(error) from error

    def _failure(self, error: OSError) -> BackendError:
        number = error.errno or 0
        if self._seldom.is_due(number):
            event(
                log,
                "LockerFailed",
                level=logging.ERROR,
                directory=str(self._path),
                reason=str(error),
                advice=_ADVICE.get(number, "see the reason"),
            )
        return BackendError("the server cannot lock uploads just now; the offset acknowledged so far is unharmed")
