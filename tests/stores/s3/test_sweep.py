"""What the sweep removes from a bucket, what it leaves alone, how far it looks, and who makes it (F26, F27)."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from s3scene import MIB, Scene, add, content, create, new_upload, some

from tusd_py.core.upload import UploadId, new_id
from tusd_py.errors import upload_locked
from tusd_py.stores.s3 import S3Store, assembling, control, sweeping
from tusd_py.stores.s3.attributes import UPLOAD_ID
from tusd_py.stores.s3.bucket import Cursor
from tusd_py.stores.s3.memory import Part

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def free(_upload_id: UploadId) -> AsyncIterator[None]:
    yield


@asynccontextmanager
async def busy(_upload_id: UploadId) -> AsyncIterator[None]:
    raise upload_locked()
    yield


@pytest.fixture
def _all_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeping, "LATE_SECONDS", -10.0)


old = pytest.mark.usefixtures("_all_is_old")


async def test_it_removes_what_no_state_names_and_touches_nothing_else(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = scene.store()
    alive = await create(store, 20 * MIB)
    await add(store, alive, some(6 * MIB), 0)
    scene.s3.create_multipart_upload(Bucket=scene.bucket, Key=alive)  # as by a process that ended at once
    scene.s3.create_multipart_upload(Bucket=scene.bucket, Key="0" * 32)  # somebody else's
    scene.s3.create_multipart_upload(Bucket=scene.bucket, Key="report.pdf")
    scene.s3.put_object(Bucket=scene.bucket, Key="mine.info", Body=b"not ours")
    before = (scene.objects(), len(scene.multiparts()))
    assert await store.sweep_leftovers(free) == 0  # too young to be judged
    monkeypatch.setattr(sweeping, "LATE_SECONDS", -10.0)
    assert await store.sweep_leftovers(free) == 1
    assert (scene.objects(), len(scene.multiparts())) == (before[0], before[1] - 1)
    assert [each.id async for each in store.unfinished()] == [alive]
    assert (await store.read(alive)).offset == 6 * MIB


async def _object_alone(store: S3Store, upload_id: UploadId) -> None:
    """As by a process that ended after the first of two calls."""
    bucket = store.bucket
    whole = Part(bucket.memory)
    await whole.add(b"some")
    made = replace(new_upload(4), id=upload_id)
    record = (await store.create(made, 4))._record
    assert await assembling.put_if_absent(bucket, record, whole)
    whole.release()


@old
@pytest.mark.parametrize("prefix", ["", "in/"])
async def test_objects_of_uploads_that_nobody_was_told_of(scene: Scene, prefix: str) -> None:
    store = scene.store(prefix=prefix)
    finished = await create(store, 4)
    await add(store, finished, b"here", 0)
    alone = [new_id(), UploadId("f" * 32)]
    for each in alone:
        await _object_alone(store, each)
    foreign = ["0" * 32, "1" * 32, "notes", "f" * 32 + "-x"]
    for each in foreign:
        scene.s3.put_object(Bucket=scene.bucket, Key=prefix + each, Body=b"x")
    scene.s3.put_object(Bucket=scene.bucket, Key=prefix + "2" * 32, Body=b"x", Metadata={UPLOAD_ID: "3" * 32})
    scene.s3.put_object(Bucket=scene.bucket, Key="elsewhere/" + "4" * 32, Body=b"x", Metadata={UPLOAD_ID: "4" * 32})
    before = set(scene.objects())
    assert await store.sweep_leftovers(busy) == 0
    assert set(scene.objects()) == before
    assert await store.sweep_leftovers(free) == len(alone)
    assert before - set(scene.objects()) == {prefix + each for each in alone}
    assert await content(store, finished) == b"here"


@old
async def test_an_object_that_has_got_its_state_meanwhile_stays(scene: Scene) -> None:
    store = scene.store()
    upload_id = new_id()
    await _object_alone(store, upload_id)
    look = sweeping.Pass(store.bucket)
    assert [each async for each in look.unfinished()] == []
    await create(store, 9, id=upload_id)
    assert await look.sweep(free) == 0
    assert upload_id in scene.objects()


async def test_a_pass_goes_so_far_and_the_next_one_goes_on(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    one = scene.store()
    made = sorted([await create(one, 9) for _ in range(10)])
    two = S3Store(replace(one.bucket, cursor=Cursor()))
    monkeypatch.setattr(sweeping, "MOST_PAGES", 1)
    pages = control.Control.pages

    def short_pages(self: control.Control, name: str, **options: object) -> object:
        return pages(self, name, **({**options, "MaxKeys": 4} if name == "list_objects_v2" else options))

    monkeypatch.setattr(control.Control, "pages", short_pages)
    now = time.time()
    found = []
    for turn, store in enumerate((one, two, one)):
        monkeypatch.setattr(time, "time", lambda turn=turn: now + turn * 4000)
        assert await store.is_sweep_due(3600)
        seen = [each.id async for each in store.unfinished()]
        assert len(seen) <= 4
        found += seen
        await store.sweep_leftovers(free)
    assert found == made
    assert await one.is_sweep_due(3600) is False
    assert one.bucket.cursor.after == ""


async def test_one_of_all_servers_sweeps(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    stores = [scene.store() for _ in range(3)]
    assert [await each.is_sweep_due(3600) for each in stores] == [True, False, False]
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 3500)  # timers are not exact
    assert [await each.is_sweep_due(3600) for each in stores] == [True, False, False]
    monkeypatch.setattr(time, "time", lambda: now - 9000)  # and clocks may have been wrong
    assert [await each.is_sweep_due(3600) for each in stores] == [True, False, False]


@pytest.mark.parametrize("note", [b"", b"[]", b"{}", b'{"At": "x", "After": ""}'])
async def test_a_note_that_is_none_is_written_anew(scene: Scene, note: bytes) -> None:
    scene.s3.put_object(Bucket=scene.bucket, Key=".tusd-py/sweep", Body=note)
    store = scene.store()
    assert await store.is_sweep_due(3600)
    assert await store.is_sweep_due(3600) is False
