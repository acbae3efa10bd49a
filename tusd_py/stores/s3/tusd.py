"""Uploads that tusd began in this bucket: what they have is found out by listing, and with the first change they are
ours.

tusd counts all parts and its `.part` object, in whatever order they came (failures F2, F4). Here only the unbroken run
of parts from the first one counts, and `.part` behind it only if no part is missing: a client that asks is told the
smaller offset, and sends the rest again.
"""

from __future__ import annotations

from dataclasses import replace
from email.utils import parsedate_to_datetime

from tusd_py.core.upload import State
from tusd_py.errors import upload_not_found
from tusd_py.stores.s3.bucket import Bucket
from tusd_py.stores.s3.chain import Link
from tusd_py.stores.s3.client import S3Error
from tusd_py.stores.s3.inflow import WINDOW
from tusd_py.stores.s3.memory import Part
from tusd_py.stores.s3.record import Record


async def completed(bucket: Bucket, link: Link, tail: Part | None = None) -> Link:
    """`link`, which is of tusd's, with what S3 has of the upload. The bytes of `.part` are added to `tail`, which is
    empty. Raises upload_not_found() where its bytes are lost."""
    record = link.record
    parts = await _parts(bucket, record)
    if parts is None:
        return replace(link, record=await _finished(bucket, record))
    numbers = [part["PartNumber"] for part in parts]
    run = [
        part for part, expected in zip(parts, range(1, len(parts) + 1), strict=True) if part["PartNumber"] == expected
    ]
    start = sum(part["Size"] for part in run)
    tail_bytes = 0
    if len(run) == len(parts):
        tail_bytes = await _tail(bucket, record, tail)
    upload = replace(record.upload, offset=start + tail_bytes, state=State.RECEIVING)
    return replace(
        link,
        record=replace(
            record,
            upload=upload,
            parts=((1, len(run)),) if run else (),
            next_number=max(numbers, default=0) + 1,
            window=WINDOW,
            tail_start=start,
            tail_bytes=tail_bytes,
            crc=None,
        ),
    )


async def adopted(bucket: Bucket, link: Link, tail: Part) -> Link:
    """The same once it is ours: `.part` is in our state, and gone. Raises Superseded when tusd, or another process of
    ours, has gone on with it."""
    link = await completed(bucket, link, tail)
    record = link.record
    if record.upload.is_available:
        return link
    info = bucket.names.info(record.upload.id)
    link = await bucket.chain.append(info, replace(record, is_foreign=False), tail.payload(), after=link)
    await bucket.client.delete(part_key(record))
    return link


def part_key(record: Record) -> str:
    """Of the object in which tusd keeps what is too short for a part."""
    return f"{record.key}.part"


async def _parts(bucket: Bucket, record: Record) -> list[dict[str, int]] | None:
    """None: there is no such multipart upload any more."""
    if record.multipart is None:
        return None
    try:
        return await bucket.control.list_parts(record.key, record.multipart)
    except S3Error as error:
        if error.is_missing:
            return None
        raise


async def _finished(bucket: Bucket, record: Record) -> Record:
    try:
        answer = await bucket.client.head(record.key, {})
    except S3Error as error:
        if error.is_missing:
            raise upload_not_found() from error
        raise
    size = int(answer.headers.get("content-length", -1))
    if record.upload.length not in (None, size):
        raise upload_not_found()
    at = parsedate_to_datetime(answer.headers["last-modified"]).timestamp()
    upload = replace(record.upload, length=size, offset=size, state=State.AVAILABLE, touched_at=at)
    return replace(record, upload=upload, multipart=None, crc=None)


async def _tail(bucket: Bucket, record: Record, tail: Part | None) -> int:
    """How many bytes there are in `.part`."""
    try:
        if tail is None:
            answer = await bucket.client.head(part_key(record), {})
            return int(answer.headers.get("content-length", 0))
        async with bucket.client.stream(part_key(record), {}) as (_, body):
            async for piece in body:
                await tail.add(piece)
    except S3Error as error:
        if error.is_missing:
            return 0
        raise
    return tail.size
