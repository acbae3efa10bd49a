"""The last steps of an upload: its object is put, or completed from parts, and looked at before anybody says finished.

Each may be repeated, and after a failure is: by the next request, or by the sweep (failures F6, F7).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping

from tusd_py.errors import upload_not_found
from tusd_py.stores.s3 import crc
from tusd_py.stores.s3.bucket import Bucket
from tusd_py.stores.s3.client import S3Error, Unclear, pauses
from tusd_py.stores.s3.memory import Part
from tusd_py.stores.s3.record import Record
from tusd_py.stores.s3.warm import Taken

_READ_BYTES = 8 * 1024 * 1024
_LATE_SECONDS = 5.0
"""How long an object may take to appear once its multipart upload is gone."""


async def begin(bucket: Bucket, record: Record, *, is_checked: bool = True) -> str:
    """Begin a multipart upload; returns its id. With `is_checked`, each part comes with its CRC64NVME: then Complete
    compares that of the whole. Copied parts have none that all servers take."""
    checks = {}
    if is_checked and bucket.has_crc:
        checks = {"ChecksumAlgorithm": "CRC64NVME", "ChecksumType": "FULL_OBJECT"}
    return await bucket.control.begin(record.key, bucket.attributes.headers(record.upload), **checks)


async def put_if_absent(bucket: Bucket, record: Record, whole: Part) -> bool:
    """Put the object, unless there is one, or nobody can tell.

    An object that a late holder put is not known by its name alone to have the right bytes. It can do no harm: only the
    state says that an upload is available, and who finds an object there writes the state before the object.
    """
    if not bucket.chain.is_conditional:
        return False
    try:
        await bucket.client.put(record.key, whole.payload(), _headers(bucket, record, whole) | {"if-none-match": "*"})
    except Unclear:
        return False
    except S3Error as error:
        if error.is_conflict:
            return False
        raise
    return True


async def put(bucket: Bucket, record: Record, whole: Part) -> None:
    """Put the object over what may be there; the state says that these are the bytes."""
    await bucket.client.put_again(record.key, whole.payload(), _headers(bucket, record, whole))


def _headers(bucket: Bucket, record: Record, whole: Part) -> dict[str, str]:
    return bucket.attributes.headers(record.upload) | bucket.crc_header(whole.crc)


async def complete(bucket: Bucket, record: Record, taken: Mapping[int, Taken]) -> None:
    """Complete the multipart upload, and see that the object is what it should be. Raises upload_not_found()."""
    assert record.multipart is not None  # noqa: S101
    failure: Exception | None = None
    try:
        parts = await _parts(bucket, record, taken)
        checks = {}
        if record.crc is not None and all(crc.FIELD in part for part in parts):
            checks = {crc.FIELD: crc.to_text(record.crc), "ChecksumType": "FULL_OBJECT"}
        answer = await bucket.control.complete(record.key, record.multipart, parts, **checks)
        if checks and answer.get(crc.FIELD) == checks[crc.FIELD]:
            return  # S3 itself has compared the whole, so it is there in full
    except Unclear as error:  # failures F7
        failure = error
    except S3Error as error:
        if error.code != "NoSuchUpload":
            raise
        failure = error
    deadline = time.monotonic() + _LATE_SECONDS
    for pause_seconds in pauses():
        # An object of the right size may also be one that a late holder put (see `put_if_absent`).
        is_unclear = isinstance(failure, Unclear)
        if await _is_there(bucket, record) and not (is_unclear and await has_multipart(bucket, record)):
            return
        if isinstance(failure, Unclear):
            raise failure
        # Somebody else's Complete may be under way: the upload goes a moment before the object comes.
        if time.monotonic() > deadline:
            raise upload_not_found() from failure  # failures F8, promise 5
        await asyncio.sleep(pause_seconds)


async def _parts(bucket: Bucket, record: Record, taken: Mapping[int, Taken]) -> list[dict[str, object]]:
    """Those that count, as Complete wants them; S3 is asked for what this process did not send itself."""
    numbers = record.numbers
    if all(number in taken for number in numbers):
        has_crc = bucket.has_crc and all(taken[number].crc is not None for number in numbers)
        return [
            {"PartNumber": number, "ETag": each.etag} | ({crc.FIELD: crc.to_text(each.crc or 0)} if has_crc else {})
            for number, each in ((number, taken[number]) for number in numbers)
        ]
    assert record.multipart is not None  # noqa: S101
    listed = {part["PartNumber"]: part for part in await bucket.control.list_parts(record.key, record.multipart)}
    parts = [listed[number] for number in numbers if number in listed]
    if len(parts) != len(numbers) or sum(part["Size"] for part in parts) != record.tail_start:
        raise upload_not_found()  # promise 5
    return [{name: part[name] for name in ("PartNumber", "ETag", crc.FIELD) if name in part} for part in parts]


async def has_multipart(bucket: Bucket, record: Record) -> bool:
    """Whether its multipart upload is there: nobody has completed or aborted it."""
    try:
        await bucket.control.call("list_parts", Key=record.key, UploadId=record.multipart, MaxParts=1)
    except S3Error as error:
        if error.is_missing:
            return False
        raise
    return True


async def _is_there(bucket: Bucket, record: Record) -> bool:
    """Whether the object has the right size, and the right checksum where S3 tells it."""
    try:
        answer = await bucket.client.head(record.key, {"x-amz-checksum-mode": "ENABLED"})
    except S3Error as error:
        if error.is_missing:
            return False
        raise
    found = answer.headers.get(crc.HEADER)
    is_whole = answer.headers.get("x-amz-checksum-type", "FULL_OBJECT") == "FULL_OBJECT"
    if found is not None and is_whole and record.crc is not None and found != crc.to_text(record.crc):
        return False
    return int(answer.headers.get("content-length", -1)) == record.upload.length


async def read(bucket: Bucket, record: Record) -> AsyncGenerator[bytes, None]:
    """All the bytes of the object, in pieces that can be asked for again."""
    length = record.upload.length or 0
    for start in range(0, length, _READ_BYTES):
        yield (await bucket.client.get(record.key, {}, f"{start}-{min(start + _READ_BYTES, length) - 1}")).body
