"""What is done with open files, whatever they are for: whole writes, bounded reads, the way to the disk."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

WRITE_BYTES = 32 * 1024
"""For larger ones the kernel takes larger pieces of memory into its page cache. A virtual machine has often given those
back to its host, and getting them again is dear: 1.6 CPU s/GiB with writes of 256 KiB, where these took 0.6."""


class UnsyncedError(OSError):
    """The disk did not take what the page cache holds; the kernel tells this once and forgets."""


def sync_data(descriptor: int) -> None:
    """Bring a file's bytes to the disk. Raises UnsyncedError: then what was not synced before may be lost."""
    try:
        os.fdatasync(descriptor)
    except OSError as error:
        raise UnsyncedError(error.errno, error.strerror) from error


def sync_directory(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: str) -> bool:
    """Whether there was something to remove."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    return True


def write_all(descriptor: int, data: memoryview | bytes, position: int) -> None:
    """Write all of `data` at `position`; a disk that fills up takes what fits before it raises."""
    while data:
        piece = data if len(data) <= WRITE_BYTES else memoryview(data)[:WRITE_BYTES]
        count = os.pwrite(descriptor, piece, position)
        if count == len(data):
            return
        data = memoryview(data)[count:]
        position += count


def read_all(descriptor: int, start: int, piece_bytes: int) -> bytes:
    """Everything from `start` on; in one call if it is less than `piece_bytes`."""
    text = piece = os.pread(descriptor, piece_bytes, start)
    while len(piece) == piece_bytes:
        piece = os.pread(descriptor, piece_bytes, start + len(text))
        text += piece
    return text


def read_pieces(descriptor: int, start: int, end: int, piece_bytes: int) -> Iterator[bytes]:
    """The bytes [start, end) in pieces. Raises EIO if the file is shorter: the bytes were lost."""
    while start < end:
        piece = os.pread(descriptor, min(piece_bytes, end - start), start)
        if not piece:
            raise OSError(errno.EIO, "the file is shorter than its record says")
        yield piece
        start += len(piece)
