"""What the store relies on a storage to do, and what it makes use of: each trait tries one thing on a bench.

They run in this order; those that are quick make no multipart upload. All together send a little more than 5 MiB.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping

from tusd_py.stores.s3 import crc
from tusd_py.stores.s3.client import S3Error, Unclear
from tusd_py.stores.s3.plan import MIB
from tusd_py.stores.s3.probing import Bench, Trait, Unlike, Untried, crc64, refused

PART_BYTES = 5 * MIB
"""The smallest part that S3 takes before the last one."""
TAIL_BYTES = 1024

NO_CONDITIONS = "this storage has no conditional writes: uploads are safe with --locker redis only"
NO_CHECKSUMS = (
    "bytes that change on their way to this storage are not noticed by it: use https, and let clients send"
    " Upload-Checksum"
)
NO_MULTIPARTS = "uploads longer than --s3-part-size fail: use another storage, or have its provider repair it"
NO_PARTS = "an upload of more than 1,000 parts, or one that another process goes on with, cannot be finished"
NO_ABORTS = "the parts of terminated and expired uploads stay in the storage, and are paid for"
NO_COPIES = "concatenation fails: set --disable-concatenation"
NO_LISTS = "expired uploads are not found, and never removed: use another storage, or have its provider repair it"

_RACERS = 8
_TEXT = b"tusd-py check"
_OTHER = b"other bytes"

TRAITS: list[Trait] = []

Function = Callable[[Bench], Awaitable[str | None]]


def trait(
    title: str, *, otherwise: str, is_required: bool = False, is_quick: bool = False
) -> Callable[[Function], Function]:
    def add(function: Function) -> Function:
        TRAITS.append(Trait(title, function, is_required, is_quick, otherwise))
        return function

    return add


# Conditions.


@trait("If-None-Match: * refuses what exists", is_required=True, is_quick=True, otherwise=NO_CONDITIONS)
async def if_none_match(bench: Bench) -> None:
    key = bench.key("quick")
    await bench.put(key, b"1", {"if-none-match": "*"})
    await refused(bench.put(key, b"2", {"if-none-match": "*"}), 412, 409)


@trait("If-Match refuses a stale ETag", is_required=True, is_quick=True, otherwise=NO_CONDITIONS)
async def if_match(bench: Bench) -> None:
    key = bench.key("quick")
    stale = (await bench.put(key, b"3")).headers["etag"]
    await bench.put(key, b"4", {"if-match": stale})
    await refused(bench.put(key, b"5", {"if-match": stale}), 412, 409)


@trait(f"Of {_RACERS} writers at once with If-None-Match, one wins", is_required=True, otherwise=NO_CONDITIONS)
async def race_for_new(bench: Bench) -> None:
    await _race(bench, bench.key("race-new"), {"if-none-match": "*"})


@trait(f"Of {_RACERS} writers at once with If-Match, one wins", is_required=True, otherwise=NO_CONDITIONS)
async def race_for_next(bench: Bench) -> None:
    key = bench.key("race-next")
    etag = (await bench.put(key, b"first")).headers["etag"]
    await _race(bench, key, {"if-match": etag})


async def _race(bench: Bench, key: str, condition: Mapping[str, str]) -> None:
    bodies = [b"%d" % number for number in range(_RACERS)]
    results = await asyncio.gather(*(bench.put(key, body, condition) for body in bodies), return_exceptions=True)
    winners = []
    unclear: Unclear | None = None
    for body, result in zip(bodies, results, strict=True):
        if isinstance(result, Unclear):
            unclear = result
        elif isinstance(result, S3Error):
            if not (result.is_conflict or result.is_missing):
                raise result
        elif isinstance(result, BaseException):
            raise result
        else:
            winners.append(body)
    if unclear is not None and not winners:
        raise unclear
    if len(winners) != 1:
        raise Unlike(f"{len(winners)} won")
    if unclear is None and await bench.get(key) != winners[0]:
        raise Unlike("the bytes are a loser's")


# Checksums.


@trait("PutObject refuses a wrong CRC64NVME", is_quick=True, otherwise=NO_CHECKSUMS)
async def put_crc64(bench: Bench) -> None:
    key, sums = bench.key("quick"), {crc.HEADER: crc64(_TEXT)}
    await bench.put(key, _TEXT, sums)
    await refused(bench.put(key, _OTHER, sums), 400)


@trait("UploadPart refuses a wrong CRC64NVME", otherwise=NO_CHECKSUMS)
async def part_crc64(bench: Bench) -> None:
    upload = await bench.begin(bench.folder + "part-sum", is_checked=True)
    await upload.send(1, _TEXT, sum_of=_TEXT)
    await refused(upload.send(2, _OTHER, sum_of=_TEXT), 400)


@trait("Complete takes the CRC64NVME of the whole, and refuses a wrong one", otherwise=NO_CHECKSUMS)
async def whole_crc64(bench: Bench) -> None:
    for whole in (_TEXT, _OTHER):
        upload = await bench.begin(bench.folder + "whole-sum", is_checked=True)
        complete = upload.complete([await upload.send(1, _TEXT, sum_of=_TEXT)], whole=whole)
        await (complete if whole == _TEXT else refused(complete, 400))


# Objects.


@trait(
    "A read after a write gives what was written",
    otherwise="this storage answers late: HEAD may tell an older offset for a moment; clients try again",
)
async def read_after_write(bench: Bench) -> None:
    key = bench.key("fresh")
    for number in range(3):
        body = b"version %d" % number
        await bench.put(key, body)
        if await bench.get(key) != body:
            raise Unlike("an older object was read")
    await bench.delete(key)
    try:
        await bench.get(key)
    except S3Error as error:
        if error.is_missing:
            return
        raise
    raise Unlike("a deleted object was read")


@trait("GetObject gives ranges", is_required=True, otherwise="downloads and states cannot be read: use another storage")
async def get_range(bench: Bench) -> None:
    key = bench.key("range")
    await bench.put(key, b"0123456789")
    if await bench.get(key, "2-4") != b"234":
        raise Unlike("other bytes")


@trait("Content-Type and metadata are kept", otherwise="downloads lose their Content-Type")
async def metadata(bench: Bench) -> None:
    key = bench.key("metadata")
    await bench.put(key, _TEXT, {"content-type": "text/csv", "x-amz-meta-name": "data"})
    head = await bench.head(key)
    if (head.get("content-type"), head.get("x-amz-meta-name")) != ("text/csv", "data"):
        raise Unlike("not kept")


@trait("Tags are kept", otherwise="lifecycle rules by tag cannot be used; tusd-py itself needs none")
async def tags(bench: Bench) -> None:
    key = bench.key("tags")
    await bench.put(key, _TEXT, {"x-amz-tagging": "state=checked"})
    found = (await bench.call("get_object_tagging", Key=key))["TagSet"]
    if found != [{"Key": "state", "Value": "checked"}]:
        raise Unlike("not kept")


@trait("ListObjectsV2 goes by prefix and page", is_required=True, otherwise=NO_LISTS)
async def list_objects(bench: Bench) -> None:
    keys = [bench.key(f"list/{number}") for number in range(3)]
    for key in keys:
        await bench.put(key, b"")
    arguments = {"Prefix": f"{bench.folder}list/", "MaxKeys": 2}
    first = await bench.call("list_objects_v2", **arguments)
    second = await bench.call("list_objects_v2", ContinuationToken=first["NextContinuationToken"], **arguments)
    if [each["Key"] for page in (first, second) for each in page.get("Contents", ())] != keys:
        raise Unlike("other keys")


@trait("DeleteObjects deletes many", otherwise="tusd-py deletes one by one: nothing to do")
async def delete_objects(bench: Bench) -> None:
    keys = [bench.key(f"many/{number}") for number in range(2)]
    for key in keys:
        await bench.put(key, b"")
    await bench.call("delete_objects", Delete={"Objects": [{"Key": key} for key in keys], "Quiet": True})
    if (await bench.call("list_objects_v2", Prefix=f"{bench.folder}many/")).get("Contents"):
        raise Unlike("they are still listed")


# Multipart uploads.


@trait("Parts of 5 MiB and a shorter last one become the object", is_required=True, otherwise=NO_MULTIPARTS)
async def multipart(bench: Bench) -> str:
    """Numbers are left out, and a part that is not counted is sent: the store does both."""
    data = os.urandom(PART_BYTES + TAIL_BYTES)
    upload = await bench.begin(bench.source_key)
    first = await upload.send(1, data[:PART_BYTES])
    await upload.send(2, b"not counted")
    last = await upload.send(4, data[PART_BYTES:])
    try:
        await upload.complete([first, last])
    except S3Error as error:
        if error.code == "EntityTooSmall":
            raise Unlike("parts of 5 MiB are too small: raise --s3-min-part-size") from error
        raise
    await _compare(bench, bench.source_key, data)
    bench.source = data
    return f"a part of 5 MiB took {bench.seconds['UploadPart'][-3]:.2f} s"


@trait("ListParts tells sizes, page by page", is_required=True, otherwise=NO_PARTS)
async def list_parts(bench: Bench) -> None:
    upload = await bench.begin(bench.folder + "parts")
    sent = [await upload.send(number, b"x" * number) for number in (1, 4, 7)]
    first = await upload.list(MaxParts=2)
    second = await upload.list(MaxParts=2, PartNumberMarker=first["NextPartNumberMarker"])
    if (first["IsTruncated"], second["IsTruncated"]) != (True, False):
        raise Unlike("IsTruncated is wrong: the next page is not known of")
    found = [(each["PartNumber"], each["Size"], each["ETag"]) for page in (first, second) for each in page["Parts"]]
    if found != [(each["PartNumber"], each["PartNumber"], each["ETag"]) for each in sent]:
        raise Unlike("other parts")


@trait("UploadPartCopy takes exactly the range it is asked for", is_required=True, otherwise=NO_COPIES)
async def copy(bench: Bench) -> None:
    source = _source(bench)
    key = bench.folder + "copy"
    upload = await bench.begin(key)
    await upload.complete([await upload.copy(1, 1, PART_BYTES), await upload.send(2, b"end")])
    await _compare(bench, key, source[1 : PART_BYTES + 1] + b"end")


@trait(
    "Parts may differ in length",
    otherwise="parts must be as long as each other: an upload whose length is deferred ends at 10,000 x --s3-part-size,"
    " so choose that large enough (80 GiB at 8 MiB), and concatenation sends bytes again",
)
async def unequal_parts(bench: Bench) -> None:
    source = _source(bench)
    try:
        await _join(bench, PART_BYTES, len(source))
    except S3Error as error:
        if error.status != 400:
            raise
        await _join(bench, PART_BYTES, PART_BYTES)  # where this fails too, it was not about lengths
        raise Unlike(f"they must be equal ({error.code})") from error


async def _join(bench: Bench, *sizes: int) -> None:
    upload = await bench.begin(bench.folder + "joined")
    parts = [await upload.copy(number, 0, size - 1) for number, size in enumerate(sizes, 1)]
    await upload.complete([*parts, await upload.send(len(sizes) + 1, b"end")])


@trait("Abort ends a multipart upload, which is listed by its key", is_required=True, otherwise=NO_ABORTS)
async def abort(bench: Bench) -> None:
    upload = await bench.begin(bench.folder + "aborted")
    if upload.id not in await _listed(bench, upload.key):
        raise Unlike("ListMultipartUploads does not have it")
    await upload.abort()
    if upload.id in await _listed(bench, upload.key):
        raise Unlike("ListMultipartUploads still has it")


@trait(
    "ListMultipartUploads goes by prefix",
    otherwise="multipart uploads that a crash left behind are not found here: have the storage abort them, after longer"
    " than --expire-after",
)
async def list_uploads(bench: Bench) -> None:
    upload = await bench.begin(bench.folder + "listed")
    if upload.id not in await _listed(bench, bench.folder):
        raise Unlike("only by whole keys")


async def _listed(bench: Bench, prefix: str) -> set[str]:
    page = await bench.call("list_multipart_uploads", Prefix=prefix)
    return {each["UploadId"] for each in page.get("Uploads", ())}


def _source(bench: Bench) -> bytes:
    if not bench.source:
        raise Untried("there is no object of 5 MiB to copy from")
    return bench.source


async def _compare(bench: Bench, key: str, data: bytes) -> None:
    """The length, and the bytes where two parts meet: reading all would double the traffic."""
    if int((await bench.head(key))["content-length"]) != len(data):
        raise Unlike("the object has another length")
    start, end = PART_BYTES - 16, min(PART_BYTES + 16, len(data))
    if await bench.get(key, f"{start}-{end - 1}") != data[start:end]:
        raise Unlike("the object has other bytes")
