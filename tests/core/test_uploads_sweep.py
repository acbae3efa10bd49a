"""Uploads: expiry and sweeping (tus E1 to E3; failures F27)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import nullcontext

import anyio
import pytest
from feeding import END, Feed
from scene import Scene, refused

from tusd_py.core.rules import Rules
from tusd_py.core.upload import UploadId
from tusd_py.errors import BackendError

pytestmark = pytest.mark.anyio

EXPIRE_SECONDS = 100.0


@pytest.fixture
async def scene(anyio_backend: str) -> Iterator[Scene]:
    made = Scene(Rules(expire_after_seconds=EXPIRE_SECONDS), stall_seconds=60.0)
    yield made
    assert made.is_quiet()


async def test_E1_only_what_is_unfinished_and_old_is_swept(scene: Scene) -> None:
    old, young = await scene.create(5, b"he"), await scene.create(5, b"he")
    done = await scene.create(5, b"hello")
    for each in (old, done):
        scene.age(each.id, EXPIRE_SECONDS + 1)
    assert await scene.uploads.sweep() == 1
    assert scene.ids() == {young.id, done.id}
    assert await scene.content(done.id) == b"hello"
    assert await scene.uploads.sweep() == 0


async def test_E2_the_time_to_live_starts_anew_with_each_append(scene: Scene) -> None:
    made = await scene.create(5, b"he")
    scene.age(made.id, EXPIRE_SECONDS - 1)
    before = (await scene.uploads.inspect(made.id)).expires_at
    after = (await scene.append(made.id, 2, b"l")).expires_at
    assert before is not None
    assert after is not None
    assert after > before + EXPIRE_SECONDS - 2
    assert abs(after - time.time() - EXPIRE_SECONDS) < 5
    assert await scene.uploads.sweep() == 0


async def test_E2_a_finished_upload_never_expires(scene: Scene) -> None:
    made = await scene.create(5, b"hello")
    scene.age(made.id, 10 * EXPIRE_SECONDS)
    found = await scene.uploads.inspect(made.id)
    assert found.expires_at is None
    assert (await scene.append(made.id, 5)).is_available


async def test_E1_nothing_expires_without_the_rule(anyio_backend: str) -> None:
    scene = Scene()
    made = await scene.create(5, b"he")
    scene.age(made.id, 1e9)
    assert (await scene.uploads.inspect(made.id)).expires_at is None
    assert await scene.uploads.sweep() == 0
    assert scene.ids() == {made.id}


async def test_E3_an_expired_upload_is_410_until_it_is_swept_and_404_after(scene: Scene) -> None:
    made = await scene.create(5, b"he")
    scene.age(made.id, EXPIRE_SECONDS + 1)
    feed = Feed(b"llo", END)
    for verb in (scene.uploads.inspect(made.id), scene.append(made.id, 2, feed=feed)):
        with refused(410):
            await verb
    await scene.uploads.sweep()
    for verb in (scene.uploads.inspect(made.id), scene.append(made.id, 2, feed=feed)):
        with refused(404):
            await verb
    assert not feed.was_asked.is_set()


async def test_F27_an_append_under_way_keeps_its_upload(scene: Scene) -> None:
    made = await scene.create(5)
    feed = Feed(b"he")
    appending = asyncio.create_task(scene.append(made.id, 0, feed=feed))
    await feed.was_asked.wait()
    await feed.handed_over()
    scene.age(made.id, EXPIRE_SECONDS + 1)
    with anyio.fail_after(5):
        assert await scene.uploads.sweep() == 0  # neither waits for the client nor takes the upload from it
    assert not appending.done()
    feed.give(b"llo", END)
    assert (await appending).is_available
    assert await scene.content(made.id) == b"hello"


async def test_F27_an_append_that_came_first_wins(scene: Scene) -> None:
    """The sweep read an old record, and somebody appended before it had the lock."""
    made = await scene.create(5, b"he")
    scene.age(made.id, EXPIRE_SECONDS + 1)
    stale = await scene.store.read(made.id)
    scene.age(made.id, 0)
    assert await scene.uploads._upkeep._sweep_one(stale) == 0
    assert scene.ids() == {made.id}


async def test_F27_one_that_cannot_be_swept_does_not_keep_the_others(scene: Scene) -> None:
    ids = [(await scene.create(5, b"he")).id for _ in range(3)]
    for each in ids:
        scene.age(each, EXPIRE_SECONDS + 1)
    scene.store.fail("terminate", BackendError())
    assert await scene.uploads.sweep() == 2
    assert len(scene.ids()) == 1
    assert await scene.uploads.sweep() == 1


async def test_F27_leftovers_of_held_uploads_stay(scene: Scene) -> None:
    waits: list[UploadId] = []

    async def sweep_leftovers(hold: object) -> int:
        """A store that finds something of both ids."""
        for upload_id in (UploadId("held"), UploadId("free")):
            with refused(423) if upload_id == "held" else nullcontext():
                async with hold(upload_id):
                    waits.append(upload_id)
        return len(waits)

    scene.store.sweep_leftovers = sweep_leftovers
    async with scene.locker.hold(UploadId("held"), scene.body(Feed()).release_requested):
        assert await scene.uploads.sweep() == 1
    assert waits == ["free"]


async def test_E1_a_waiting_final_whose_partials_expire_goes_with_them_and_its_note_too(scene: Scene) -> None:
    one = await scene.partial(5)
    made = await scene.final(one.id)
    for each in (made, one):
        scene.age(each.id, EXPIRE_SECONDS + 1)
    with refused(410):
        await scene.uploads.inspect(made.id)
    assert await scene.uploads.sweep() >= 2
    assert scene.ids() == set()
    assert await scene.store.waiting_for(one.id) == []


async def test_F16_E3_an_expired_final_that_is_asked_for_again_is_no_dead_end(scene: Scene) -> None:
    """A retried POST must not answer 201 with an upload that every other request calls expired."""
    one = await scene.partial(5)
    made = await scene.final(one.id)
    scene.age(made.id, EXPIRE_SECONDS + 1)
    again = await scene.final(one.id)
    assert (await scene.uploads.inspect(again.id)).id == made.id


async def test_sweeping_costs_what_is_unfinished(scene: Scene) -> None:
    for _ in range(20):
        await scene.create(5, b"hello")
    pending = await scene.create(5)
    scene.store.calls.clear()
    assert await scene.uploads.sweep() == 0
    assert sum(scene.store.calls.values()) <= 1
    assert pending.id in scene.ids()


async def test_E1_a_waiting_final_lives_as_long_as_its_partials_are_written(scene: Scene) -> None:
    """A parallel upload may take longer than an upload may be left alone."""
    one, two = await scene.partial(5), await scene.partial(5, b"world")
    made = await scene.final(one.id, two.id)
    for each in (made, two):
        scene.age(each.id, EXPIRE_SECONDS + 1)
    await scene.append(one.id, 0, b"he")
    assert not (await scene.uploads.inspect(made.id)).is_available
    assert await scene.uploads.sweep() == 0
    await scene.append(one.id, 2, b"llo")
    assert await scene.content(made.id) == b"helloworld"
