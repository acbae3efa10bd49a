"""What is kept of an unfinished upload, so that the same command goes on with it after whatever ended this one.

A file for each, named by what is sent (path, size, time of change) and where to. It is locked while its upload runs, so
that two do not send the same; what was forgotten for a month is removed. Where nothing can be kept, as in a container
without a home, it is known as long as this process lives, and why is told.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import time
from dataclasses import dataclass

from tusd_py.client.answers import address

FORGOTTEN_SECONDS = 30 * 86_400
_MOST_BYTES = 1 << 20


class Taken(Exception):
    """Another process sends this file to the same place."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A file as it is now."""

    path: str
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: str, descriptor: int) -> Identity:
        status = os.fstat(descriptor)
        return cls(os.path.realpath(path), status.st_size, status.st_mtime_ns)


class Bookmark:
    """A context: holds the lock. Raises Taken. `why_unkept` says what went wrong where nothing can be kept."""

    def __init__(self, folder: str, identity: Identity, endpoint: str) -> None:
        self._folder = folder
        told = json.dumps([endpoint, identity.path, identity.size, identity.mtime_ns])
        self._path = os.path.join(folder, hashlib.sha256(told.encode("utf-8", "surrogateescape")).hexdigest()[:32])
        self._about = {"file": identity.path, "endpoint": endpoint}
        self._descriptor: int | None = None
        self.url = ""
        """Of the upload that was begun; "" if none was."""
        self.why_unkept = ""

    def __enter__(self) -> Bookmark:
        try:
            self._descriptor = self._locked()
            self.url = self._read(self._descriptor)
        except OSError as error:
            self._lose(error)
        return self

    def _locked(self) -> int:
        if not os.path.isabs(self._folder):
            raise OSError(errno.ENOENT, "no home directory")
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        _forget_old(self._folder)
        while True:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                os.close(descriptor)
                if isinstance(error, BlockingIOError):
                    raise Taken from None
                raise
            # Whoever finished between our two calls has removed the name of what we hold.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.stat(self._path)):
                    return descriptor
            os.close(descriptor)

    def __exit__(self, *_: object) -> None:
        if not self.url:
            self.remove()
        if self._descriptor is not None:
            os.close(self._descriptor)

    def keep(self, url: str) -> None:
        self.url = url
        written = json.dumps({**self._about, "url": url}).encode()
        if self._descriptor is None:
            return
        try:
            # One call, blanks over what was longer: Ctrl-C comes before it or after it.
            os.pwrite(self._descriptor, written.ljust(os.fstat(self._descriptor).st_size), 0)
        except OSError as error:
            self._lose(error)

    def forget(self) -> None:
        self.url = ""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)

    def remove(self) -> None:
        """The upload is finished."""
        self.forget()
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._path)

    def _lose(self, error: OSError) -> None:
        self.why_unkept = f"{self._folder}: {(error.strerror or str(error)).lower()}"

    def _read(self, descriptor: int) -> str:
        with contextlib.suppress(ValueError):
            kept = json.loads(os.pread(descriptor, _MOST_BYTES, 0))
            if isinstance(kept, dict) and isinstance(url := kept.get("url"), str):
                return address(self._about["endpoint"], url)
        return ""


def _forget_old(folder: str) -> None:
    limit = time.time() - FORGOTTEN_SECONDS
    for entry in os.scandir(folder):
        with contextlib.suppress(OSError):
            if entry.is_file(follow_symlinks=False) and entry.stat().st_mtime < limit:
                os.unlink(entry.path)
