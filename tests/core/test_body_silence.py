"""Body: how long a client may be silent, who may take its upload, and what time does not count (tus K19; F20, F37)."""

from __future__ import annotations

import asyncio
import time

import anyio
import pytest
from feeding import END, Feed, Tub, left_behind

from tusd_py.core.body import Body, Wish
from tusd_py.core.patience import Patience
from tusd_py.errors import server_shutdown

pytestmark = pytest.mark.anyio

PATIENCE_SECONDS = 10.0
LONG_SECONDS = 60.0
SHORT_SECONDS = 0.02
STALL_SECONDS = 0.5


@pytest.fixture(autouse=True)
async def _nothing_is_left_behind(anyio_backend: str):
    yield
    assert left_behind() == []


class Reading:
    """A body on its way into a tub, in a task of its own, until the `async with` ends."""

    def __init__(self, body: Body, feed: Feed, tub: Tub) -> None:
        self.body, self.feed, self.tub = body, feed, tub
        self.task: asyncio.Task[None]

    async def __aenter__(self) -> Reading:
        self.task = asyncio.create_task(self.body.into(self.tub))
        await self.feed.was_asked.wait()
        return self

    async def __aexit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            self.task.cancel()
            return
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self.task


class Gate:
    """A store that is slow until it is opened."""

    def __init__(self) -> None:
        self.is_entered, self.is_open = asyncio.Event(), asyncio.Event()

    async def pause(self) -> None:
        self.is_entered.set()
        await self.is_open.wait()


def reading(*items: bytes, stall: float = LONG_SECONDS, idle: float = LONG_SECONDS, tub: Tub | None = None) -> Reading:
    feed = Feed(*items)
    return Reading(Body(feed, patience=Patience(stall, idle)), feed, tub or Tub())


def block_the_loop(seconds: float = 3 * SHORT_SECONDS) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


async def ask(body: Body, wish: Wish) -> bool:
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await body.release_requested(wish)


async def answers_while_sending(it: Reading, *questions: asyncio.Task[bool]) -> list[bool]:
    """The answers to the questions, while the client goes on sending a byte now and then."""
    while (await asyncio.wait(questions, timeout=SHORT_SECONDS))[1]:
        it.feed.give(b"x")
    return [await question for question in questions]


async def test_K19_a_client_that_is_silent_too_long_is_cut_off_and_its_bytes_stay() -> None:
    async with reading(b"abc", idle=SHORT_SECONDS) as it:
        pass
    error = it.body.error
    assert error is not None
    assert (error.code, error.status, error.headers) == ("ERR_READ_TIMEOUT", 503, {"Connection": "close"})
    assert (it.tub.data, it.body.received) == (b"abc", 3)


async def test_K19_each_byte_starts_the_silence_anew() -> None:
    started = time.monotonic()
    async with reading(idle=0.2) as it:
        for _ in range(4):
            await anyio.sleep(0.1)
            it.feed.give(b"x")
        it.feed.give(END)
    assert time.monotonic() - started > 0.3
    assert (it.tub.data, it.body.error) == (b"xxxx", None)


async def test_F37_time_in_the_store_is_not_the_clients_silence() -> None:
    gate = Gate()
    async with reading(b"abc", END, idle=SHORT_SECONDS, stall=SHORT_SECONDS, tub=Tub(pause=gate.pause)) as it:
        await gate.is_entered.wait()
        await anyio.sleep(5 * SHORT_SECONDS)
        assert it.body.error is None
        gate.is_open.set()
    assert (it.tub.data, it.body.error) == (b"abc", None)


async def test_F37_the_clients_silence_counts_from_the_end_of_a_pause() -> None:
    gate = Gate()
    async with reading(b"abc", idle=SHORT_SECONDS, tub=Tub(pause=gate.pause)) as it:
        await gate.is_entered.wait()
        gate.is_open.set()
    assert it.body.error is not None
    assert it.body.error.code == "ERR_READ_TIMEOUT"


async def test_F37_a_store_that_blocks_the_loop_is_not_the_clients_silence() -> None:
    async with reading(b"abc", b"def", END, idle=SHORT_SECONDS, tub=Tub(pause=block_the_loop)) as it:
        pass
    assert (it.tub.data, it.body.error) == (b"abcdef", None)


async def test_now_takes_the_upload_from_a_healthy_client_at_once() -> None:
    async with reading(b"abc") as it:
        await it.feed.handed_over()
        assert await ask(it.body, Wish.NOW)
    assert it.body.error is not None
    assert (it.body.error.code, it.body.error.status) == ("ERR_UPLOAD_INTERRUPTED", 423)
    assert it.tub.data == b"abc"


async def test_F20_if_stalled_leaves_a_healthy_client_alone() -> None:
    async with reading(b"abc", stall=STALL_SECONDS) as it:
        await it.feed.handed_over()
        questions = [asyncio.create_task(ask(it.body, Wish.IF_STALLED)) for _ in range(3)]
        assert await answers_while_sending(it, *questions) == [False] * 3
        it.feed.give(END)
    assert it.body.error is None
    assert it.tub.data.startswith(b"abcx")


@pytest.mark.parametrize("wish", [Wish.IF_STALLED, Wish.WHEN_STALLED])
async def test_F20_a_stalled_client_is_let_go_in_stall_seconds(wish: Wish) -> None:
    async with reading(b"abc", stall=SHORT_SECONDS) as it:
        await it.feed.handed_over()
        assert await ask(it.body, wish)
    assert it.body.error is not None
    assert it.body.error.code == "ERR_UPLOAD_INTERRUPTED"
    assert it.tub.data == b"abc"


