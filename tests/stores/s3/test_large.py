"""Uploads of more bodies, or of more bytes, than a naive use of S3 can hold (failures F14, F16).

Those of their real size take minutes. What they show is shown in seconds, too, with fewer bodies and lower limits.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from s3calls import Call
from s3proxy import FaultProxy
from s3scene import Scene, add, content, create, fill, new_upload, some
from s3servers import S3Server
from slowscene import (
    MIB,
    PATIENCE_SECONDS,
    Client,
    Pattern,
    assert_holds,
    concatenate,
    patch_headers,
    serving,
    upload,
)

from tusd_py.core.upload import State, UploadId
from tusd_py.stores.s3 import S3Store
from tusd_py.stores.s3.plan import Limits, Plan

GIB = 1 << 30
MOST_BYTES = 5 * GIB
"""What one PUT, one part and one copy may have at Amazon."""
MANY = 10_050
"""More than an upload may have parts there."""
SIZE = 256
"""Of each: what they leave over is written again with each, which is 13 GB as it is."""
FIRST_BYTES = 5 * MIB
"""A body with which the upload has parts, so that numbers are in play."""
PARTS = ("--s3-part-size", "5MiB")
MOST_TAIL_BYTES = 5 * MIB
BESIDES_BYTES = 80 * MIB
MEMORY_BYTES = 128 * MIB
"""The default of --s3-memory."""


@contextmanager
def emptied(storage: S3Server, bucket: str) -> Iterator[str]:
    """The disk is not to keep gigabytes until the storage ends."""
    try:
        yield bucket
    finally:
        s3 = storage.client()
        for each in s3.list_objects_v2(Bucket=bucket).get("Contents", ()):
            s3.delete_object(Bucket=bucket, Key=each["Key"])
        for each in s3.list_multipart_uploads(Bucket=bucket).get("Uploads", ()):
            s3.abort_multipart_upload(Bucket=bucket, Key=each["Key"], UploadId=each["UploadId"])


@pytest.fixture(params=["versitygw", "minio"])
def storage(request: pytest.FixtureRequest) -> S3Server:
    server: S3Server = request.getfixturevalue(request.param)
    return server


@pytest.fixture
def proxy(storage: S3Server) -> Iterator[FaultProxy]:
    with FaultProxy(storage.host, storage.port) as running:
        yield running


def send_bodies(clients: Sequence[Client], path: str, pattern: Pattern, offsets: range, last: dict[str, str]) -> None:
    """A body from each of these offsets to the next one; they come to the servers in turn. The last has headers of its
    own."""
    with ExitStack() as stack:
        connections = [stack.enter_context(client.connect()) for client in clients]
        for number, offset in enumerate(offsets):
            turn, end = number % len(clients), offset + offsets.step
            connection = connections[turn]
            connection.socket.settimeout(PATIENCE_SECONDS)
            more = last if number == len(offsets) - 1 else {}
            connection.begin("PATCH", path, patch_headers(offset, offsets.step, **more))
            connection.send(pattern.read(offset, end))
            answer = connection.answer()
            assert (answer.status, answer.headers.get("upload-offset")) == (204, str(end)), (number, answer)
            if answer.headers.get("connection") == "close":  # after --max-requests
                connections[turn] = stack.enter_context(clients[turn].connect())


def limited(store: S3Store, limits: Limits) -> S3Store:
    """The same, over a storage that allows less."""
    return S3Store(replace(store.bucket, plan=Plan(limits)))


def calls_of(path: str, proxy: FaultProxy) -> Counter[str]:
    """Those for one upload, by operation."""
    key = path.rpartition("/")[2]
    return Counter(call.operation for call in proxy.calls if call.key.startswith(key))


def sizes(calls: Iterable[Call]) -> dict[str, list[int]]:
    """How many bytes each call had S3 write, by operation."""
    found: dict[str, list[int]] = defaultdict(list)
    for call in calls:
        if call.operation == "UploadPartCopy":
            first, _, last = call.headers["x-amz-copy-source-range"].removeprefix("bytes=").partition("-")
            found[call.operation].append(int(last) - int(first) + 1)
        else:
            found[call.operation].append(call.request_bytes)
    return found


# More bodies than there may be parts.


@pytest.mark.parametrize(
    ("count", "size"),
    [pytest.param(60, 100 * 1024, id="few"), pytest.param(MANY, SIZE, id="many", marks=pytest.mark.long)],
)
@pytest.mark.parametrize("is_deferred", [False, True], ids=["known", "deferred"])
def test_F14_an_upload_in_very_many_bodies_costs_a_call_for_each_and_finishes(
    storage: S3Server, proxy: FaultProxy, tmp_path: Path, is_deferred: bool, count: int, size: int
) -> None:
    pattern = Pattern(count, FIRST_BYTES + count * size)
    bucket = storage.new_bucket()
    with emptied(storage, bucket), serving(tmp_path, proxy.endpoint, bucket, *PARTS) as server:
        path = server.client.create(None if is_deferred else pattern.length)
        assert server.client.patch(path, 0, pattern.read(0, FIRST_BYTES)).status == 204
        proxy.clear()
        last = {"Upload_Length": str(pattern.length)} if is_deferred else {}
        send_bodies([server.client], path, pattern, range(FIRST_BYTES, pattern.length, size), last)
        calls = calls_of(path, proxy)
        assert calls.total() <= count + 8  # a few parts, a sweep, and to finish
        assert calls["UploadPart"] > (pattern.length - FIRST_BYTES) // MOST_TAIL_BYTES
        assert_holds(server.client, path, pattern)
    print(f"{calls.total() / count:.4f} calls to S3 for each PATCH: {dict(calls)}")


@pytest.mark.long
@pytest.mark.parametrize("storage", ["versitygw"], indirect=True)
def test_F14_very_many_bodies_that_come_to_two_servers_in_turn_finish(
    storage: S3Server, proxy: FaultProxy, tmp_path: Path
) -> None:
    pattern, bucket = Pattern(1, FIRST_BYTES + MANY * SIZE), storage.new_bucket()
    with emptied(storage, bucket), ExitStack() as stack:
        servers = [stack.enter_context(serving(tmp_path, proxy.endpoint, bucket, *PARTS)) for _ in range(2)]
        clients = [server.client for server in servers]
        path = clients[0].create(pattern.length)
        assert clients[0].patch(path, 0, pattern.read(0, FIRST_BYTES)).status == 204
        proxy.clear()
        send_bodies(clients, path, pattern, range(FIRST_BYTES, pattern.length, SIZE), {})
        calls = calls_of(path, proxy)
        for client in clients:
            assert_holds(client, path, pattern)
    print(f"{calls.total() / MANY:.4f} calls to S3 for each PATCH: {dict(calls)}")


@pytest.mark.anyio
@pytest.mark.parametrize("is_deferred", [False, True], ids=["known", "deferred"])
async def test_F14_bodies_without_a_part_use_up_no_numbers_wherever_they_come(scene: Scene, is_deferred: bool) -> None:
    """As above, with 30 numbers."""
    first = 6 * MIB
    data = some(first + 50 * 100)
    stores = [limited(scene.store(), Limits(max_parts=30)) for _ in range(2)]
    upload_id = await create(stores[0], None if is_deferred else len(data))
    await add(stores[0], upload_id, data[:first], 0)
    for turn, offset in enumerate(range(first, len(data), 100)):
        if is_deferred and offset + 100 == len(data):
            await stores[0].declare_length(upload_id, len(data))
        assert await add(stores[turn % 2], upload_id, data[offset : offset + 100], offset) == offset + 100
    assert await content(stores[1], upload_id) == data


# More bytes than one call may have.


@pytest.mark.anyio
async def test_F16_parts_and_copies_keep_to_the_limit_of_one(scene: Scene) -> None:
    """As below, with a limit of 6 MiB."""
    store = limited(scene.store(), Limits(max_part_bytes=6 * MIB, max_put_bytes=6 * MIB))
    pieces = [some(18 * MIB + 1), some(5 * MIB + 7), some(3)]
    partials = [await _partial(store, piece) for piece in pieces]
    final = new_upload(None, partials=tuple(partials), concat="final;", state=State.ASSEMBLING)
    await (await store.create(final)).close()
    await store.concatenate(final.id, partials)
    opened = await store.open(final.id)
    await opened.finish()
    await opened.close()
    found = sizes(scene.proxy.calls)
    assert found["UploadPartCopy"] == [6 * MIB] * 3
    assert max(found["UploadPart"] + found["PutObject"]) <= 6 * MIB
    assert await content(store, final.id) == b"".join(pieces)


async def _partial(store: S3Store, data: bytes) -> UploadId:
    made = new_upload(len(data), is_partial=True, concat="partial")
    await fill(await store.create(made, len(data)), data)
    return made.id


@pytest.mark.long
@pytest.mark.parametrize("storage", ["minio"], indirect=True)
def test_F16_one_body_above_the_limit_of_one_put_finishes(storage: S3Server, proxy: FaultProxy, tmp_path: Path) -> None:
    pattern, bucket = Pattern(2, MOST_BYTES + 3), storage.new_bucket()
    with emptied(storage, bucket), serving(tmp_path, proxy.endpoint, bucket) as server:
        before = server.peak_memory_bytes()
        path = upload(server.client, pattern)
        grown = server.peak_memory_bytes() - before
        found = sizes(proxy.calls)
        assert grown < MEMORY_BYTES + BESIDES_BYTES
        assert max(found["UploadPart"] + found["PutObject"]) <= MOST_BYTES
        assert_holds(server.client, path, pattern)
    print(f"{len(found['UploadPart'])} parts; grew by {grown / MIB:.0f} MiB")


@pytest.mark.long
@pytest.mark.parametrize("storage", ["minio"], indirect=True)
def test_F16_partials_of_which_one_is_above_the_limit_of_one_copy_are_joined(
    storage: S3Server, proxy: FaultProxy, tmp_path: Path
) -> None:
    patterns = [Pattern(3, MOST_BYTES + 1), Pattern(4, 7 * MIB), Pattern(5, 3)]
    bucket = storage.new_bucket()
    with emptied(storage, bucket), serving(tmp_path, proxy.endpoint, bucket) as server:
        paths = [upload(server.client, pattern, {"Upload-Concat": "partial"}) for pattern in patterns]
        proxy.clear()
        path = concatenate(server.client, paths)
        found = sizes(proxy.calls)
        assert max(found["UploadPartCopy"] + found["UploadPart"] + found["PutObject"]) <= MOST_BYTES
        assert sum(found["UploadPartCopy"]) >= MOST_BYTES  # we read and send little of it
        assert_holds(server.client, path, *patterns)
    print({operation: len(each) for operation, each in found.items()})
