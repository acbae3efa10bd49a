"""What the uploads of one store share: the bucket and how to talk to it, memory, and what is known without asking."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import NamedTuple

from tusd_py.core.upload import UploadId
from tusd_py.stores.s3 import crc
from tusd_py.stores.s3.attributes import Attributes
from tusd_py.stores.s3.chain import Chain, Link
from tusd_py.stores.s3.client import Client
from tusd_py.stores.s3.control import Control
from tusd_py.stores.s3.failures import Failures
from tusd_py.stores.s3.memory import Memory, Part
from tusd_py.stores.s3.names import Names
from tusd_py.stores.s3.plan import Plan
from tusd_py.stores.s3.record import Record
from tusd_py.stores.s3.shared import Shared
from tusd_py.stores.s3.slots import Slots


@dataclass(frozen=True, slots=True)
class Bucket:
    client: Client
    control: Control
    chain: Chain
    names: Names
    plan: Plan
    memory: Memory
    slots: Slots
    warm: Warm
    failures: Failures
    attributes: Attributes
    cursor: Cursor
    buffered_parts: int = 4
    redirect_seconds: float = 0.0
    shared: Shared | None = None
    has_crc: bool = True

    async def aclose(self) -> None:
        self.warm.clear()
        await self.client.aclose()
        self.control.close()

    async def newest(self, upload_id: UploadId, tail: Part, known: Record | None) -> Link | None:
        """The newest state; see `Chain.read`."""
        async with self.memory.loads:
            return await self.chain.read(self.names.info(upload_id), tail=tail, known=known)

    def has_lost(self, upload_id: UploadId) -> bool:
        """Whether this process is known not to have the lock any more that it took."""
        return self.shared is not None and self.shared.fence(upload_id) is None

    def leave_note(self, record: Record) -> None:
        """`record` is the newest state, and this process has the lock."""
        if self.shared is not None and not record.is_terminated:
            # Latin-1, since a record need not be text.
            self.shared.leave_note(record.upload.id, record.encode(self.control.bucket).decode("latin-1"))

    async def noted(self, upload_id: UploadId) -> Record | None:
        """The newest state, where that is known without asking the storage."""
        text = await self.shared.note(upload_id) if self.shared is not None else None
        try:
            return Record.decode(text.encode("latin-1")) if text is not None else None
        except ValueError:
            return None

    def crc_header(self, value: int | None) -> dict[str, str]:
        """What has the storage refuse other bytes than these, where it can."""
        return {crc.HEADER: crc.to_text(value)} if value is not None and self.has_crc else {}


@dataclass(slots=True)
class Cursor:
    """After which key the next sweep begins, empty: at the first; and whether that was written down for others."""

    after: str = ""
    is_noted: bool = False


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
    followed by a write. Tails go first where memory is short."""

    def __init__(self, capacity: int = 10_000) -> None:
        self._capacity = capacity
        self._known: OrderedDict[UploadId, Known] = OrderedDict()
        self._keys: OrderedDict[UploadId, str] = OrderedDict()

    def keep(self, upload_id: UploadId, known: Known) -> None:
        self.forget(upload_id)
        self._known[upload_id] = known
        while len(self._known) > self._capacity:
            self._known.popitem(last=False)[1].tail.release()

    def keep_key(self, upload_id: UploadId, key: str) -> None:
        """Of the object of an upload that is available."""
        self._keys[upload_id] = key
        if len(self._keys) > self._capacity:
            self._keys.popitem(last=False)

    def key(self, upload_id: UploadId) -> str | None:
        return self._keys.get(upload_id)

    def take(self, upload_id: UploadId, offset: int) -> Known | None:
        """What is known, if it is at this offset; the caller has it from now on."""
        known = self._known.pop(upload_id, None)
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
        known = self._known.pop(upload_id, None)
        if known is not None:
            known.tail.release()

    def relieve(self, count: int) -> None:
        """Let go of so many bytes of tails, if there are as many; the oldest first."""
        for upload_id in [each for each, known in self._known.items() if known.tail.size]:
            count -= self._known[upload_id].tail.size
            self.forget(upload_id)
            if count <= 0:
                return

    def clear(self) -> None:
        for upload_id in list(self._known):
            self.forget(upload_id)
