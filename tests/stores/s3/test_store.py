"""What only a bucket has: parts that are copied, lost, refused or orphaned, and memory that is short."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from s3client import Resuming
from s3scene import MIB, Feed, Scene, add, content, create, fill, new_upload, some

from tusd_py.core.body import Body
from tusd_py.core.checksum import Checksum
from tusd_py.core.upload import State, UploadId
from tusd_py.errors import RequestError
from tusd_py.stores.s3 import S3Store, stored

pytestmark = pytest.mark.anyio


def sha1(data: bytes) -> Checksum:
    return Checksum("sha1", hashlib.sha1(data).digest())


@asynccontextmanager
async def free(_upload_id: UploadId) -> AsyncIterator[None]:
    yield


async def _partial(store: S3Store, data: bytes) -> UploadId:
    made = new_upload(len(data), is_partial=True, concat="partial")
    await fill(await store.create(made, len(data)), data)
    return made.id


async def _not_found(store: S3Store, upload_id: UploadId) -> None:
    with pytest.raises(RequestError) as error:
        await store.read(upload_id)
    assert error.value.status == 404


# Concatenation (failures F16).


async def test_long_partials_are_copied_and_short_ones_read(scene: Scene) -> None:
    store = scene.store()
    pieces = [some(6 * MIB), some(MIB), b"", some(11 * MIB), some(100)]
    partials = [await _partial(store, piece) for piece in pieces]
    order = (*partials, partials[0])
    final = new_upload(None, partials=order, concat="final;", state=State.ASSEMBLING)
    await (await store.create(final)).close()
    scene.calls()
    for _ in range(2):
        await store.concatenate(final.id, order)
    assert scene.calls()["UploadPartCopy"] == 2  # what a short one lacks is read from its neighbour
    opened = await scene.store().open(final.id)
    await opened.finish()
    await opened.close()
    assert await content(store, final.id) == b"".join([*pieces, pieces[0]])
    for partial, piece in zip(partials, pieces, strict=True):
        assert await content(store, partial) == piece


async def test_a_partial_that_is_gone_is_told(scene: Scene) -> None:
    store = scene.store()
    partial = await _partial(store, some(6 * MIB))
    final = new_upload(None, partials=(partial, partial), state=State.ASSEMBLING)
    await (await store.create(final)).close()
    scene.s3.delete_object(Bucket=scene.bucket, Key=partial)
    with pytest.raises(RequestError) as error:
        await store.concatenate(final.id, (partial, partial))
    assert error.value.status == 404


# What the bucket has lost is reported as lost (promise 5).


async def test_parts_that_a_rule_of_the_bucket_removed_are_lost(scene: Scene) -> None:
    """failures F8"""
    one, two = scene.store(), scene.store()
    upload_id = await create(one, 20 * MIB)
    await add(one, upload_id, some(6 * MIB), 0)
    (multipart,) = scene.multiparts()
    scene.s3.abort_multipart_upload(Bucket=scene.bucket, Key=upload_id, UploadId=multipart)
    await _not_found(two, upload_id)
    with pytest.raises(RequestError) as error:
        await add(one, upload_id, some(9 * MIB), 6 * MIB)
    assert error.value.status == 404


async def test_an_object_that_was_removed_is_lost(scene: Scene) -> None:
    store = scene.store()
    upload_id = await create(store, 5)
    await add(store, upload_id, b"hello", 0)
    scene.s3.delete_object(Bucket=scene.bucket, Key=upload_id)
    await _not_found(store, upload_id)
    with pytest.raises(RequestError):
        _ = [piece async for piece in store.read_range(upload_id, 0, 5)]


# Termination (failures F26).


@pytest.mark.parametrize("sent", [0, 100, 6 * MIB, 11 * MIB], ids=["new", "begun", "parts", "finished"])
async def test_termination_leaves_nothing_in_the_bucket(scene: Scene, sent: int) -> None:
    store = scene.store()
    upload_id = await create(store, 11 * MIB)
    await add(store, upload_id, some(sent), 0)
    for _ in range(2):
        await scene.store().terminate(upload_id)
    assert scene.objects() == []
    assert scene.multiparts() == []
    await _not_found(store, upload_id)


# Checksums (promise 6).


@pytest.mark.parametrize("is_late", [False, True], ids=["header", "trailer"])
async def test_a_long_body_that_is_refused_never_was(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, is_late: bool
) -> None:
    monkeypatch.setattr(stored, "WINDOW", 2)  # so that numbers must be reserved meanwhile
    store, data = scene.store(), some(37 * MIB)
    upload_id = await create(store, len(data))
    await add(store, upload_id, data[: 6 * MIB], 0)

    def body(data: bytes, checksum: Checksum) -> Body:
        source = Feed(data, checksum=checksum if is_late else None)
        return Body(source, checksum=None if is_late else checksum, expects_trailer=is_late)

    opened = await store.open(upload_id, 6 * MIB)
    wrong = some(len(data) - 6 * MIB)
    assert await opened.append(body(wrong, sha1(b"other"))) == 0
    assert opened.upload.offset == 6 * MIB
    assert (await scene.store().read(upload_id)).offset == 6 * MIB
    assert await opened.append(body(data[6 * MIB :], sha1(data[6 * MIB :]))) == len(data) - 6 * MIB
    await opened.finish()
    await opened.close()
    assert await content(store, upload_id) == data


# Memory.


@pytest.mark.parametrize("memory_bytes", [0, MIB, 7 * MIB])
async def test_where_memory_is_short_bytes_go_another_way_and_arrive(scene: Scene, memory_bytes: int) -> None:
    data = some(23 * MIB)
    store = scene.store(memory_bytes=memory_bytes)
    upload = Resuming(data, [100, 3 * MIB, 9 * MIB], lambda: store)
    await upload.upload()
    await upload.check(scene)
    assert store.bucket.memory.used_bytes == 0


async def test_all_memory_comes_back(scene: Scene) -> None:
    store, data = scene.store(), some(13 * MIB)
    for breaks in (False, True):
        upload_id = await create(store, len(data))
        await add(store, upload_id, data[: 6 * MIB], 0, breaks=breaks)
        await add(store, upload_id, data[6 * MIB :], 6 * MIB)
        assert await content(store, upload_id) == data
    assert store.bucket.memory.used_bytes == 0


async def test_tails_are_forgotten_where_memory_is_short(scene: Scene) -> None:
    store = scene.store(memory_bytes=MIB)
    ids = [await create(store, 2 * MIB) for _ in range(4)]
    for upload_id in ids:
        await add(store, upload_id, some(600_000), 0)
    assert store.bucket.memory.used_bytes <= MIB + 256 * 1024


# Delayed visibility (failures F13).


async def test_reads_that_come_late_do_not_rewind(scene: Scene) -> None:
    store, data = scene.store(), some(3000)
    upload_id = await create(store, len(data))
    await store.read(upload_id)
    scene.proxy.stale_reads(1.0, scene.server.client())
    await add(store, upload_id, data[:1000], 0)
    assert (await store.read(upload_id)).offset == 1000
    await add(store, upload_id, data[1000:2000], 1000)
    assert (await store.read(upload_id)).offset == 2000
    await add(store, upload_id, data[2000:], 2000)
    scene.proxy.heal()
    assert await content(store, upload_id) == data


async def test_an_id_comes_again_after_its_upload_was_removed(scene: Scene) -> None:
    store = scene.store()
    made = new_upload(5)
    await fill(await store.create(made, 5), b"hello")
    await store.terminate(made.id)
    await fill(await store.create(replace(made, length=3), 3), b"abc")
    assert await content(store, made.id) == b"abc"


async def test_few_numbers_are_left_out_where_each_body_comes_to_another_process(scene: Scene) -> None:
    data = some(41 * MIB)
    stores = [scene.store(), scene.store()]
    upload_id = await create(stores[0], len(data))
    for turn, offset in enumerate(range(0, 35 * MIB, 5 * MIB)):
        await add(stores[turn % 2], upload_id, data[offset : offset + 5 * MIB], offset)
    multipart = scene.multiparts()[0]
    parts = scene.s3.list_parts(Bucket=scene.bucket, Key=upload_id, UploadId=multipart)["Parts"]
    assert [part["PartNumber"] for part in parts] == list(range(1, 3 * 7, 3))
    await add(stores[0], upload_id, data[35 * MIB :], 35 * MIB)
    assert await content(stores[1], upload_id) == data


async def test_one_process_leaves_out_no_numbers(scene: Scene) -> None:
    data = some(41 * MIB)
    store = scene.store()
    upload_id = await create(store, len(data))
    await add(store, upload_id, data[: 5 * MIB], 0)
    await add(store, upload_id, data[5 * MIB : 30 * MIB], 5 * MIB)  # more at once than it may use without a state
    multipart = scene.multiparts()[0]
    parts = scene.s3.list_parts(Bucket=scene.bucket, Key=upload_id, UploadId=multipart)["Parts"]
    assert [part["PartNumber"] for part in parts] == [1, 2, 3, 4, 5, 6]
    await add(store, upload_id, data[30 * MIB :], 30 * MIB)
    assert await content(store, upload_id) == data
