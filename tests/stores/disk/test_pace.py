"""When file calls leave the event loop, and when they come back."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import anyio
import anyio.to_thread
import pytest
from pacing import Clock

from tusd_py.stores.disk.pace import (
    LONGEST_WARY_SECONDS,
    SLOW_BUDGET_SECONDS,
    SLOW_SECONDS,
    STUCK_SECONDS,
    WARY_SECONDS,
    Pace,
)

pytestmark = pytest.mark.anyio

QUICK = SLOW_SECONDS / 10
SLUGGISH = SLOW_SECONDS * 4
HOUR = 3600.0


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def threads() -> int:
    return 16


@pytest.fixture
def pace(clock: Clock, threads: int) -> Iterator[Pace]:
    made = clock.pace(threads)
    yield made
    made.close()


async def is_inline(pace: Pace, call: Callable[[], threading.Thread]) -> bool:
    return await pace.run(call) is threading.current_thread()


@asynccontextmanager
async def held(start: Callable[[Callable[[], object]], object]) -> AsyncIterator[None]:
    """A call in a thread that is under way for as long as the block."""
    begun, go_on = threading.Event(), threading.Event()

    def call() -> None:
        begun.set()
        assert go_on.wait(30)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(start, call)
        assert await anyio.to_thread.run_sync(begun.wait, 30)
        try:
            yield
        finally:
            go_on.set()


async def test_quick_calls_stay_in_the_loop(clock: Clock, pace: Pace) -> None:
    for _ in range(10_000):
        assert await is_inline(pace, clock.taking(QUICK))


async def test_a_slow_call_now_and_then_is_the_machines_doing(clock: Clock, pace: Pace) -> None:
    for _ in range(100):
        assert await is_inline(pace, clock.taking(SLOW_BUDGET_SECONDS * 0.9))
        clock.advance(1.0)


async def test_a_disk_that_gets_slow_stops_the_loop_for_little_more_than_the_budget(clock: Clock, pace: Pace) -> None:
    stopped = 0.0
    for _ in range(10_000):
        stopped += SLUGGISH * await is_inline(pace, clock.taking(SLUGGISH))
    assert stopped <= SLOW_BUDGET_SECONDS + SLUGGISH * 2


async def test_a_disk_that_hangs_stops_the_loop_once(clock: Clock, pace: Pace) -> None:
    assert await is_inline(pace, clock.taking(10.0))
    for _ in range(100):
        assert not await is_inline(pace, clock.taking(10.0))


async def test_no_time_that_passes_is_a_proof(clock: Clock, pace: Pace) -> None:
    await pace.run(clock.taking(10.0))
    clock.advance(HOUR)
    assert pace.is_slow
    assert not await is_inline(pace, clock.taking(10.0))
    clock.advance(HOUR)
    assert not await is_inline(pace, clock.taking(QUICK))
    assert await is_inline(pace, clock.taking(QUICK))


async def test_quick_calls_in_threads_bring_the_others_back_after_a_while(clock: Clock, pace: Pace) -> None:
    await pace.run(clock.taking(10.0))
    for _ in range(10):
        assert not await is_inline(pace, clock.taking(WARY_SECONDS / 1000))
    clock.advance(WARY_SECONDS)
    assert not await is_inline(pace, clock.taking(QUICK))
    assert await is_inline(pace, clock.taking(SLUGGISH))  # the machine's doing, as ever
    assert not pace.is_slow


async def test_a_call_that_is_slow_among_many_quick_ones_in_threads_keeps_them_there(clock: Clock, pace: Pace) -> None:
    """Most calls need the page cache only; it is the few others that would stop the loop."""
    await pace.run(clock.taking(10.0))
    for number in range(1000):
        assert not await is_inline(pace, clock.taking(0.2 if number % 20 == 0 else WARY_SECONDS / 40 - 0.02))
        clock.advance(0.02)


@pytest.mark.parametrize(("busy", "comes_back"), [(0.2, False), (0.5, True)])
async def test_waiting_for_a_busy_interpreter_is_not_the_disks_slowness(
    clock: Clock, pace: Pace, busy: float, comes_back: bool
) -> None:
    await pace.run(clock.taking(10.0))
    for _ in range(200):
        await pace.run(clock.taking(SLUGGISH, busy=busy))
    await pace.run(clock.taking(QUICK))
    assert pace.is_slow != comes_back


async def test_a_disk_that_threads_find_fast_and_the_loop_finds_slow_is_tried_ever_more_seldom(
    clock: Clock, pace: Pace
) -> None:
    pauses = []
    for _ in range(8):
        assert await is_inline(pace, clock.taking(0.2))
        began = clock.seconds
        while pace.is_slow:
            assert not await is_inline(pace, clock.taking(QUICK))
            clock.advance(0.1)
        pauses.append(clock.seconds - began)
    assert pauses == pytest.approx([2, 4, 8, 16, 32, 60, 60, 60], abs=0.3)
    assert pauses[-1] >= LONGEST_WARY_SECONDS
    clock.advance(LONGEST_WARY_SECONDS)  # in which it was as fast as it seemed
    await pace.run(clock.taking(0.2))
    clock.advance(WARY_SECONDS + 0.1)
    await pace.run(clock.taking(QUICK))
    assert not pace.is_slow


async def test_a_sync_that_hangs_is_a_warning_for_the_calls_in_the_loop(clock: Clock, pace: Pace) -> None:
    async with held(pace.run_in_thread):
        clock.advance(STUCK_SECONDS)
        assert await is_inline(pace, clock.taking(0.0))
        clock.advance(0.01)
        assert not await is_inline(pace, clock.taking(QUICK))
    assert pace.is_slow
    clock.advance(WARY_SECONDS + 0.1)
    assert not await is_inline(pace, clock.taking(QUICK))
    assert not pace.is_slow


async def test_the_oldest_of_many_syncs_tells(clock: Clock, pace: Pace) -> None:
    async with held(pace.run_in_thread):
        clock.advance(STUCK_SECONDS / 2)
        async with held(pace.run_in_thread):
            clock.advance(STUCK_SECONDS / 2 + 0.01)
            assert pace.is_slow


async def test_syncs_that_take_their_time_are_no_warning(clock: Clock, pace: Pace) -> None:
    for _ in range(1000):
        await pace.run_in_thread(clock.taking(STUCK_SECONDS - 0.1))
        assert await is_inline(pace, clock.taking(QUICK))


async def test_while_a_call_hangs_quick_ones_prove_nothing(clock: Clock, pace: Pace) -> None:
    await pace.run(clock.taking(10.0))
    async with held(pace.run):
        for _ in range(100):
            clock.advance(WARY_SECONDS)
            assert not await is_inline(pace, clock.taking(QUICK))
    assert not await is_inline(pace, clock.taking(QUICK))
    clock.advance(WARY_SECONDS + 0.1)
    await pace.run(clock.taking(QUICK))
    assert not pace.is_slow


@pytest.mark.parametrize("threads", [1])
async def test_calls_that_are_kept_out_of_the_loop_wait_behind_no_sync(clock: Clock, pace: Pace) -> None:
    async with held(pace.run_in_thread):
        clock.advance(STUCK_SECONDS + 0.1)
        with anyio.fail_after(30):
            assert not await is_inline(pace, clock.taking(QUICK))


async def test_calls_that_fail_tell_of_the_disk_too(clock: Clock, pace: Pace) -> None:
    def fail() -> None:
        clock.advance(10.0)
        raise OSError(5, "broken")

    with pytest.raises(OSError, match="broken"):
        await pace.run(fail)
    clock.advance(WARY_SECONDS + 0.1)
    with pytest.raises(OSError, match="broken"):
        await pace.run(fail)
    await pace.run(clock.taking(QUICK))
    assert pace.is_slow
    assert not pace._under_way


async def test_the_log_says_once_that_the_disk_is_slow(
    clock: Clock, pace: Pace, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        for _ in range(50):
            await pace.run(clock.taking(10.0))
        clock.advance(WARY_SECONDS + 0.1)
        await pace.run(clock.taking(QUICK))
        assert await is_inline(pace, clock.taking(10.0))
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", 'DiskSlow seconds=10 advice="file calls go to threads until they are fast again"')
    ]


async def test_a_cancelled_call_is_over_before_its_cancellation_is_told(clock: Clock, pace: Pace) -> None:
    """So that no late write meets the next holder of the lock."""
    await pace.run(clock.taking(10.0))
    begun, go_on, over = threading.Event(), threading.Event(), threading.Event()

    def call() -> None:
        begun.set()
        assert go_on.wait(30)
        over.set()

    async def run() -> None:
        try:
            await pace.run(call)
        finally:
            assert over.is_set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        assert await anyio.to_thread.run_sync(begun.wait, 30)
        tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await anyio.wait_all_tasks_blocked()
        go_on.set()
    assert over.is_set()


async def test_what_nobody_wants_any_more_is_undone_before_the_cancellation_is_told(pace: Pace) -> None:
    """So while the caller has the lock: an id may come again."""
    begun, go_on, undone = threading.Event(), threading.Event(), threading.Event()

    def call() -> str:
        begun.set()
        assert go_on.wait(30)
        return "made"

    def undo(result: str) -> None:
        assert result == "made"
        undone.set()

    task = asyncio.create_task(pace.run_step(call, undo))
    assert await anyio.to_thread.run_sync(begun.wait, 30)
    task.cancel()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert undone.is_set()
