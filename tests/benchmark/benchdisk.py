"""The disk under the servers: the same for all of them, in all rounds.

Two things would else decide more than the servers do. Memory that a virtual machine touches for the first time, also
for files, costs up to 3 s/GiB, and what is free goes back to the host within seconds, to be touched for the first time
again. And ext4 does not hand out an inode for minutes after its file was removed (60 s, 360 s if that is not written
back yet); for every new file nearby it looks at each of them again, which takes up to 15 times the CPU of a create, and
the server that creates is charged for what somebody else has removed.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import struct
import time
from contextlib import suppress
from pathlib import Path

SLOW_CREATE_MICROSECONDS = 100.0
FOLDER_TRIES = 10
PROBES = 10
PIECE_BYTES = 32 * 1024
"""Of scratch files. With larger ones a round after it has cost twice as much in two of five times: of memory in larger
pieces more is given back to the host meanwhile."""
TOUCHED_SHARE = 2.5
_GET_FLAGS, _SET_FLAGS, _TOP_FOLDER = 0x80086601, 0x40086602, 0x20000  # of linux/fs.h


def prepare_machine(folder: Path, size_bytes: int) -> None:
    """Before a round: the disk owes nothing, and memory for `size_bytes` of files has been touched just now.

    Enough of it also for a server that takes long.
    """
    os.sync()
    scratch = folder / "scratch"
    block = bytes(PIECE_BYTES)
    with open(scratch, "wb", buffering=0) as file:
        for _ in range(int(size_bytes * TOUCHED_SHARE) // PIECE_BYTES + 1):
            file.write(block)
    scratch.unlink()


def spread_folders(folder: Path) -> None:
    """Let ext4 put each new folder in this one elsewhere on the disk (as `chattr +T`), not beside its neighbours."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    with suppress(OSError):  # other file systems
        flags = fcntl.ioctl(descriptor, _GET_FLAGS, bytes(8))
        fcntl.ioctl(descriptor, _SET_FLAGS, struct.pack("l", struct.unpack("l", flags)[0] | _TOP_FOLDER))
    os.close(descriptor)


def fresh_folder(parent: Path, name: str) -> Path:
    """A new folder in a place where nothing was removed lately, if there is one: ext4 chooses it by the name."""
    best: tuple[float, Path] | None = None
    for _ in range(FOLDER_TRIES):
        folder = parent / f"{name}-{secrets.token_hex(3)}"
        folder.mkdir(parents=True)
        took = create_microseconds(folder)
        if best is None or took < best[0]:
            best = took, folder
        if took < SLOW_CREATE_MICROSECONDS:
            break
    assert best is not None
    return best[1]


def create_microseconds(folder: Path) -> float:
    """CPU to create a file there."""
    paths = [folder / f".probe-{number}" for number in range(PROBES)]
    before = time.thread_time()
    for path in paths:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
    took = time.thread_time() - before
    for path in paths:
        path.unlink()
    return round(took / PROBES * 1e6, 1)
