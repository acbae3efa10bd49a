"""What nobody needs any more: found by listing, and removed. Nothing that is not known as ours is ever touched.

All servers of a bucket share the work: `is_due` gives a pass to one of them. A pass looks at so many keys at most, and
the next one goes on there, whoever makes it.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from functools import partial
from itertools import islice
from typing import Any

from tusd_py.core.upload import UploadId
from tusd_py.errors import RequestError
from tusd_py.stores.s3.attributes import METADATA, UPLOAD_ID
from tusd_py.stores.s3.bucket import Bucket
from tusd_py.stores.s3.client import LATE_SECONDS, S3Error
from tusd_py.stores.s3.record import FINISHED_MULTIPLE, Record
from tusd_py.stores.s3.wire import Payload, payload

Hold = Callable[[UploadId], AbstractAsyncContextManager[None]]

MOST_PAGES = 1_000
"""Of a thousand keys each."""
_MOST_PAGES_LISTED = 10
_MOST_LONELY = 1_000
_NOTE = "sweep"
_EARLY_SHARE = 0.1
"""Of the time between two passes: clocks and timers are not exact."""


async def remove(bucket: Bucket, record: Record) -> None:
    """All that a terminated upload had, its state last: a failure in between leaves it to be found again."""
    await bucket.client.delete(record.key)
    if record.multipart is not None:
        await bucket.control.abort(record.key, record.multipart)
    for each in record.upload.partials:
        await bucket.client.delete(bucket.names.mark(each, record.upload.id))
    await bucket.chain.remove(bucket.names.info(record.upload.id), record)


async def marks(bucket: Bucket, waited_for: UploadId | None = None) -> AsyncIterator[tuple[UploadId, UploadId]]:
    """Which final waits for which partial."""
    async for page in bucket.control.pages("list_objects_v2", Prefix=bucket.names.marks(waited_for)):
        for each in page.get("Contents", ()):
            found = bucket.names.of_mark(each["Key"])
            if found is not None:
                yield found


async def is_due(bucket: Bucket, interval_seconds: float) -> bool:
    """Whether this process is to make the next pass: the first one to ask after the last one's time."""
    key = bucket.names.own + _NOTE
    now = time.time()
    try:
        answer = await bucket.client.get(key, {})
        noted = json.loads(answer.body)
        age_seconds = now - float(noted["At"])
        after, condition = str(noted["After"]), {"if-match": answer.headers["etag"]}
    except S3Error as error:
        if not error.is_missing:
            raise
        age_seconds, after, condition = interval_seconds, "", {"if-none-match": "*"}
    except (ValueError, KeyError, TypeError):
        age_seconds, after, condition = interval_seconds, "", {}
    if 0 <= age_seconds < interval_seconds * (1 - _EARLY_SHARE):
        return False
    try:
        await bucket.client.put(key, _note(now, after), condition if bucket.chain.is_conditional else {})
    except S3Error as error:
        if error.is_conflict or error.is_missing:
            return False  # another one was first
        raise
    bucket.cursor.after, bucket.cursor.is_noted = after, bool(after)
    return True


async def list_ids(bucket: Bucket, cursor: str, count: int) -> tuple[list[UploadId], str]:
    """As `core.ports.Lists`; the cursor is the rest of the last key that was seen. At most so many pages are read."""
    names = bucket.names
    if {".", ".."} & set(cursor.split("/")):  # some storages refuse such keys, so none of them was the last one
        raise RequestError("this cursor is none", code="ERR_INVALID_QUERY")
    after = {"StartAfter": names.prefix + cursor} if cursor else {}
    ids: dict[UploadId, None] = {}
    pages = bucket.control.pages("list_objects_v2", limit=_MOST_PAGES_LISTED, Prefix=names.prefix, **after)
    async for page in pages:
        for entry in page.get("Contents", ()):
            key = entry["Key"]
            upload_id = names.id_of_info(key)
            if upload_id is not None and upload_id not in ids and len(ids) == count:
                return list(ids), cursor
            if upload_id is not None:
                ids[upload_id] = None
                key = names.info(upload_id) + "~"  # behind all its states
            cursor = key[len(names.prefix) :]
        if not page.get("IsTruncated"):
            return list(ids), ""
    return list(ids), cursor


