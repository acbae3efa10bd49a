"""What this process left of uploads lately, and need not ask the storage for."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import NamedTuple

from tusd_py.core.upload import UploadId
from tusd_py.stores.s3.chain import Link
from tusd_py.stores.s3.memory import Memory, Part
from tusd_py.stores.s3.record import Record

_MOST_FILES = 128
"""Less than the processes of a small machine may open; above it, tails are read from the storage again."""


class Taken(NamedTuple):
    """A part that S3 has, as Complete must name it."""

    etag: str
    crc: int | None


@dataclass(slots=True)
class Known:
    """An upload as this process left it: with nothing of it under way. `taken` are its parts, by number. `is_clean`:
    nothing of a predecessor is, either."""

    link: Link
    tail: Part
    taken: dict[int, Taken] = field(default_factory=dict)
    is_clean: bool = True


class Warm:
    """What was left lately. It saves asking, and is never relied on: a state that is not the newest any more cannot be
    followed by a write. It lets go of tails where their memory is asked for; those in files take twice as much."""

    def __init__(self, memory: Memory, capacity: int = 10_000) -> None:
        memory.relieve, memory.relieve_files = self.relieve, self.relieve_files
        self._most_file_bytes = 2 * memory.limit_bytes
        self._capacity = capacity
        self._known: OrderedDict[UploadId, Known] = OrderedDict()
        self._filed: OrderedDict[UploadId, int] = OrderedDict()  # whose tails are in files: how long they are
        self._keys: OrderedDict[UploadId, str] = OrderedDict()

    async def keep(self, upload_id: UploadId, known: Known) -> None:
        """Of the tail the caller has nothing any more."""
        self.forget(upload_id)
        tail = known.tail
        try:
            await tail.rest()
        except OSError:  # it would only have saved a call
            tail.release()
            return
        except BaseException:
            tail.release()
            raise
        self._known[upload_id] = known
        if tail.has_file:
            self._filed[upload_id] = tail.size
        while len(self._known) > self._capacity:
            self.forget(next(iter(self._known)))
        while len(self._filed) > _MOST_FILES or sum(self._filed.values()) > self._most_file_bytes:
            self._forget_filed()

    def keep_key(self, upload_id: UploadId, key: str) -> None:
        """Of the object of an upload that is available."""
        self._keys[upload_id] = key
        if len(self._keys) > self._capacity:
            self._keys.popitem(last=False)

    def key(self, upload_id: UploadId) -> str | None:
        return self._keys.get(upload_id)

    def take(self, upload_id: UploadId, offset: int) -> Known | None:
        """What is known, if it is at this offset; the caller has it from now on."""
        known = self._pop(upload_id)
        if known is not None and known.link.record.upload.offset != offset:
            known.tail.release()
            return None
        return known

    def record(self, upload_id: UploadId) -> Record | None:
        """The newest state that is known to have been written."""
        known = self._known.get(upload_id)
        return known.link.record if known is not None else None

    def forget(self, upload_id: UploadId) -> None:
        self._keys.pop(upload_id, None)
        known = self._pop(upload_id)
        if known is not None:
            known.tail.release()

    def relieve(self, count: int) -> None:
        """Let go of so many bytes of tails in memory, if there are as many; the oldest first."""
        for upload_id in [each for each, known in self._known.items() if known.tail.pending_bytes]:
            count -= self._known[upload_id].tail.pending_bytes
            self.forget(upload_id)
            if count <= 0:
                return

    def relieve_files(self) -> bool:
        """Let go of all tails in files; returns whether there was one."""
        had_some = bool(self._filed)
        while self._filed:
            self._forget_filed()
        return had_some

    def clear(self) -> None:
        for upload_id in list(self._known):
            self.forget(upload_id)

    def _forget_filed(self) -> None:
        """The oldest."""
        self.forget(next(iter(self._filed)))

    def _pop(self, upload_id: UploadId) -> Known | None:
        self._filed.pop(upload_id, None)
        return self._known.pop(upload_id, None)
