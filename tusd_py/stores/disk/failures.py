"""OSErrors of the disk in the words of the house: one place translates them, and logs once what to do."""

from __future__ import annotations

import errno
import logging

from tusd_py.errors import BackendError, Translation, storage_full
from tusd_py.logs import Seldom, event

log = logging.getLogger("tusd_py.disk")

_ADVICE = {
    errno.ENOSPC: "the disk is full: free space or move the upload directory to a larger one",
    errno.EDQUOT: "the disk quota is used up: raise it or free space",
    errno.EFBIG: "the file system does not take files this large: use another one for the upload directory",
    errno.EROFS: "the file system is read-only: remount it writable (look for disk errors in the kernel log)",
    errno.EACCES: "permission denied: let the server's user own the upload directory and the files in it",
    errno.EPERM: "permission denied: let the server's user own the upload directory and the files in it",
    errno.ENOENT: "it or its .tusd-py folder is gone: restore or mount it, or restart the server",
    errno.EEXIST: "there is a file of this name: choose another directory",
    errno.ENOTDIR: "a part of this path is a file: choose another directory",
    errno.EBADMSG: "this record is damaged: restore it from a backup, or remove it and the data beside it",
    errno.EIO: "the disk reports errors: look into the kernel log",
    errno.EMFILE: "too many open files: raise the limit (ulimit -n)",
    errno.ENFILE: "too many open files on this machine: raise fs.file-max",
}
_IS_FULL = {errno.ENOSPC, errno.EDQUOT}


def advice(error: OSError) -> str:
    """What to do about it."""
    return _ADVICE.get(error.errno or 0, error.strerror or "see the error")


class Failures:
    """Translates the failures of one directory. The client gets a fixed text, the log the path and what to do."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._seldom = Seldom()
        self._translation = Translation(self._translate)

    def translated(self) -> Translation:
        """A context: OSError becomes BackendError, 507 when there is no room, else 500. FileExistsError passes."""
        return self._translation

    def log(self, error: OSError) -> None:
        if not self._seldom.is_due(error.errno or 0):
            return
        # As text: who keeps log records must not keep, by its traceback, what was open.
        event(
            log,
            "StoreFailed",
            level=logging.ERROR,
            directory=self._directory,
            reason=str(error),
            advice=advice(error),
        )

    def _translate(self, error: BaseException) -> None:
        if not isinstance(error, OSError) or isinstance(error, FileExistsError):
            return
        self.log(error)
        if error.errno in _IS_FULL:
            raise storage_full() from error
        raise BackendError from error
