"""An event loop without clock, sockets and threads: whenever nothing is left to run, `idle` decides what happens next.

Each simulated process has a clock and random values of its own, so what it does depends on nothing but the answers that
it gets: the same answers in the same order make the same run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(eq=False, slots=True)
class Process:
    """`heard` is a hash of all that it was answered. `asks_at_once`: its calls are carried out without a decision."""

    name: str
    seconds: float = 0.0
    drawn: int = 0
    asked: int = 0
    heard: int = 0
    asks_at_once: bool = False
    is_over: bool = False

    def hear(self, *what: object) -> None:
        self.heard = hash((self.heard, *what))


ORACLE = Process("oracle", asks_at_once=True)
"""Whoever looks from outside, at one moment."""

RUNNING: ContextVar[Process] = ContextVar("RUNNING", default=ORACLE)


class SteppedLoop(asyncio.BaseEventLoop):
    """`idle` makes something ready to run, or calls `stop`, or raises."""

    def __init__(self) -> None:
        super().__init__()
        self.idle: Callable[[], None] = self.stop
        self.timers: list[tuple[Process, asyncio.TimerHandle]] = []
        self._selector = self
        self.set_exception_handler(lambda *_: None)  # of tasks of schedules that were broken off

    def run(self, idle: Callable[[], None]) -> None:
        """Until `idle` stops it, or raises."""
        self.idle = idle
        self.run_forever()

    def start(self, process: Process, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        context = Context()
        context.run(RUNNING.set, process)
        return self.create_task(work, context=context)

    def fire(self, timer: tuple[Process, asyncio.TimerHandle]) -> None:
        """Its time has come, whatever others' clocks say."""
        process, handle = timer
        self.timers.remove(timer)
        process.seconds = max(process.seconds, handle.when())
        process.hear("woke", handle.when())
        self._ready.append(handle)

    def clear(self) -> None:
        """End all tasks, so that nothing of this run is left for the next one."""
        self.run(self._cancel_all)
        self.timers.clear()

    def _cancel_all(self) -> None:
        tasks = asyncio.all_tasks(self)
        for task in tasks:
            task.cancel()
        if not tasks:
            self.stop()

    # What asyncio.BaseEventLoop asks of its heirs, and what is not as there.

    def select(self, timeout: float | None) -> tuple[()]:
        if timeout is None:
            self.idle()
        return ()

    def _process_events(self, _events: tuple[()]) -> None: ...

    def _write_to_self(self) -> None: ...

    def time(self) -> float:
        return RUNNING.get().seconds

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self.timers.append((RUNNING.get(), handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        self.timers = [timer for timer in self.timers if timer[1] is not handle]


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """The result of what never waits, as nothing that the oracle does."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    work.close()
    raise AssertionError("the oracle would have to wait")
