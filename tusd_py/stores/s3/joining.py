"""Final uploads: the bytes of partial ones, one after the other. S3 copies what is long; what is short is read and
sent.

The state counts all of it in one write, so before that the final has no bytes; what a crash leaves is swept.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace

from tusd_py.errors import upload_not_found
from tusd_py.stores.s3 import assembling, crc
from tusd_py.stores.s3.bucket import Bucket
from tusd_py.stores.s3.chain import Link
from tusd_py.stores.s3.client import S3Error
from tusd_py.stores.s3.plan import MIB, Range, joined
from tusd_py.stores.s3.record import Record
from tusd_py.stores.s3.wire import NOTHING, payload

_AT_ONCE = 8
_AT_ONCE_BYTES = 64 * MIB
"""Of parts that are read, since no storage can copy what is shorter than a part."""


async def join(bucket: Bucket, link: Link, partials: Sequence[Record]) -> None:
    """Have the final of `link` hold the bytes of `partials`, which are available; it is not finished."""
    total = sum(each.upload.offset for each in partials)
    bucket.plan.check(total)
    record = replace(
        link.record, upload=replace(link.record.upload, length=total, offset=total, touched_at=time.time())
    )
    info = bucket.names.info(record.upload.id)
    if total <= bucket.plan.preferred_bytes:
        whole = await _read(bucket, partials, [(i, 0, each.upload.offset) for i, each in enumerate(partials)])
        await bucket.chain.append(info, replace(record, tail_bytes=total, tail_start=0), payload(whole), after=link)
        return
    multipart = await assembling.begin(bucket, record, is_checked=False)
    parts = list(enumerate(joined([each.upload.offset for each in partials], bucket.plan.limits), 1))
    left = iter(parts)

    async def work() -> None:
        for number, ranges in left:
            await _make_part(bucket, record.key, multipart, number, ranges, partials)

    try:
        async with asyncio.TaskGroup() as tasks:
            longest = max([MIB, *(sum(end - start for _, start, end in each) for _, each in parts if len(each) > 1)])
            for _ in range(min(_AT_ONCE, max(_AT_ONCE_BYTES // longest, 1))):
                tasks.create_task(work())
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None  # the first that failed; it ended the others
    whole_crc: int | None = 0
    for each in partials:
        whole_crc = crc.combined(whole_crc, each.crc, each.upload.offset)
    record = replace(
        record,
        multipart=multipart,
        parts=((1, len(parts)),),
        next_number=len(parts) + 1,
        tail_start=total,
        tail_bytes=0,
        crc=whole_crc,
    )
    await bucket.chain.append(info, record, NOTHING, after=link)


async def _make_part(
    bucket: Bucket, key: str, multipart: str, number: int, ranges: Sequence[Range], partials: Sequence[Record]
) -> None:
    if len(ranges) > 1 or ranges[0][2] - ranges[0][1] < bucket.plan.limits.min_part_bytes:
        data = await _read(bucket, partials, ranges)
        await bucket.client.put_part(key, multipart, number, payload(data), {})
        return
    index, start, end = ranges[0]
    try:
        await bucket.control.call(
            "upload_part_copy",
            Key=key,
            UploadId=multipart,
            PartNumber=number,
            CopySource={"Bucket": bucket.control.bucket, "Key": partials[index].key},
            CopySourceRange=f"bytes={start}-{end - 1}",
        )
    except S3Error as error:
        if error.code == "NoSuchKey":
            raise upload_not_found() from error
        raise


async def _read(bucket: Bucket, partials: Sequence[Record], ranges: Sequence[Range]) -> bytes:
    data = bytearray()
    for index, start, end in ranges:
        if start == end:
            continue
        try:
            answer = await bucket.client.get(partials[index].key, {}, f"{start}-{end - 1}")
        except S3Error as error:
            if error.is_missing:
                raise upload_not_found() from error
            raise
        data += answer.body
    return bytes(data)
