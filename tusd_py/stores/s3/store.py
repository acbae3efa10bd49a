"""The S3 store: `core.ports.Store` with every capability, put together from the modules beside it."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import replace

from tusd_py.core.checksum import Buffer
from tusd_py.core.upload import Upload, UploadId
from tusd_py.errors import upload_not_found
from tusd_py.stores.s3 import joining, sweeping
from tusd_py.stores.s3.bucket import Bucket
from tusd_py.stores.s3.chain import Link, Superseded
from tusd_py.stores.s3.client import S3Error
from tusd_py.stores.s3.memory import Part
from tusd_py.stores.s3.record import Record
from tusd_py.stores.s3.stored import StoredObject
from tusd_py.stores.s3.wire import NOTHING

_TERMINATE_TRIES = 5


class S3Store:
    """A `core.ports.Store` over one bucket, or what is below one prefix of it."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    async def aclose(self) -> None:
        await self._bucket.aclose()

    async def probe(self) -> None:
        """See whether the bucket can be used now. Raises BackendError."""
        with self._bucket.failures.translated():
            await self._bucket.control.call("head_bucket")

    async def create(self, upload: Upload, first_bytes: int | None = None) -> StoredObject:
        bucket = self._bucket
        bucket.plan.check(upload.length)
        record = Record(replace(upload, touched_at=time.time()), bucket.names.object(upload))
        stored = StoredObject(bucket, None, record, is_clean=True)
        # What fits into one part is written down with its first bytes: nobody has been told of it yet. An object that
        # a crash leaves without a state is found by its name, if that is the id.
        comes_at_once = first_bytes is not None and first_bytes < bucket.plan.preferred_bytes
        if not (comes_at_once and bucket.names.template.is_plain):
            await stored.record_first()
        return stored

    async def read(self, upload_id: UploadId) -> Upload:
        with self._bucket.failures.translated():
            link = await self._newest(upload_id)
            while not await self._has_bytes(link.record):
                before, link = link, await self._newest(upload_id)
                if link.etag == before.etag:  # not just finished or removed while we looked
                    raise upload_not_found()  # promise 5, failures F8
        if link.record.upload.is_available:
            self._bucket.warm.keep_key(upload_id, link.record.key)
        return link.record.upload

    async def open(self, upload_id: UploadId, expected_offset: int | None = None) -> StoredObject:
        bucket = self._bucket
        known = bucket.warm.take(upload_id, expected_offset) if expected_offset is not None else None
        if known is not None:
            return StoredObject.known(bucket, known)
        tail = Part(bucket.memory)
        try:
            with bucket.failures.translated():
                return StoredObject.found(bucket, await self._newest(upload_id, tail), tail)
        except BaseException:
            tail.release()
            raise

    # core.ports.Terminates

    async def terminate(self, upload_id: UploadId) -> None:
        bucket = self._bucket
        bucket.warm.forget(upload_id)
        info = bucket.names.info(upload_id)
        with bucket.failures.translated():
            link = await bucket.chain.read(info)
            for _ in range(_TERMINATE_TRIES):
                if link is None:
                    return
                try:
                    # First nobody else can go on, then what there is goes (failures F26).
                    link = await bucket.chain.append(info, link.record.terminated(), NOTHING, after=link)
                    break
                except Superseded:
                    link = await bucket.chain.read(info)
            else:
                raise Superseded
            await sweeping.remove(bucket, link.record)

    # core.ports.DefersLength

    async def declare_length(self, upload_id: UploadId, length: int) -> None:
        self._bucket.plan.check(length)
        known = self._bucket.warm.record(upload_id)
        stored = await self.open(upload_id, known.upload.offset if known is not None else None)
        try:
            await stored.declare_length(length)
        finally:
            await stored.close()

    # core.ports.Concatenates

    async def concatenate(self, final: UploadId, partials: Sequence[UploadId]) -> None:
        bucket = self._bucket
        with bucket.failures.translated():
            link = await self._newest(final)
            if link.record.upload.is_available or link.record.upload.has_all_bytes:
                return  # done before
            records = {each: (await self._newest(each)).record for each in dict.fromkeys(partials)}
            await joining.join(bucket, link, [records[each] for each in partials])

    async def note_waiting(self, final: UploadId, partials: Iterable[UploadId]) -> None:
        bucket = self._bucket
        with bucket.failures.translated():
            for partial in dict.fromkeys(partials):
                await bucket.client.put_again(bucket.names.mark(partial, final), NOTHING, {})

    async def waiting_for(self, partial: UploadId) -> list[UploadId]:
        with self._bucket.failures.translated():
            return [final async for _, final in sweeping.marks(self._bucket, partial)]

    # core.ports.Expires

    async def unfinished(self) -> AsyncIterator[Upload]:
        with self._bucket.failures.translated():
            async for record in sweeping.unfinished(self._bucket):
                if not record.is_terminated:
                    yield record.upload

    async def sweep_leftovers(self, hold: Callable[[UploadId], AbstractAsyncContextManager[None]]) -> int:
        with self._bucket.failures.translated():
            return await sweeping.sweep(self._bucket, hold)

    # core.ports.ServesRanges

    async def read_range(self, upload_id: UploadId, start: int, end: int) -> AsyncGenerator[Buffer, None]:
        bucket = self._bucket
        if start >= end:
            return
        with bucket.failures.translated():
            try:
                async with (
                    bucket.client.stream(await self._key(upload_id), {}, f"{start}-{end - 1}") as (_, body),
                    aclosing(body),
                ):
                    async for piece in body:
                        yield piece
            except S3Error as error:
                if error.is_missing:
                    raise upload_not_found() from error
                raise

    # core.ports.Redirects

    async def location(self, upload_id: UploadId, content_type: str, disposition: str) -> str | None:
        bucket = self._bucket
        if not bucket.redirect_seconds:
            return None
        with bucket.failures.translated():
            return await bucket.control.presigned(
                await self._key(upload_id),
                int(bucket.redirect_seconds),
                ResponseContentType=content_type,
                ResponseContentDisposition=disposition,
            )

    async def _key(self, upload_id: UploadId) -> str:
        """Of an available upload, which never changes: asked for once."""
        return self._bucket.warm.key(upload_id) or (await self._newest(upload_id)).record.key

    async def _newest(self, upload_id: UploadId, tail: Part | None = None) -> Link:
        bucket = self._bucket
        link = await bucket.chain.read(bucket.names.info(upload_id), tail=tail, known=bucket.warm.record(upload_id))
        if link is None or link.record.is_terminated:
            raise upload_not_found()
        return link

    async def _has_bytes(self, record: Record) -> bool:
        """Whether what the state counts is still there: somebody, or a rule of the bucket, may have removed it."""
        bucket = self._bucket
        try:
            if record.upload.is_available:
                await bucket.client.head(record.key, {})
            elif record.multipart is not None and record.parts:
                await bucket.control.call("list_parts", Key=record.key, UploadId=record.multipart, MaxParts=1)
        except S3Error as error:
            if error.is_missing:
                return record.upload.has_all_bytes and not record.upload.is_available
            raise
        return True
