"""What S3 refuses or fails at in the words of the house: one place translates it, and logs once what to do."""

from __future__ import annotations

import logging

from tusd_py.errors import BackendError, Translation, storage_full, upload_locked
from tusd_py.logs import Seldom, event
from tusd_py.stores.s3.chain import Superseded
from tusd_py.stores.s3.client import S3Error, Unclear
from tusd_py.stores.s3.diagnosis import fatal

log = logging.getLogger("tusd_py.s3")

_ADVICE = {
    "AccessDenied": "the credentials may not do this: see the permissions that `tusd-py check` names",
    "Forbidden": "the credentials may not do this: see the permissions that `tusd-py check` names",
    "QuotaExceeded": "the quota is used up: raise it or free space",
    "XMinioStorageFull": "the storage is full: free space",
}
_IS_FULL = {"QuotaExceeded", "XMinioStorageFull", "InsufficientStorage"}


def advice(error: Exception, bucket: str) -> str:
    """What to do about it; where it lies in settings, credentials or the network, as `tusd-py check` says it."""
    line = fatal(error, bucket)
    if line is not None:
        return line
    if isinstance(error, S3Error):
        return _ADVICE.get(error.code, "see the reason")
    if isinstance(error, Unclear):
        return "see whether the storage answers at the endpoint; clients try again meanwhile"
    return "see the error"


class Failures:
    """Translates the failures of one bucket. The client gets a fixed text, the log the call and what to do."""

    def __init__(self, bucket: str) -> None:
        self._bucket = bucket
        self._seldom = Seldom()
        self._translation = Translation(self._translate)

    def translated(self) -> Translation:
        """A context: S3Error, Unclear and OSError become BackendError, Superseded `upload_locked()`."""
        return self._translation

    def log(self, error: Exception) -> None:
        kind = error.code if isinstance(error, S3Error) else type(error).__name__
        if self._seldom.is_due(kind):
            told = advice(error, self._bucket)
            event(log, "StoreFailed", level=logging.ERROR, bucket=self._bucket, reason=str(error), advice=told)

    def _translate(self, error: BaseException) -> None:
        if isinstance(error, Superseded):
            raise upload_locked() from error
        if isinstance(error, FileExistsError) or not isinstance(error, S3Error | Unclear | OSError | ValueError):
            return
        self.log(error)
        if isinstance(error, S3Error) and error.code in _IS_FULL:
            raise storage_full() from error
        if isinstance(error, Unclear):
            raise BackendError(
                "the storage does not answer just now; the offset acknowledged so far is unharmed",
                code="ERR_STORAGE_UNAVAILABLE",
                status=503,
            ) from error
        raise BackendError from error
