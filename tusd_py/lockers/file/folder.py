"""The directory that the processes of one machine share: the lock file's path, and one socket for each process.

Every call here that touches names on the disk returns in microseconds and is made in the event loop: the directory
holds as many entries as there are processes. What is said over the sockets is left to `peers`.
"""

from __future__ import annotations

import errno
import os
import secrets
import socket
from contextlib import suppress

_SUFFIX = ".sock"
_UNFINISHED = ".new"
_BACKLOG = 128
_HAS_PROC = os.path.isdir("/proc/self/fd")


class Folder:
    """`path` and the sockets in it. Everything may raise OSError, if not said otherwise."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._directory = -1
        self._own_name: str | None = None
        self.lock_path = os.path.join(path, "lock")

    def open(self) -> None:
        """Make the directory if it is missing; may be repeated, and must be when the directory was removed."""
        os.makedirs(self._path, mode=0o700, exist_ok=True)
        directory = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        if self._directory >= 0:
            os.close(self._directory)
        self._directory = directory

    def close(self) -> None:
        """Also removes our socket. Never raises, may be called twice."""
        if self._directory < 0:
            return
        self.withdraw()
        os.close(self._directory)
        self._directory = -1

    def publish(self) -> socket.socket:
        """A new listening socket, under a name that only shows once it listens: who refuses is dead (`call`)."""
        name = f"{os.getpid()}-{secrets.token_hex(4)}{_SUFFIX}"
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.setblocking(False)
            listener.bind(self._address(name + _UNFINISHED))
            os.chmod(name + _UNFINISHED, 0o600, dir_fd=self._directory)
            listener.listen(_BACKLOG)
            os.rename(name + _UNFINISHED, name, src_dir_fd=self._directory, dst_dir_fd=self._directory)
        except BaseException:
            listener.close()
            raise
        self._own_name = name
        return listener

    def withdraw(self) -> None:
        """Remove our socket's name: nobody new comes. Never raises, may be called twice."""
        if self._own_name is not None:
            self._remove(self._own_name)
            self._own_name = None

    def touch(self) -> bool:
        """Tell those who clean up old files that our socket is in use. False: it is gone. Never raises."""
        try:
            os.utime(self._own_name or "", dir_fd=self._directory)
        except OSError:
            return False
        return True

    def others(self) -> list[str]:
        """The names of the other processes' sockets."""
        return [name for name in os.listdir(self._directory) if name.endswith(_SUFFIX) and name != self._own_name]

    def call(self, name: str) -> socket.socket | None:
        """A connection to another process, or None if it cannot be had at once. A dead one's socket is removed."""
        try:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        except OSError:
            return None
        connection.setblocking(False)
        try:
            connection.connect(self._address(name))
        except OSError as error:
            connection.close()
            if error.errno == errno.ECONNREFUSED:
                self._remove(name)
            return None
        return connection

    def sweep(self) -> None:
        """Remove what dead processes left."""
        for name in os.listdir(self._directory):
            if name.endswith((_SUFFIX, _SUFFIX + _UNFINISHED)) and name != self._own_name:
                # One that is being published refuses too, but its maker is not dead.
                if name.endswith(_UNFINISHED) and _is_running(name.partition("-")[0]):
                    continue
                if (connection := self.call(name)) is not None:
                    connection.close()

    def _address(self, name: str) -> str:
        # By way of the open directory, since an address must not be longer than 107 bytes; paths may.
        if _HAS_PROC:
            return f"/proc/self/fd/{self._directory}/{name}"
        return os.path.join(self._path, name)

    def _remove(self, name: str) -> None:
        # Somebody else was faster, or it stays: then it is tried again, and costs a refused call each time.
        with suppress(OSError):
            os.unlink(name, dir_fd=self._directory)


def _is_running(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True