class Pass:
    """One look at the listing, from where the last one stopped: what is unfinished, and what else there is to do."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._terminated: list[Record] = []
        self._lonely: dict[UploadId, str] = {}
        self._superseded: list[tuple[UploadId, str]] = []  # states that came too late to count (`fenced`)

    async def unfinished(self) -> AsyncIterator[Record]:
        """The states of all uploads that are not available, or owe hooks something: the size of a state tells which."""
        names = self._bucket.names
        newest: tuple[UploadId, dict[str, Any]] | None = None  # of several states of one upload, the last listed
        objects: dict[UploadId, str] = {}  # those whose state has not come yet; it is not far behind
        async for entry in self._listed():
            key = entry["Key"]
            upload_id = names.id_of_info(key)
            if newest is not None and newest[0] == upload_id:
                if not self._bucket.chain.is_conditional and _is_old(newest[1]["LastModified"]):
                    self._superseded.append((upload_id, newest[1]["Key"]))
            elif newest is not None and (record := await self._record(*newest)):
                yield record
            newest = (upload_id, entry) if upload_id is not None else None
            if upload_id is not None:
                objects.pop(upload_id, None)
            elif _is_old(entry["LastModified"]) and (own := names.id_of_plain_object(key)):
                objects[own] = key
            for each in [each for each in objects if names.info(each) < key]:
                self._lonely[each] = objects.pop(each)
        if newest is not None and (record := await self._record(*newest)):
            yield record
        self._lonely |= objects

    async def _listed(self) -> AsyncIterator[dict[str, Any]]:
        cursor = self._bucket.cursor
        pages = self._bucket.control.pages(
            "list_objects_v2",
            limit=MOST_PAGES,
            Prefix=self._bucket.names.prefix,
            **({"StartAfter": cursor.after} if cursor.after else {}),
        )
        async for page in pages:
            entries = page.get("Contents", ())
            for entry in entries:
                yield entry
            cursor.after = entries[-1]["Key"] if entries and page.get("IsTruncated") else ""

    async def _record(self, upload_id: UploadId, entry: dict[str, Any]) -> Record | None:
        if entry["Size"] % FINISHED_MULTIPLE == 0:
            return None
        try:
            link = await self._bucket.chain.read(self._bucket.names.info(upload_id))
        except ValueError:  # no state at all
            return None
        if link is None or link.record.is_foreign or (link.record.upload.is_available and not link.record.is_owing):
            return None
        if not link.record.is_terminated:
            return link.record
        if link.record.upload.touched_at < time.time() - LATE_SECONDS:
            self._terminated.append(link.record)
        return None

    async def sweep(self, hold: Hold) -> int:
        """Marks of finals that wait no more, what terminations left, objects and multiparts of no upload; how many."""
        bucket = self._bucket
        removed = await _remove_marks(bucket, hold)
        for record in self._terminated:
            removed += await _held(hold, record.upload.id, partial(remove, bucket, record))
        for upload_id, key in islice(self._lonely.items(), _MOST_LONELY):
            removed += await _held(hold, upload_id, partial(_remove_lonely, bucket, upload_id, key))
        for upload_id, key in self._superseded:
            removed += await _held(hold, upload_id, partial(bucket.client.delete, key))
        removed += await _abort_orphans(bucket, hold)
        if bucket.cursor.is_noted or bucket.cursor.after:
            bucket.cursor.is_noted = bool(bucket.cursor.after)
            await bucket.client.put_again(bucket.names.own + _NOTE, _note(time.time(), bucket.cursor.after), {})
        return removed


async def _remove_marks(bucket: Bucket, hold: Hold) -> int:
    removed = 0
    async for waited_for, final in marks(bucket):
        link = await bucket.chain.read(bucket.names.info(final))
        if link is None or link.record.is_terminated or link.record.upload.is_available:
            removed += await _held(hold, final, partial(bucket.client.delete, bucket.names.mark(waited_for, final)))
    return removed


async def _remove_lonely(bucket: Bucket, upload_id: UploadId, key: str) -> bool:
    """An object without a state: of a process that ended while it made both, or put after its upload was removed.
    Somebody else's object may have such a name, too, but not our metadata."""
    try:
        about = await bucket.client.head(key, {})
    except S3Error as error:
        if error.is_missing:
            return False
        raise
    if about.headers.get(METADATA + UPLOAD_ID) != upload_id:
        return False
    if await bucket.chain.read(bucket.names.info(upload_id)) is not None:
        return False
    await bucket.client.delete(key)
    return True


async def _abort_orphans(bucket: Bucket, hold: Hold) -> int:
    """Multipart uploads of ours that were begun and never named, since their process ended."""
    removed = 0
    pages = bucket.control.pages("list_multipart_uploads", limit=MOST_PAGES, Prefix=bucket.names.prefix)
    async for page in pages:
        for each in page.get("Uploads", ()):
            upload_id = bucket.names.id_of_object(each["Key"])
            if upload_id is None or not _is_old(each["Initiated"]):
                continue
            link = await bucket.chain.read(bucket.names.info(upload_id))
            if link is not None and link.record.multipart != each["UploadId"]:
                removed += await _held(hold, upload_id, partial(bucket.control.abort, each["Key"], each["UploadId"]))
    return removed


def _is_old(at: datetime) -> bool:
    """Before that, what looks forgotten may be about to be named."""
    return at.timestamp() < time.time() - LATE_SECONDS


def _note(now: float, after: str) -> Payload:
    return payload(json.dumps({"At": now, "After": after}).encode())


async def _held(hold: Hold, upload_id: UploadId, step: Callable[[], Awaitable[bool | None]]) -> int:
    """Take `step` under the lock; not at all while somebody has it (failures F27). 0 also where it says False."""
    try:
        async with hold(upload_id):
            return 0 if await step() is False else 1
    except RequestError:
        return 0
