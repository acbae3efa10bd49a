"""What nobody needs any more: found by listing, and removed. Nothing that no state of ours names is ever touched."""

from __future__ import annotations

import functools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager

from tusd_py.core.upload import UploadId
from tusd_py.errors import RequestError
from tusd_py.stores.s3.bucket import Bucket
from tusd_py.stores.s3.record import FINISHED_MULTIPLE, Record

Hold = Callable[[UploadId], AbstractAsyncContextManager[None]]

LATE_SECONDS = 3600.0
"""Longer than any request may be under way. Before that, what looks forgotten may be about to be named."""


async def remove(bucket: Bucket, record: Record) -> None:
    """All that a terminated upload had, its state last: a failure in between leaves it to be found again."""
    await bucket.client.delete(record.key)
    if record.multipart is not None:
        await bucket.control.abort(record.key, record.multipart)
    for partial in record.upload.partials:
        await bucket.client.delete(bucket.names.mark(partial, record.upload.id))
    await bucket.client.delete(bucket.names.info(record.upload.id))


async def marks(bucket: Bucket, partial: UploadId | None = None) -> AsyncIterator[tuple[UploadId, UploadId]]:
    """Which final waits for which partial."""
    async for page in bucket.control.pages("list_objects_v2", Prefix=bucket.names.marks(partial)):
        for each in page.get("Contents", ()):
            found = bucket.names.of_mark(each["Key"])
            if found is not None:
                yield found


async def unfinished(bucket: Bucket) -> AsyncIterator[Record]:
    """The states of all uploads that are not available: the size of a state tells which those are."""
    async for page in bucket.control.pages("list_objects_v2", Prefix=bucket.names.prefix):
        for each in page.get("Contents", ()):
            upload_id = bucket.names.id_of_info(each["Key"])
            if upload_id is None or each["Size"] % FINISHED_MULTIPLE == 0:
                continue
            try:
                link = await bucket.chain.read(each["Key"])
            except ValueError:  # tusd's, or no state at all
                continue
            if link is not None and not link.record.upload.is_available:
                yield link.record


async def sweep(bucket: Bucket, hold: Hold) -> int:
    """Marks of finals that wait no more, what terminations left, multiparts that no state names; returns how many."""
    removed = 0
    async for partial, final in marks(bucket):
        link = await bucket.chain.read(bucket.names.info(final))
        if link is None or link.record.is_terminated or link.record.upload.is_available:
            removed += await _held(
                hold, final, functools.partial(bucket.client.delete, bucket.names.mark(partial, final))
            )
    return removed + await _remove_terminated(bucket, hold) + await _abort_orphans(bucket, hold)


async def _remove_terminated(bucket: Bucket, hold: Hold) -> int:
    removed = 0
    async for record in unfinished(bucket):
        if record.is_terminated and record.upload.touched_at < time.time() - LATE_SECONDS:
            removed += await _held(hold, record.upload.id, functools.partial(remove, bucket, record))
    return removed


async def _abort_orphans(bucket: Bucket, hold: Hold) -> int:
    """Multipart uploads of ours that were begun and never named, since their process ended."""
    removed = 0
    async for page in bucket.control.pages("list_multipart_uploads", Prefix=bucket.names.prefix):
        for each in page.get("Uploads", ()):
            upload_id = bucket.names.id_of_object(each["Key"])
            if upload_id is None or each["Initiated"].timestamp() > time.time() - LATE_SECONDS:
                continue
            link = await bucket.chain.read(bucket.names.info(upload_id))
            if link is not None and link.record.multipart != each["UploadId"]:
                removed += await _held(
                    hold, upload_id, functools.partial(bucket.control.abort, each["Key"], each["UploadId"])
                )
    return removed


async def _held(hold: Hold, upload_id: UploadId, step: Callable[[], Awaitable[None]]) -> int:
    """Take `step` under the lock; not at all while somebody has it (failures F27)."""
    try:
        async with hold(upload_id):
            await step()
            return 1
    except RequestError:
        return 0
