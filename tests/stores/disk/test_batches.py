"""Calls that wait for the disk, a batch at a time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tusd_py.stores.disk.batches import MOST, THREADS, Batches
from tusd_py.stores.disk.settling import Settling

pytestmark = pytest.mark.anyio


class Gate:
    """A call that waits until it is let through, and says that it is there."""

    def __init__(self) -> None:
        self.arrived = threading.Event()
        self.opened = threading.Event()

    def __call__(self) -> str:
        self.arrived.set()
        assert self.opened.wait(10)
        return "gate"


@pytest.fixture
def batches() -> Iterator[Batches]:
    batches = Batches(lambda call: call(), Settling())
    yield batches
    batches.close()


async def hold_all_threads(batches: Batches) -> tuple[list[Gate], list[asyncio.Future[str]]]:
    gates = [Gate() for _ in range(THREADS)]
    held = []
    for gate in gates:
        held.append(batches.start(gate))
        await asyncio.to_thread(gate.arrived.wait, 10)
    return gates, held


async def test_each_has_its_own_result_or_error(batches: Batches) -> None:
    def fail() -> None:
        raise ValueError("mine")

    calls: list[Callable[[], Any]] = [lambda n=n: n for n in range(5)]  # type: ignore[misc]
    outcomes = await asyncio.gather(*map(batches.start, [*calls, fail, *calls]), return_exceptions=True)
    assert outcomes[:5] == outcomes[6:] == list(range(5))
    assert isinstance(outcomes[5], ValueError)


async def test_what_waits_is_done_in_order_by_few_threads(batches: Batches) -> None:
    gates, held = await hold_all_threads(batches)
    order: list[int] = []
    waiting = [batches.start(lambda n=n: order.append(n)) for n in range(100)]  # type: ignore[misc]
    gates[0].opened.set()
    await asyncio.gather(*waiting)
    assert order == list(range(100))  # by the one thread that was free
    gates[1].opened.set()
    assert await asyncio.gather(*held) == ["gate"] * THREADS


async def test_the_loop_is_told_once_of_a_batch(batches: Batches, monkeypatch: pytest.MonkeyPatch) -> None:
    gates, held = await hold_all_threads(batches)
    loop = asyncio.get_running_loop()
    tell, told = loop.call_soon_threadsafe, []

    def count(callback: Callable[..., Any], *arguments: Any) -> Any:
        told.append(callback)
        return tell(callback, *arguments)

    waiting = [batches.start(lambda: None) for _ in range(MOST)]
    monkeypatch.setattr(loop, "call_soon_threadsafe", count)
    gates[0].opened.set()
    await asyncio.gather(*waiting)
    assert len(told) == 2  # MOST with the gate's own, and what was left
    gates[1].opened.set()
    await asyncio.gather(*held)


async def test_a_long_line_makes_nobody_wait_for_its_end(batches: Batches) -> None:
    gates, held = await hold_all_threads(batches)
    last = Gate()
    waiting = [batches.start(lambda n=n: n) for n in range(MOST)]  # type: ignore[misc]
    final = batches.start(last)
    gates[0].opened.set()
    assert await asyncio.gather(*waiting[: MOST - 1]) == list(range(MOST - 1))
    assert not final.done()
    for each in (last, gates[1]):
        each.opened.set()
    await asyncio.gather(*held, *waiting, final)


async def test_an_idle_one_starts_again(batches: Batches) -> None:
    for n in range(50):
        assert await batches.start(lambda n=n: n) == n  # type: ignore[misc]


async def test_closing_waits_for_what_is_under_way() -> None:
    batches, gate = Batches(lambda call: call(), Settling()), Gate()
    held = batches.start(gate)
    await asyncio.to_thread(gate.arrived.wait, 10)
    closing = asyncio.create_task(asyncio.to_thread(batches.close))
    gate.opened.set()
    await closing
    assert await held == "gate"


class Shared:
    """Something to sync, and a batch of calls that may need it."""

    def __init__(self) -> None:
        self.settling = Settling()
        self.error: OSError | None = None
        self.synced, self.undone = 0, list[str]()

    def sync(self) -> None:
        self.synced += 1
        if self.error is not None:
            raise self.error

    def needs(self) -> str:
        self.settling.need(self.sync)
        self.settling.need(self.sync)
        return "synced"


@pytest.fixture
def shared() -> Shared:
    return Shared()


async def in_one_batch(shared: Shared, calls: list[Callable[[], Any]]) -> list[Any]:
    batches = Batches(lambda call: call(), shared.settling)
    gates, held = await hold_all_threads(batches)
    waiting = [batches.start(call, shared.undone.append) for call in calls]
    gates[0].opened.set()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    gates[1].opened.set()
    await asyncio.gather(*held)
    await asyncio.to_thread(batches.close)
    return outcomes


async def test_what_all_of_a_batch_need_is_synced_once_and_before_they_are_told(shared: Shared) -> None:
    seen: list[int] = []
    calls: list[Callable[[], Any]] = [shared.needs, lambda: seen.append(shared.synced), shared.needs]
    assert await in_one_batch(shared, calls) == ["synced", None, "synced"]
    assert (shared.synced, seen) == (1, [0])
    assert shared.undone == []


async def test_outside_of_a_batch_it_is_synced_at_once(shared: Shared) -> None:
    await in_one_batch(shared, [shared.needs])
    shared.needs()
    assert shared.synced == 3


async def test_what_cannot_be_synced_fails_and_undoes_those_who_need_it(shared: Shared) -> None:
    shared.error = OSError("full")

    def fail() -> None:
        shared.needs()
        raise ValueError("mine")

    needy, free, failed = await in_one_batch(shared, [shared.needs, lambda: "free", fail])
    assert (needy, free) == (shared.error, "free")
    assert isinstance(failed, ValueError)
    assert shared.undone == ["synced"]


async def test_an_undo_that_fails_hides_nothing(shared: Shared) -> None:
    shared.error = OSError("full")

    class Odd(list[str]):
        def append(self, _: str) -> None:
            raise RuntimeError("undo")

    shared.undone = Odd()
    assert await in_one_batch(shared, [shared.needs]) == [shared.error]
