"""Uploads: several requests at once, and a server that stops (failures F20, F21, F26, F36)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import anyio
import pytest
from feeding import END, Feed, sha1
from scene import Scene, refused

from tusd_py.core.upload import Upload, UploadId
from tusd_py.errors import TusError

pytestmark = pytest.mark.anyio

PATIENCE_SECONDS = 10.0


@pytest.fixture
async def scene(anyio_backend: str) -> Iterator[Scene]:
    made = Scene()
    yield made
    assert made.is_quiet()


@pytest.fixture
async def patient_scene(anyio_backend: str) -> Iterator[Scene]:
    """Here no client is ever stalled."""
    made = Scene(stall_seconds=60.0)
    yield made
    assert made.is_quiet()


class Appending:
    """An append under way in a task of its own; its body is fed by the test."""

    def __init__(self, scene: Scene, upload_id: UploadId, offset: int, *items: bytes, **fields: object) -> None:
        self.feed = Feed(*items)
        self.task = asyncio.create_task(scene.append(upload_id, offset, feed=self.feed, **fields))

    async def arrived(self) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self.feed.was_asked.wait()
            await self.feed.handed_over()

    async def outcome(self) -> Upload | TusError:
        async with asyncio.timeout(PATIENCE_SECONDS):
            try:
                return await self.task
            except TusError as error:
                return error


@pytest.mark.parametrize("count", [2, 5])
async def test_F21_of_appends_at_one_offset_exactly_one_wins(scene: Scene, count: int) -> None:
    made = await scene.create(8, b"xx")
    several = [Appending(scene, made.id, 2, bytes([65 + number]) * 3, END) for number in range(count)]
    outcomes = [await each.outcome() for each in several]
    winners = [number for number, outcome in enumerate(outcomes) if isinstance(outcome, Upload)]
    assert len(winners) == 1
    losers = [outcome for outcome in outcomes if isinstance(outcome, TusError)]
    assert [(each.status, each.headers["Upload-Offset"]) for each in losers] == [(409, "5")] * (count - 1)
    await scene.append(made.id, 5, b"end")
    assert await scene.content(made.id) == b"xx" + bytes([65 + winners[0]]) * 3 + b"end"


async def test_F21_a_second_append_waits_for_a_healthy_one(patient_scene: Scene) -> None:
    scene = patient_scene
    made = await scene.create(6)
    first = Appending(scene, made.id, 0, b"abc")
    await first.arrived()
    second = Appending(scene, made.id, 0, b"ABCDEF", END)
    await anyio.wait_all_tasks_blocked()
    assert not second.feed.was_asked.is_set()
    first.feed.give(b"def", END)
    assert isinstance(await first.outcome(), Upload)
    loser = await second.outcome()
    assert isinstance(loser, TusError)
    assert loser.status == 409
    assert not second.feed.was_asked.is_set()
    assert await scene.content(made.id) == b"abcdef"


async def test_F20_an_append_takes_over_from_a_stalled_one(scene: Scene) -> None:
    made = await scene.create(6)
    stalled = Appending(scene, made.id, 0, b"abc")
    await stalled.arrived()
    second = Appending(scene, made.id, 3, b"def", END)
    assert isinstance(await second.outcome(), Upload)
    loser = await stalled.outcome()
    assert isinstance(loser, TusError)
    assert (loser.status, loser.code) == (423, "ERR_UPLOAD_INTERRUPTED")
    stalled.feed.give(b"xyz", END)  # whatever still comes on the old connection is read by nobody
    assert await scene.content(made.id) == b"abcdef"


async def test_F20_inspect_ends_a_stalled_append_and_its_offset_is_accepted(scene: Scene) -> None:
    made = await scene.create(6)
    stalled = Appending(scene, made.id, 0, b"abc")
    await stalled.arrived()
    found = await scene.uploads.inspect(made.id)
    assert found.offset == 3
    assert isinstance(await stalled.outcome(), TusError)
    assert (await scene.append(made.id, found.offset, b"def")).is_available
    assert await scene.content(made.id) == b"abcdef"


async def test_F20_S9_inspect_of_a_stalled_checksummed_append_says_the_offset_before(scene: Scene) -> None:
    made = await scene.create(6)
    stalled = Appending(scene, made.id, 0, b"abc", checksum=sha1(b"abcdef"))
    await stalled.arrived()
    assert (await scene.uploads.inspect(made.id)).offset == 0
    assert isinstance(await stalled.outcome(), TusError)
    assert (await scene.append(made.id, 0, b"abcdef")).is_available


async def test_F28_inspect_never_interrupts_a_healthy_append(patient_scene: Scene) -> None:
    scene = patient_scene
    made = await scene.create(1000)
    healthy = Appending(scene, made.id, 0, b"abc")
    await healthy.arrived()
    sent = 3
    question = asyncio.create_task(scene.uploads.inspect(made.id))
    while (await asyncio.wait([question], timeout=0.02))[1]:
        healthy.feed.give(b"x")
        sent += 1
    assert (await question).offset in range(sent + 1)
    assert not healthy.task.done()
    healthy.feed.give(b"y" * (1000 - sent), END)
    assert isinstance(await healthy.outcome(), Upload)
    assert await scene.content(made.id) == b"abc" + b"x" * (sent - 3) + b"y" * (1000 - sent)


async def test_an_append_that_waits_too_long_is_423_and_reads_nothing(anyio_backend: str) -> None:
    scene = Scene(stall_seconds=60.0, timeout_seconds=0.05)
    made = await scene.create(6)
    healthy = Appending(scene, made.id, 0, b"abc")
    await healthy.arrived()
    waiter = Appending(scene, made.id, 3, b"def", END)
    refusal = await waiter.outcome()
    assert isinstance(refusal, TusError)
    assert (refusal.status, refusal.code) == (423, "ERR_UPLOAD_LOCKED")
    assert not waiter.feed.was_asked.is_set()
    healthy.feed.give(b"DEF", END)
    assert isinstance(await healthy.outcome(), Upload)
    assert await scene.content(made.id) == b"abcDEF"
    assert scene.is_quiet()


async def test_F26_terminate_ends_a_running_append_and_nothing_comes_back(patient_scene: Scene) -> None:
    scene = patient_scene
    made = await scene.create(6)
    running = Appending(scene, made.id, 0, b"abc")
    await running.arrived()
    async with asyncio.timeout(PATIENCE_SECONDS):
        await scene.uploads.terminate(made.id)
    outcome = await running.outcome()
    assert isinstance(outcome, TusError)
    assert (outcome.status, outcome.code) == (423, "ERR_UPLOAD_INTERRUPTED")
    assert scene.ids() == set()
    with refused(404):
        await scene.append(made.id, 3, b"def")
    assert scene.ids() == set()


async def test_F26_an_append_that_waits_behind_a_terminate_is_404(patient_scene: Scene) -> None:
    scene = patient_scene
    made = await scene.create(6)
    running = Appending(scene, made.id, 0, b"abc")
    await running.arrived()
    waiter = Appending(scene, made.id, 3, b"def", END)
    await anyio.wait_all_tasks_blocked()
    await scene.uploads.terminate(made.id)
    outcome = await waiter.outcome()
    assert isinstance(outcome, TusError)
    assert outcome.status == 404
    assert not waiter.feed.was_asked.is_set()
    assert isinstance(await running.outcome(), TusError)
    assert scene.ids() == set()


async def test_D2_of_two_terminations_at_once_one_finds_nothing(scene: Scene) -> None:
    made = await scene.create(6, b"abc")
    is_removing, go_on = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        is_removing.set()
        await go_on.wait()

    scene.store.before("terminate", wait)
    first = asyncio.create_task(scene.uploads.terminate(made.id))
    await is_removing.wait()
    second = asyncio.create_task(scene.uploads.terminate(made.id))
    await anyio.wait_all_tasks_blocked()
    go_on.set()
    await first
    with refused(404):
        await second


@pytest.mark.parametrize("is_final", [False, True])
async def test_stop_ends_running_appends_with_503_and_keeps_their_bytes(patient_scene: Scene, is_final: bool) -> None:
    scene = patient_scene
    ids = [(await scene.create(6)).id for _ in range(3)]
    several = [Appending(scene, upload_id, 0, b"abcdef" if is_final else b"abc") for upload_id in ids]
    for each in several:
        await each.arrived()
    scene.uploads.stop()
    for each in several:
        outcome = await each.outcome()
        assert isinstance(outcome, TusError)
        assert (outcome.status, outcome.code) == (503, "ERR_SERVER_SHUTDOWN")
    for upload_id in ids:
        found = await scene.uploads.inspect(upload_id)
        assert (found.offset, found.is_available) == ((6, True) if is_final else (3, False))
        assert scene.store._entries[upload_id].data == b"abcdef"[: found.offset]


async def test_stop_ends_also_those_who_wait_for_their_turn(patient_scene: Scene) -> None:
    scene = patient_scene
    made = await scene.create(9)
    running = Appending(scene, made.id, 0, b"abc")
    await running.arrived()
    waiter = Appending(scene, made.id, 3, b"def", END)
    await anyio.wait_all_tasks_blocked()
    scene.uploads.stop()
    for each in (running, waiter):
        outcome = await each.outcome()
        assert isinstance(outcome, TusError)
        assert outcome.status == 503
    assert not waiter.feed.was_asked.is_set()
    assert (await scene.uploads.inspect(made.id)).offset == 3


async def test_stop_ends_a_creation_with_upload_and_leaves_nothing(patient_scene: Scene) -> None:
    scene = patient_scene
    feed = Feed(b"abc")
    creating = asyncio.create_task(scene.create(6, feed=feed))
    await feed.was_asked.wait()
    await feed.handed_over()
    scene.uploads.stop()
    with refused(503):
        await creating
    assert scene.ids() == set()


async def test_a_cancelled_append_lets_go_of_everything(patient_scene: Scene) -> None:
    scene = patient_scene
    made = await scene.create(6)
    running = Appending(scene, made.id, 0, b"abc")
    await running.arrived()
    running.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running.task
    assert scene.is_quiet()
    offset = (await scene.uploads.inspect(made.id)).offset
    assert (await scene.append(made.id, offset, b"abcdef"[offset:])).is_available


async def test_F36_a_download_needs_no_lock(patient_scene: Scene) -> None:
    scene = patient_scene
    made = await scene.create(6, b"abcdef")
    async with scene.locker.hold(made.id, patient_scene.body(Feed()).release_requested):
        assert await scene.content(made.id) == b"abcdef"
