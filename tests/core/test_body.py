"""Body: bytes pass unchanged, are bounded, and end early in good order. Checksums and silence are elsewhere."""

from __future__ import annotations

import asyncio
import gc
import weakref

import anyio
import pytest
from feeding import END, Feed, Tub, left_behind
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tusd_py.core.body import Body, Sink, Wish, pour, unexpected_eof
from tusd_py.core.checksum import Checksum
from tusd_py.errors import BackendError, Interrupted, TusError, max_size_exceeded, server_shutdown, upload_not_found

pytestmark = pytest.mark.anyio

PATIENCE_SECONDS = 10.0


@pytest.fixture(autouse=True)
async def _nothing_is_left_behind(anyio_backend: str):
    yield
    assert left_behind() == []


async def into(body: Body, tub: Tub) -> None:
    with anyio.fail_after(PATIENCE_SECONDS):
        await body.into(tub)


def whatever() -> None:
    raise AssertionError("nothing is to be read back")


@pytest.mark.parametrize("room", [1, 2, 3, 7, 64])
@pytest.mark.parametrize("pieces", [[], [b"a"], [b"hello"], [b"hello", b"", b" ", b"world"], [b"x" * 200]])
async def test_the_bytes_arrive_as_they_were_sent(pieces: list[bytes], room: int) -> None:
    body, tub = Body(Feed(*pieces, END)), Tub(room)
    await into(body, tub)
    assert tub.data == b"".join(pieces)
    assert (body.received, body.error) == (len(tub.data), None)
    assert await body.accepts(whatever)


async def test_a_pause_of_the_sink_is_awaited_before_it_is_asked_again() -> None:
    steps: list[str] = []

    class Slow(Tub):
        def buffer(self) -> memoryview:
            steps.append("buffer")
            return super().buffer()

        async def write(self) -> None:
            await asyncio.sleep(0)
            steps.append("written")

        def filled(self, count: int):
            super().filled(count)
            steps.append("filled")
            return self.write()

    tub = Slow(room=2)
    await into(Body(Feed(b"abcd", END)), tub)
    assert steps == ["buffer", "filled", "written"] * 2
    assert tub.data == b"abcd"


@pytest.mark.parametrize("limit", [0, 1, 5, 6, None])
async def test_C10_as_many_bytes_as_allowed_pass(limit: int | None) -> None:
    data = b"x" * (9 if limit is None else limit)
    body, tub = Body(Feed(data, END)), Tub(4)
    body.bound(limit)
    await into(body, tub)
    assert (tub.data, body.error, body.received) == (data, None, len(data))


@pytest.mark.parametrize("limit", [0, 1, 4, 5, 8])
@pytest.mark.parametrize("pieces", [1, 3, 100])
async def test_F9_one_byte_too_many_ends_the_body_and_the_others_stay(limit: int, pieces: int) -> None:
    data = bytes(range(limit + 1))
    body, tub = Body(Feed(*(data[at : at + pieces] for at in range(0, len(data), pieces)), END)), Tub(4)
    body.bound(limit)
    await into(body, tub)
    assert (tub.data, body.received) == (data[:limit], limit)
    assert body.error is not None
    assert (body.error.status, body.error.code) == (413, "ERR_UPLOAD_SIZE_EXCEEDED")
    assert await body.accepts(whatever)


async def test_the_error_of_the_bound_is_the_callers() -> None:
    body = Body(Feed(b"abc", END))
    body.bound(2, lambda: max_size_exceeded(2))
    await into(body, Tub())
    assert body.error is not None
    assert body.error.code == "ERR_MAX_SIZE_EXCEEDED"


async def test_K20_a_connection_that_breaks_is_an_orderly_end() -> None:
    body, tub = Body(Feed(b"hel", b"lo", unexpected_eof())), Tub()
    await into(body, tub)
    assert tub.data == b"hello"
    assert body.error is not None
    assert (body.error.code, body.error.status) == ("ERR_UNEXPECTED_EOF", 400)
    assert await body.accepts(whatever)


@pytest.mark.parametrize("error", [BackendError(), OSError("disk"), upload_not_found()], ids=repr)
@pytest.mark.parametrize("is_late", [False, True], ids=["at once", "while waiting"])
async def test_into_raises_what_the_sink_raises(error: Exception, is_late: bool) -> None:
    """`Body.into`: raises only what the sink raises. `Sink.filled`: raises what the store raises, so 404 too."""

    async def fail() -> None:
        raise error

    def pause():
        if is_late:
            return fail()
        raise error

    body = Body(Feed(b"abc", END))
    with pytest.raises(type(error)) as caught:
        await into(body, Tub(pause=pause))
    assert caught.value is error
    assert body.error is None


async def test_memory_of_the_sink_does_not_wait_for_the_collector() -> None:
    """A request is part of cycles; what it was received into is not to be kept by them."""
    body, tub = Body(Feed(b"some", b"more", END)), Tub()
    await body.into(tub)
    tub_is_there = weakref.ref(tub)
    gc.disable()
    try:
        del tub
        assert tub_is_there() is None
    finally:
        gc.enable()


