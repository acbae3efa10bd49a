"""What the uploads of one store share: the bucket and how to talk to it, memory, and what is known without asking."""

from __future__ import annotations

from dataclasses import dataclass

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
from tusd_py.stores.s3.warm import Warm


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
