"""Uploads over one bucket, seen by any number of processes, and what is in the bucket."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import Any

from s3proxy import FaultProxy
from s3servers import S3Server
from s3unconditional import Fences, fenced

from tusd_py.core.body import Body, Sink, unexpected_eof
from tusd_py.core.checksum import Checksum
from tusd_py.core.upload import Upload, UploadId, new_id
from tusd_py.stores.s3 import S3Store
from tusd_py.stores.s3.connecting import connect
from tusd_py.stores.s3.memory import Memory
from tusd_py.stores.s3.settings import S3Settings
from tusd_py.stores.s3.stored import StoredObject
from tusd_py.stores.s3.warm import Warm

MIB = 1 << 20
PART_BYTES = 5 * MIB
FENCED = "fenced"


class Feed:
    """A source that hands over `data` in pieces, then ends, or breaks."""

    def __init__(self, data: bytes, *, breaks: bool = False, piece: int = 256 * 1024, checksum: Checksum | None = None):
        self._data, self._breaks, self._piece, self._checksum = data, breaks, piece, checksum

    async def fill(self, sink: Sink) -> Checksum | None:
        left = memoryview(self._data)
        while left:
            room = sink.buffer()
            count = min(len(room), len(left), self._piece)
            room[:count] = left[:count]
            pause = sink.filled(count)
            if pause is not None:
                await pause
            left = left[count:]
        if self._breaks:
            raise unexpected_eof()
        return self._checksum


class Scene:
    """`is_conditional` False: as over a storage that takes no conditions; whoever writes then has the lock."""

    def __init__(self, server: S3Server, proxy: FaultProxy, *, is_conditional: bool = True) -> None:
        self.server = server
        self._is_conditional = is_conditional
        self._turns: dict[UploadId, tuple[int, Fences]] = {}
        self.proxy = proxy
        self.bucket = server.new_bucket()
        self.s3: Any = server.client()
        self._stores: dict[str, S3Store] = {}
        self._warm: list[Warm] = []

    def store(self, **settings: Any) -> S3Store:
        """Another process, as far as what it knows is concerned; those with the same settings share connections."""
        settings = {"bucket": self.bucket, "endpoint": self.proxy.endpoint, "part_bytes": PART_BYTES, **settings}
        key = repr(settings)
        if key not in self._stores:
            self._stores[key] = connect(S3Settings(**settings))
        bucket = self._stores[key].bucket
        memory = Memory(bucket.memory.limit_bytes)
        self._warm.append(Warm(memory))
        store = S3Store(replace(bucket, memory=memory, warm=self._warm[-1]))
        return store if self._is_conditional else fenced(store, Fences(self._turns))

    async def aclose(self) -> None:
        for warm in self._warm:
            warm.clear()
        for store in self._stores.values():
            await store.aclose()

    def objects(self, prefix: str = "") -> list[str]:
        return [each["Key"] for each in self.s3.list_objects_v2(Bucket=self.bucket, Prefix=prefix).get("Contents", ())]

    def multiparts(self) -> list[str]:
        return [each["UploadId"] for each in self.s3.list_multipart_uploads(Bucket=self.bucket).get("Uploads", ())]

    def calls(self) -> dict[str, int]:
        """Those since the last time, by operation."""
        counts = dict(self.proxy.counts)
        self.proxy.clear()
        return counts


def new_upload(length: int | None, **fields: object) -> Upload:
    return replace(Upload(id=new_id(), length=length, created_at=time.time()), **fields)


async def create(store: S3Store, length: int | None, **fields: object) -> UploadId:
    made = new_upload(length, **fields)
    await (await store.create(made)).close()
    return made.id


async def add(store: S3Store, upload_id: UploadId, data: bytes, offset: int | None = None, **options: Any) -> int:
    """A PATCH: open, append, finish if all is there, close. Returns the offset."""
    return await fill(await store.open(upload_id, offset), data, **options)


async def fill(stored: StoredObject, data: bytes, **options: Any) -> int:
    try:
        await stored.append(Body(Feed(data, **options)))
        if stored.upload.has_all_bytes:
            await stored.finish()
        return stored.upload.offset
    finally:
        await stored.close()


async def content(store: S3Store, upload_id: UploadId) -> bytes:
    found = await store.read(upload_id)
    assert found.is_available
    return b"".join([bytes(piece) async for piece in store.read_range(upload_id, 0, found.length or 0)])


def some(count: int) -> bytes:
    return os.urandom(count)