async def test_an_error_nobody_expects_from_a_source_is_not_swallowed() -> None:
    with pytest.raises(ZeroDivisionError):
        await into(Body(Feed(b"abc", ZeroDivisionError())), Tub())


async def test_interrupt_before_the_first_read_asks_for_nothing() -> None:
    feed, tub, error = Feed(b"abc", END), Tub(), server_shutdown()
    body = Body(feed)
    body.interrupt(error)
    await into(body, tub)
    assert body.error is error
    assert not feed.was_asked.is_set()
    assert not tub.data


async def test_interrupt_while_waiting_for_the_client_keeps_what_came() -> None:
    feed, tub, error = Feed(b"abc"), Tub(), server_shutdown()
    body = Body(feed)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(into, body, tub)
        await feed.handed_over()
        body.interrupt(error)
    assert (tub.data, body.error, body.received) == (b"abc", error, 3)
    assert await body.accepts(whatever)


async def test_interrupt_while_the_store_writes_ends_the_wait() -> None:
    is_writing, error = asyncio.Event(), server_shutdown()

    async def write_for_ever() -> None:
        is_writing.set()
        await asyncio.Event().wait()

    body, tub = Body(Feed(b"abc", b"def", END)), Tub(pause=write_for_ever)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(into, body, tub)
        await is_writing.wait()
        body.interrupt(error)
    assert (tub.data, body.error) == (b"abc", error)


async def test_interrupt_after_the_end_changes_nothing() -> None:
    body, tub = Body(Feed(b"abc", END)), Tub()
    await into(body, tub)
    body.interrupt(server_shutdown())
    assert body.error is None
    assert await body.release_requested(Wish.NOW)
    assert body.error is None


async def test_of_two_errors_the_first_is_kept() -> None:
    feed, first = Feed(b"abc"), server_shutdown()
    body = Body(feed)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(into, body, Tub())
        await feed.handed_over()
        body.interrupt(first)
        body.interrupt(Interrupted("again"))
    assert body.error is first


@pytest.mark.parametrize("wish", [None, Wish.WHEN_STALLED])
async def test_cancellation_from_outside_goes_through(wish: Wish | None) -> None:
    feed = Feed(b"abc")
    body, tub = Body(feed), Tub()
    async with anyio.create_task_group() as askers:
        if wish is not None:
            askers.start_soon(body.release_requested, wish)
        task = asyncio.create_task(body.into(tub))
        await feed.handed_over()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        askers.cancel_scope.cancel()
    assert task.cancelled()
    assert tub.data == b"abc"


async def test_a_scope_outside_that_ends_is_no_error_of_the_body() -> None:
    feed = Feed(b"abc")
    body = Body(feed)
    with anyio.CancelScope() as outside:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(body.into, Tub())
            await feed.handed_over()
            outside.cancel()
    assert outside.cancelled_caught
    assert body.error is None


class Steps:
    """A source of pieces that does something between two of them."""

    def __init__(self, pieces: list[bytes], at: int, act: object) -> None:
        self._pieces, self._at, self._act = pieces, at, act

    async def fill(self, sink: Sink) -> Checksum | None:
        for number, piece in enumerate(self._pieces):
            if number == self._at:
                self._act()
            await asyncio.sleep(0)
            await pour(piece, sink)
        return None


_PIECES = st.lists(st.binary(max_size=40), max_size=10)


@settings(deadline=None)
@given(_PIECES, st.integers(1, 50), st.integers(0, 12), st.sampled_from(["interrupt", "break", "nothing"]))
@example([b"abc", b"def"], 2, 1, "interrupt")
@example([b"abc", b"def"], 2, 1, "break")
def test_property_any_split_and_any_end_give_the_same_prefix(pieces: list[bytes], room: int, at: int, end: str) -> None:
    error: TusError = server_shutdown() if end == "interrupt" else unexpected_eof()

    async def run() -> tuple[Body, Tub]:
        def act() -> None:
            if end == "interrupt":
                body.interrupt(error)
            elif end == "break":
                raise error

        body, tub = Body(Steps(pieces, at, act)), Tub(room)
        await body.into(tub)
        return body, tub

    body, tub = anyio.run(run)
    has_ended_early = end != "nothing" and at < len(pieces)
    assert tub.data == b"".join(pieces[:at] if has_ended_early else pieces)
    assert body.received == len(tub.data)
    assert body.error is (error if has_ended_early else None)


@settings(deadline=None)
@given(_PIECES, st.integers(1, 50), st.integers(0, 200))
def test_property_any_split_and_any_bound_give_the_same_prefix(pieces: list[bytes], room: int, limit: int) -> None:
    async def run() -> tuple[Body, Tub]:
        body, tub = Body(Feed(*pieces, END)), Tub(room)
        body.bound(limit)
        await body.into(tub)
        return body, tub

    body, tub = anyio.run(run)
    data = b"".join(pieces)
    assert tub.data == data[:limit]
    assert body.received == len(tub.data)
    assert (body.error is not None) == (len(data) > limit)
