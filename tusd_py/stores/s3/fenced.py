"""The states of uploads where the storage cannot refuse a write: the fence of the lock's holder decides instead.

Each state is an object of its own, `<id>.info.<fence>.<sequence>`, and the one with the highest numbers counts. Who
takes the lock has a higher fence than all before, and looks at the states after that. Who has written one asks whether
the lock is still its own, and only then answers: so a state that a predecessor writes later, or whose request lands
later, was never told to anybody, and never counts (failures F22, F23). The lock must not be given to two at once: that
is as safe as Redis is.
"""

from __future__ import annotations

import asyncio
import time

from tusd_py.stores.s3.chain import HEADERS, Chain, Link, Superseded, behind, following, version_of
from tusd_py.stores.s3.client import LATE_SECONDS, Client, Unclear, attempts
from tusd_py.stores.s3.control import Control
from tusd_py.stores.s3.memory import Part
from tusd_py.stores.s3.names import fenced_key, is_fenced
from tusd_py.stores.s3.record import Record
from tusd_py.stores.s3.shared import Fences
from tusd_py.stores.s3.wire import Payload


class FencedChain(Chain):
    """Those of one bucket; a state's version is its key."""

    is_conditional = False

    def __init__(self, client: Client, control: Control, fences: Fences) -> None:
        super().__init__(client, control.bucket)
        self._control = control
        self._fences = fences

    async def append(self, key: str, record: Record, tail: Payload, after: Link | None) -> Link:
        upload_id = record.upload.id
        fence = self._fences.fence(upload_id)
        if fence is None:
            raise Superseded
        if after is None or not after.version.startswith(fenced_key(key, fence)):
            # The first one under this lock: what is known may be of an earlier one.
            versions = await self._versions(key)
            if (versions[-1] if versions else None) != version_of(after):
                raise Superseded
        record = following(record, after)
        version = fenced_key(key, fence, record.sequence)
        # Again and again does no harm: nobody writes anything else under this key.
        await self._client.put_again(version, behind(record.encode(self._bucket), tail), HEADERS)
        if self._fences.fence(upload_id) != fence or not await self._fences.is_held(upload_id):
            raise Superseded
        if after is not None:
            await self._client.delete(after.version)
        return Link(record, version)

    def is_own(self, key: str, link: Link) -> bool:
        """A state of another one may never have been told to anybody, and those of a third one may come after it."""
        fence = self._fences.fence(link.record.upload.id)
        return fence is not None and link.version.startswith(fenced_key(key, fence))

    async def remove(self, key: str, record: Record) -> None:
        """What says that the upload is gone stays until no earlier state can come any more."""
        if record.upload.touched_at > time.time() - LATE_SECONDS:
            return
        for version in await self._versions(key):
            await self._client.delete(version)

    async def _newest(self, key: str, tail: Part | None) -> Link | None:
        for _, pause_seconds in attempts():
            versions = await self._versions(key)
            if not versions:
                return None
            link = await super()._newest(versions[-1], tail)
            if link is not None:
                return Link(link.record, versions[-1])
            await asyncio.sleep(pause_seconds)  # another one has replaced it
        raise Unclear(f"GetObject {key}: the storage lists states that it does not have")

    async def _versions(self, key: str) -> list[str]:
        """The keys of the states that there are, the newest last; first that of tusd's, which has no numbers."""
        pages = self._control.pages("list_objects_v2", Prefix=key)
        found = [each["Key"] async for page in pages for each in page.get("Contents", ())]
        return sorted(each for each in found if each == key or is_fenced(each))
