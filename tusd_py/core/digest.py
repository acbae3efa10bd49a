"""The digest of a whole upload: computed as its bytes pass, and read once more only where no one process saw them all.

It costs no pass over the bytes as long as the bodies of an upload come to one process, one after the other.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from tusd_py.core.checksum import ALGORITHMS, Buffer, Hasher, hash_all
from tusd_py.core.upload import Upload, UploadId


@dataclass(frozen=True, slots=True)
class Digest:
    """What a finished upload's record is to have; `seen` is its value, if it is known without reading the bytes."""

    algorithm: str
    seen: bytes | None = None

    async def text(self, read_back: Callable[[], AsyncIterator[Buffer]]) -> str:
        """`<algorithm>:<hex>`; `read_back()` yields all the bytes of the upload."""
        value = self.seen
        if value is None:
            value = await hash_all(ALGORITHMS[self.algorithm](), read_back())
        return f"{self.algorithm}:{value.hex()}"


class Digests:
    """The running digests of the uploads that this process receives, each over the bytes from the first one on.
    `algorithm` is a key of `checksum.ALGORITHMS`, or empty: none are wanted."""

    def __init__(self, algorithm: str = "", capacity: int = 10_000) -> None:
        self._algorithm = algorithm
        self._capacity = capacity
        self._running: OrderedDict[UploadId, tuple[int, Hasher]] = OrderedDict()

    def begin(self, upload: Upload) -> Hasher | None:
        """What the next body is to be added to; None where this process has not seen all before it."""
        if not self._algorithm:
            return None
        if upload.offset == 0:
            return ALGORITHMS[self._algorithm]()
        offset, running = self._running.pop(upload.id, (0, None))
        return running if offset == upload.offset else None

    def keep(self, upload: Upload, running: Hasher | None) -> None:
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
            running = ALGORITHMS[self._algorithm]()
        return Digest(self._algorithm, running.digest() if running is not None and offset == upload.length else None)
