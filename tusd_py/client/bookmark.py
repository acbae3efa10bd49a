"""What is kept of an unfinished upload, so that the same command goes on with it after whatever ended this one.

A file for each, named by what is sent (path, size, time of change) and where to. It is locked while its upload runs, so
that two do not send the same; what was forgotten for a month is removed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import time
from dataclasses import dataclass

FORGOTTEN_SECONDS = 30 * 86_400


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
    """A context: holds the lock. Raises Taken."""

    def __init__(self, folder: str, identity: Identity, endpoint: str) -> None:
        self._folder = folder
        told = json.dumps([endpoint, identity.path, identity.size, identity.mtime_ns])
        self._path = os.path.join(folder, hashlib.sha256(told.encode("utf-8", "surrogateescape")).hexdigest()[:32])
        self._about = {"file": identity.path, "endpoint": endpoint}

    def __enter__(self) -> Bookmark:
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        _forget_old(self._folder)
        while True:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(self._descriptor)
                raise Taken from None
            # Whoever finished between our two calls has removed the name of what we hold.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(self._descriptor), os.stat(self._path)):
                    return self
            os.close(self._descriptor)

    def __exit__(self, *_: object) -> None:
        if not self.url:
            self.remove()
        os.close(self._descriptor)

    @property
    def url(self) -> str:
        """The URL of the upload that was begun; "" if none was."""
        with contextlib.suppress(ValueError):
            kept = json.loads(os.pread(self._descriptor, 1 << 16, 0))
            if isinstance(kept, dict) and isinstance(url := kept.get("url"), str):
                return url
        return ""

    def keep(self, url: str) -> None:
        written = json.dumps({**self._about, "url": url}).encode()
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, written, 0)

    def forget(self) -> None:
        os.ftruncate(self._descriptor, 0)

    def remove(self) -> None:
        """The upload is finished."""
        self.forget()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)


def _forget_old(folder: str) -> None:
    limit = time.time() - FORGOTTEN_SECONDS
    for entry in os.scandir(folder):
        with contextlib.suppress(OSError):
            if entry.is_file(follow_symlinks=False) and entry.stat().st_mtime < limit:
                os.unlink(entry.path)
