"""The digest of a whole upload: computed as its bytes pass, and read once more only where no one process saw them all.

It costs no pass over the bytes as long as the bodies of an upload come to one process, one after the other.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import anyio.lowlevel

from tusd_py.core.checksum import Buffer
from tusd_py.core.upload import Upload, UploadId

ALGORITHMS = ("sha256", "sha512")

Running = Any
"""A hasher of hashlib's, over an upload's bytes from the first one on."""


@dataclass(frozen=True, slots=True)
class Digest:
    """What a finished upload's record is to have; `seen` is its value, if it is known without reading the bytes."""

    algorithm: str
    seen: bytes | None = None

    async def text(self, read_back: Callable[[], AsyncIterator[Buffer]]) -> str:
        """`<algorithm>:<hex>`; `read_back()` yields all the bytes of the upload."""
        value = self.seen
        if value is None:
            hasher = hashlib.new(self.algorithm)
            async for piece in read_back():
                hasher.update(piece)
                await anyio.lowlevel.checkpoint()  # others must not wait for all of it
            value = hasher.digest()
        return f"{self.algorithm}:{value.hex()}"


class Digests:
    """The running digests of the uploads that this process receives. `algorithm` is one of ALGORITHMS, or empty: none
    are wanted."""

    def __init__(self, algorithm: str = "", capacity: int = 10_000) -> None:
        self._algorithm = algorithm
        self._capacity = capacity
        self._running: OrderedDict[UploadId, tuple[int, Running]] = OrderedDict()

    def begin(self, upload: Upload) -> Running | None:
        """What the next body is to be added to; None where this process has not seen all before it."""
        if not self._algorithm:
            return None
        if upload.offset == 0:
            return hashlib.new(self._algorithm)
        offset, running = self._running.pop(upload.id, (0, None))
        return running if offset == upload.offset else None

    def keep(self, upload: Upload, running: Running | None) -> None:
        """`running` has all the bytes before the upload's offset, and no others."""
        if running is None:
            return
        self._running[upload.id] = upload.offset, running
        if len(self._running) > self._capacity:
            self._running.popitem(last=False)

    def of(self, upload: Upload) -> Digest | None:
        """What to finish the upload with, which has all its bytes."""
        if not self._algorithm:
            return None
        offset, running = self._running.pop(upload.id, (0, None))
        if upload.length == 0:
            running = hashlib.new(self._algorithm)
        is_whole = running is not None and offset == upload.length
        return Digest(self._algorithm, running.digest() if is_whole else None)
