"""Hooks hear how far uploads are, now and again, and may stop them."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tusd_py.core.body import Body
from tusd_py.core.events import Caller, Reply
from tusd_py.core.upload import State, Upload, UploadId
from tusd_py.hooks.progress import Progress

pytestmark = pytest.mark.anyio

INTERVAL = 0.05


class Stored:
    """As much of a stored upload as progress looks at."""

    def __init__(self, upload: Upload) -> None:
        self.upload = upload


class Asked:
    """What is asked: with which offsets, and in `says` what is answered."""

    def __init__(self) -> None:
        self.offsets: list[int] = []
        self.says: Reply | None = None
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.was_asked = asyncio.Event()

    async def __call__(self, upload: Upload, _caller: Caller) -> Reply | None:
        self.offsets.append(upload.offset)
        self.was_asked.set()
        await self.may_answer.wait()
        return self.says

    async def again(self) -> None:
        self.was_asked.clear()
        async with asyncio.timeout(5):
            await self.was_asked.wait()


class Nothing:
    async def fill(self, _sink: object) -> None: ...


def body(received: int = 0) -> Body:
    made = Body(Nothing())
    made.received = received
    return made


UPLOAD = Upload(UploadId("a"), 100, offset=10)


async def test_a_long_body_is_told_again_and_again_with_what_arrived() -> None:
    asked = Asked()
    progress = Progress(asked, INTERVAL)
    bytes_ = body()
    with progress.watch(Stored(UPLOAD), bytes_, Caller()):
        for received in (5, 20, 21):
            bytes_.received = received
            await asked.again()
    assert asked.offsets == [15, 30, 31]
    await progress.aclose()


async def test_a_silent_one_is_not_told() -> None:
    asked = Asked()
    progress = Progress(asked, INTERVAL)
    other = body()
    with (
        progress.watch(Stored(UPLOAD), body(), Caller()),
        progress.watch(Stored(replace(UPLOAD, id=UploadId("b"))), other, Caller()),
    ):
        for received in (1, 2):
            other.received = received
            await asked.again()
    assert asked.offsets == [11, 12]
    await progress.aclose()


async def test_many_short_bodies_are_told_once_in_an_interval() -> None:
    asked = Asked()
    progress = Progress(asked, 60.0)
    for offset in range(10, 20):
        with progress.watch(Stored(replace(UPLOAD, offset=offset)), body(1), Caller()):
            pass
    await asyncio.sleep(0)
    assert asked.offsets == []
    progress._courses[UPLOAD.id, UPLOAD.created_at].asked_at -= 61
    with progress.watch(Stored(replace(UPLOAD, offset=20)), body(1), Caller()):
        pass
    await asked.again() if not asked.offsets else None
    assert asked.offsets == [21]
    await progress.aclose()


async def test_a_finished_upload_is_not_told_of_any_more() -> None:
    asked = Asked()
    progress = Progress(asked, 60.0)
    stored = Stored(UPLOAD)
    with progress.watch(stored, body(90), Caller()):
        progress._courses[UPLOAD.id, UPLOAD.created_at].asked_at -= 61
        stored.upload = replace(UPLOAD, offset=100, state=State.AVAILABLE)
    await asyncio.sleep(0)
    assert (asked.offsets, progress._tasks) == ([], set())
    await progress.aclose()


async def test_a_slow_hook_is_asked_once_at_a_time() -> None:
    asked = Asked()
    asked.may_answer.clear()
    progress = Progress(asked, INTERVAL)
    slow, quick = body(), body()
    with progress.watch(Stored(UPLOAD), slow, Caller()):
        slow.received = 1
        await asked.again()
        with progress.watch(Stored(replace(UPLOAD, id=UploadId("b"))), quick, Caller()):
            quick.received = 2
            slow.received = 3
            await asked.again()
    assert asked.offsets == [11, 12]
    await progress.aclose()


async def test_a_stop_ends_the_body_and_the_next_one_too() -> None:
    asked = Asked()
    asked.says = Reply(418, {"X-A": "b"}, "tea")
    progress = Progress(asked, INTERVAL)
    first, second = body(), body()
    with progress.watch(Stored(UPLOAD), first, Caller()):
        first.received = 1
        await asked.again()
        await asyncio.gather(*progress._tasks)
    assert first.error is not None
    assert (first.error.code, first.error.status, first.error.body) == ("ERR_UPLOAD_STOPPED", 418, "tea")
    with progress.watch(Stored(UPLOAD), second, Caller()):
        assert second.error is first.error
    await progress.aclose()


async def test_closing_ends_what_is_being_asked() -> None:
    asked = Asked()
    asked.may_answer.clear()
    progress = Progress(asked, INTERVAL)
    bytes_ = body()
    with progress.watch(Stored(UPLOAD), bytes_, Caller()):
        bytes_.received = 1
        await asked.again()
    await progress.aclose()
    assert progress._tasks == set()


async def test_what_stopped_an_upload_does_not_stop_the_next_one_of_its_id() -> None:
    asked = Asked()
    asked.says = Reply(413)
    progress = Progress(asked, INTERVAL)
    first = Stored(replace(UPLOAD, is_named=True, created_at=1.0))
    stopped, going = body(5), body()
    with progress.watch(first, stopped, Caller()):
        await asked.again()
        await asyncio.sleep(0)
    assert stopped.error is not None
    asked.says = None
    with progress.watch(Stored(replace(first.upload, created_at=2.0, offset=0)), going, Caller()):
        assert going.error is None
    await progress.aclose()