async def test_F20_silence_before_the_question_counts() -> None:
    async with reading(b"abc", stall=0.3) as it:
        await it.feed.handed_over()
        await anyio.sleep(0.4)
        asked = time.monotonic()
        assert await ask(it.body, Wish.IF_STALLED)
        assert time.monotonic() - asked < 0.25


async def test_F20_two_who_ask_at_once_get_the_same_answer() -> None:
    async with reading(b"abc", stall=SHORT_SECONDS) as it:
        wishes = (Wish.IF_STALLED, Wish.WHEN_STALLED, Wish.IF_STALLED)
        assert await asyncio.gather(*(ask(it.body, wish) for wish in wishes)) == [True] * 3


async def test_F37_a_body_that_waits_for_the_store_is_not_stalled() -> None:
    gate = Gate()
    async with reading(b"abc", END, stall=SHORT_SECONDS, tub=Tub(pause=gate.pause)) as it:
        await gate.is_entered.wait()
        assert not await ask(it.body, Wish.IF_STALLED)
        waiting = asyncio.create_task(it.body.release_requested(Wish.WHEN_STALLED))
        await anyio.sleep(5 * SHORT_SECONDS)
        assert it.body.error is None
        assert not waiting.done()
        gate.is_open.set()
        await it.task
        waiting.cancel()
        await asyncio.wait([waiting])
    assert (it.tub.data, it.body.error) == (b"abc", None)


async def test_F37_now_ends_also_a_body_that_waits_for_the_store() -> None:
    gate = Gate()
    async with reading(b"abc", END, tub=Tub(pause=gate.pause)) as it:
        await gate.is_entered.wait()
        assert await ask(it.body, Wish.NOW)
    assert it.body.error is not None


async def test_when_stalled_waits_as_long_as_the_client_is_healthy() -> None:
    async with reading(b"abc") as it:
        waiting = asyncio.create_task(it.body.release_requested(Wish.WHEN_STALLED))
        for _ in range(5):
            it.feed.give(b"x")
            await it.feed.handed_over()
            assert not waiting.done()
        it.body.interrupt(server_shutdown())
        assert await waiting  # whatever the reason, it lets go
    assert it.tub.data == b"abcxxxxx"


async def test_a_waiter_that_leaves_takes_its_impatience_with_it() -> None:
    async with reading(b"abc", stall=0.2) as it:
        await it.feed.handed_over()
        for wish in (Wish.WHEN_STALLED, Wish.IF_STALLED):
            waiting = asyncio.create_task(it.body.release_requested(wish))
            await anyio.wait_all_tasks_blocked()
            waiting.cancel()
            await asyncio.wait([waiting])
        await anyio.sleep(0.3)
        assert it.body.error is None
        it.feed.give(b"d", END)
    assert (it.tub.data, it.body.error) == (b"abcd", None)


@pytest.mark.parametrize("has_ended", [False, True])
async def test_a_body_that_is_not_read_is_not_stalled_but_may_have_ended(has_ended: bool) -> None:
    """One that has ended says that it lets go: its store has only quick work left. No error comes of asking."""
    body = Body(Feed(b"abc", END), patience=Patience(SHORT_SECONDS))
    if has_ended:
        await body.into(Tub())
    assert await ask(body, Wish.IF_STALLED) is has_ended
    with anyio.move_on_after(3 * SHORT_SECONDS) as scope:
        await body.release_requested(Wish.WHEN_STALLED)
    assert scope.cancelled_caught
    assert body.error is None


async def test_F20_a_body_that_ends_while_somebody_asks_says_that_it_lets_go() -> None:
    async with reading(b"abc") as it:
        await it.feed.handed_over()
        question = asyncio.create_task(ask(it.body, Wish.IF_STALLED))
        await anyio.wait_all_tasks_blocked()
        it.feed.give(END)
        assert await question
    assert it.body.error is None


async def test_a_wish_that_was_there_before_the_first_byte_counts() -> None:
    feed, tub = Feed(), Tub()
    body = Body(feed, patience=Patience(SHORT_SECONDS))
    waiting = asyncio.create_task(body.release_requested(Wish.WHEN_STALLED))
    await anyio.wait_all_tasks_blocked()
    async with Reading(body, feed, tub):
        assert await waiting
    assert body.error is not None
    assert body.error.code == "ERR_UPLOAD_INTERRUPTED"


@pytest.mark.parametrize("is_asked_before", [False, True])
async def test_F37_bytes_that_are_there_already_are_no_silence_when_the_loop_was_busy(is_asked_before: bool) -> None:
    """Another upload's slow disk blocked the loop: when it goes on, the client's bytes and a HEAD are both there."""
    async with reading(b"abc", stall=STALL_SECONDS) as it:
        await it.feed.handed_over()
        question = asyncio.create_task(ask(it.body, Wish.IF_STALLED))
        if is_asked_before:
            await asyncio.sleep(0)
        # As the loop does it: what the sockets bring comes before the timers that are due.
        asyncio.get_running_loop().call_soon(it.feed.give, b"x")
        block_the_loop(STALL_SECONDS + 0.1)
        answers = await answers_while_sending(it, question)
        it.feed.give(END)
    assert (answers, it.body.error) == ([False], None)
