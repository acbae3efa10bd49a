"""The S3 store: `core.ports.Store` with every capability, put together from the modules beside it."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, suppress
from dataclasses import replace

from tusd_py.core.checksum import Buffer
from tusd_py.core.upload import Upload, UploadId
from tusd_py.errors import ConfigError, upload_not_found
from tusd_py.logs import event
from tusd_py.stores.s3 import dialect, joining, sweeping, tusd
from tusd_py.stores.s3.assembling import has_multipart
from tusd_py.stores.s3.bucket import Bucket
from tusd_py.stores.s3.chain import Link, Superseded
from tusd_py.stores.s3.client import S3Error
from tusd_py.stores.s3.fenced import FencedChain
from tusd_py.stores.s3.memory import Part
from tusd_py.stores.s3.record import Record
from tusd_py.stores.s3.shared import Fences
from tusd_py.stores.s3.stored import StoredObject
from tusd_py.stores.s3.traits import NO_CONDITIONS
from tusd_py.stores.s3.wire import NOTHING

log = logging.getLogger("tusd_py.s3")

_TERMINATE_TRIES = 5


class S3Store:
    """A `core.ports.Store` over one bucket, or what is below one prefix of it."""

    def __init__(self, bucket: Bucket, fences: Fences | None = None) -> None:
        self.bucket = bucket
        self._fences = fences
        self._pass: sweeping.Pass | None = None  # what the listing told, for the rest of the sweep

    async def aclose(self) -> None:
        await self.bucket.aclose()

    async def start(self) -> None:
        """Find out what the storage can do, and keep to it. Raises ConfigError for what makes uploads impossible, or
        unsafe, and BackendError when the storage does not answer."""
        bucket = self.bucket
        with bucket.failures.translated():
            found = await dialect.probe(bucket.client, bucket.control, bucket.names.prefix, bucket.client.host)
        chain = bucket.chain
        if not found.is_conditional:
            if self._fences is None:
                raise ConfigError(f"{bucket.control.bucket}: {NO_CONDITIONS}")
            chain = FencedChain(bucket.client, bucket.control, self._fences)
        limits = replace(found.limits, min_part_bytes=bucket.plan.limits.min_part_bytes)
        self.bucket = replace(
            bucket,
            chain=chain,
            plan=replace(bucket.plan, limits=limits),
            has_crc=bucket.has_crc and found.checks_crc64,
        )
        event(log, "StorageProbed", bucket=bucket.control.bucket, provider=found.provider, can=found.line)

    async def probe(self) -> None:
        """See whether the bucket can be used now. Raises BackendError."""
        with self.bucket.failures.translated():
            await self.bucket.control.call("head_bucket")

    async def create(self, upload: Upload, first_bytes: int | None = None) -> StoredObject:
        bucket = self.bucket
        bucket.plan.check(upload.length)
        key = bucket.names.object(upload)
        record = Record(replace(upload, touched_at=time.time(), place=key), key)
        stored = StoredObject(bucket, None, record, is_clean=True)
        # What fits into one part is written down with its first bytes: nobody has been told of it yet. An object that
        # a crash leaves without a state is found by its name, if that is the id.
        comes_at_once = first_bytes is not None and first_bytes < bucket.plan.preferred_bytes
        if upload.is_named or not (comes_at_once and bucket.names.template.is_plain):
            await stored.record_first()
        return stored

    async def read(self, upload_id: UploadId) -> Upload:
        noted = await self.bucket.noted(upload_id)
        if noted is not None:
            return noted.upload
        with self.bucket.failures.translated():
            link = await self._settled(upload_id)
            while not await self._has_bytes(link.record):
                before, link = link, await self._settled(upload_id)
                if link.version == before.version:  # not just finished or removed while we looked
                    raise upload_not_found()  # promise 5, failures F8
        if link.record.upload.is_available:
            self.bucket.warm.keep_key(upload_id, link.record.key)
        return link.record.upload

    async def open(self, upload_id: UploadId, expected_offset: int | None = None) -> StoredObject:
        bucket = self.bucket
        known = bucket.warm.take(upload_id, expected_offset) if expected_offset is not None else None
        if known is not None:
            return StoredObject.known(bucket, known)
        tail = Part(bucket.memory)
        try:
            with bucket.failures.translated():
                link = _existing(await bucket.newest(upload_id, tail, bucket.warm.record(upload_id)))
                if link.record.is_foreign:
                    link = await tusd.adopted(bucket, link, tail)
                return StoredObject.found(bucket, link, tail)
        except BaseException:
            tail.release()
            raise

    # core.ports.Terminates

    async def terminate(self, upload_id: UploadId) -> bool:
        bucket = self.bucket
        bucket.warm.forget(upload_id)
        info = bucket.names.info(upload_id)
        with bucket.failures.translated():
            link = await bucket.chain.read(info)
            is_there = link is not None and not link.record.is_terminated
            for _ in range(_TERMINATE_TRIES):
                if link is None:
                    return False
                if link.record.is_foreign:
                    await bucket.client.delete(tusd.part_key(link.record))
                try:
                    # First nobody else can go on, then what there is goes (failures F26).
                    link = await bucket.chain.append(info, link.record.terminated(time.time()), NOTHING, after=link)
                    break
                except Superseded:
                    link = await bucket.chain.read(info)
            else:
                raise Superseded
            await sweeping.remove(bucket, link.record)
            return is_there

    # core.ports.Places

    def storage(self, upload: Upload) -> dict[str, str]:
        key = upload.place or self.bucket.names.object(upload)
        return {"Type": "s3store", "Bucket": self.bucket.control.bucket, "Key": key}

    def placed(self, upload: Upload, storage: Mapping[str, str]) -> Upload:
        if storage.get("Key"):
            raise ValueError("Key cannot be chosen by hooks in S3: --s3-object-key says what keys look like")
        return upload

    # core.ports.DefersLength

    async def declare_length(self, upload_id: UploadId, length: int) -> None:
        self.bucket.plan.check(length)
        known = self.bucket.warm.record(upload_id)
        stored = await self.open(upload_id, known.upload.offset if known is not None else None)
        try:
            await stored.declare_length(length)
        finally:
            await stored.close()

    # core.ports.Concatenates

    async def concatenate(self, final: UploadId, partials: Sequence[UploadId]) -> None:
        bucket = self.bucket
        with bucket.failures.translated():
            link = await self._settled(final)
            if link.record.upload.is_available or link.record.upload.has_all_bytes:
                return  # done before
            records = {each: (await self._settled(each)).record for each in dict.fromkeys(partials)}
            await joining.join(bucket, link, [records[each] for each in partials])

    async def note_waiting(self, final: UploadId, partials: Iterable[UploadId]) -> None:
        bucket = self.bucket
        with bucket.failures.translated():
            for partial in dict.fromkeys(partials):
                await bucket.client.put_again(bucket.names.mark(partial, final), NOTHING, {})

    async def waiting_for(self, partial: UploadId) -> list[UploadId]:
        with self.bucket.failures.translated():
            return [final async for _, final in sweeping.marks(self.bucket, partial)]

    # core.ports.Expires

    async def unfinished(self) -> AsyncIterator[Upload]:
        with self.bucket.failures.translated():
            self._pass = sweeping.Pass(self.bucket)
            async for record in self._pass.unfinished():
                yield record.upload

    async def settle(self, upload_id: UploadId) -> None:
        with self.bucket.failures.translated():
            info = self.bucket.names.info(upload_id)
            link = await self.bucket.chain.read(info)
            if link is None or not link.record.is_owing:
                return
            with suppress(Superseded):  # it was removed just now
                await self.bucket.chain.append(info, replace(link.record, is_owing=False), NOTHING, after=link)

    async def sweep_leftovers(self, hold: Callable[[UploadId], AbstractAsyncContextManager[None]]) -> int:
        with self.bucket.failures.translated():
            seen, self._pass = self._pass, None
            if seen is None:
                seen = sweeping.Pass(self.bucket)
                async for _ in seen.unfinished():
                    pass
            return await seen.sweep(hold)

    async def is_sweep_due(self, interval_seconds: float) -> bool:
        with self.bucket.failures.translated():
            return await sweeping.is_due(self.bucket, interval_seconds)

    # core.ports.Lists

    async def list_ids(self, cursor: str, count: int) -> tuple[list[UploadId], str]:
        with self.bucket.failures.translated():
            return await sweeping.list_ids(self.bucket, cursor, count)

    # core.ports.ServesRanges

    async def read_range(self, upload_id: UploadId, start: int, end: int) -> AsyncGenerator[Buffer, None]:
        bucket = self.bucket
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
        bucket = self.bucket
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
        return self.bucket.warm.key(upload_id) or (await self._newest(upload_id)).record.key

    async def _settled(self, upload_id: UploadId) -> Link:
        """The newest state, and what there is of the upload where tusd has left that open."""
        link = await self._newest(upload_id)
        return await tusd.completed(self.bucket, link) if link.record.is_foreign else link

    async def _newest(self, upload_id: UploadId) -> Link:
        bucket = self.bucket
        return _existing(await bucket.chain.read(bucket.names.info(upload_id), known=bucket.warm.record(upload_id)))

    async def _has_bytes(self, record: Record) -> bool:
        """Whether what the state counts is still there: somebody, or a rule of the bucket, may have removed it."""
        bucket = self.bucket
        if not record.upload.is_available:
            has_parts = record.multipart is None or not record.parts or await has_multipart(bucket, record)
            return has_parts or record.upload.has_all_bytes
        try:
            await bucket.client.head(record.key, {})
        except S3Error as error:
            if error.is_missing:
                return False
            raise
        return True


def _existing(link: Link | None) -> Link:
    if link is None or link.record.is_terminated:
        raise upload_not_found()
    return link
