"""Calls that wait for the disk, a batch at a time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tusd_py.stores.disk.batches import MOST, THREADS, Batches

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
    batches = Batches(lambda call: call())
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
    batches, gate = Batches(lambda call: call()), Gate()
    held = batches.start(gate)
    await asyncio.to_thread(gate.arrived.wait, 10)
    closing = asyncio.create_task(asyncio.to_thread(batches.close))
    gate.opened.set()
    await closing
    assert await held == "gate"
