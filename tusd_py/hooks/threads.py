"""Plain handlers in threads. A thread cannot be killed: one whose call was given up is abandoned, that is, nobody waits
for it, all that it asks of the loop fails, and its slot stays taken until it ends. Threads are daemons, so that one
that never ends does not keep the server from stopping. What a handler asks of the loop meanwhile, such as bytes, is
done by the task that waits for it: time limits and request ids then hold there, too.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

import anyio

from tusd_py import logs
from tusd_py.hooks.contract import HookError

_log = logging.getLogger(__name__)
T = TypeVar("T")
_OVER = "nobody waits for this call any more: it took too long, or it is over"


class Threads:
    """The threads of one hook, of which at most `limit` work at once, those that were abandoned among them. They are
    kept for the next call: to start one takes longer than most hooks do."""

    def __init__(self, name: str, limit: int) -> None:
        self.abandoned = 0
        self._name = name
        self._limit = limit
        self._limiter: anyio.CapacityLimiter | None = None
        self._idle: list[_Worker] = []
        self._is_closed = False

    async def run(self, what: str, function: Callable[[Errand], T]) -> T:
        """What `function` returns or raises. It is given an `Errand`, by which it may use the loop."""
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(self._limit)  # here, since it belongs to a loop
        errand = Errand(asyncio.get_running_loop())
        limiter = self._limiter
        await limiter.acquire_on_behalf_of(errand)

        def ended(result: Future[T]) -> None:
            errand.has_ended = True
            self._keep(worker)
            limiter.release_on_behalf_of(errand)
            if errand.is_over:
                self._tell_of_end(what, errand)
            errand.put(None, result)

        def work() -> None:
            result: Future[T] = Future()
            try:
                result.set_result(function(errand))
            except BaseException as error:  # of whatever kind, it belongs to whoever waits
                result.set_exception(error)
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                errand.loop.call_soon_threadsafe(ended, result)

        try:
            worker = self._idle.pop() if self._idle else _Worker(self._name)
        except RuntimeError as error:
            limiter.release_on_behalf_of(errand)
            raise HookError(f"no thread for {what}: {error}") from error
        worker.give(partial(copy_context().run, work))
        try:
            result: Future[T] = await errand.serve()
        finally:
            errand.close()
            if not errand.has_ended:
                self._abandon(what)
        return result.result()

    def close(self) -> None:
        """Let the threads end; those that are still at work do so when they are done."""
        self._is_closed = True
        while self._idle:
            self._idle.pop().give(None)

    def _keep(self, worker: _Worker) -> None:
        if self._is_closed:
            worker.give(None)
        else:
            self._idle.append(worker)

    def _abandon(self, what: str) -> None:
        self.abandoned += 1
        logs.event(
            _log,
            "HookAbandoned",
            level=logging.WARNING,
            hook=self._name,
            function=what,
            abandoned=self.abandoned,
            threads=self._limit,
            advice="a plain function cannot be killed and keeps its thread until it ends: give what it waits for a"
            " time limit, or make it async",
        )

    def _tell_of_end(self, what: str, errand: Errand) -> None:
        self.abandoned -= 1
        seconds = time.monotonic() - errand.begun_at
        logs.event(_log, "AbandonedHookEnded", hook=self._name, function=what, seconds=seconds)


class _Worker:
    """A thread that does one thing after another. Raises RuntimeError when the system has no thread left."""

    def __init__(self, name: str) -> None:
        self._given: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        threading.Thread(target=self._work, name=f"hook {name}", daemon=True).start()

    def give(self, work: Callable[[], object] | None) -> None:
        """None ends it."""
        self._given.put(work)

    def _work(self) -> None:
        while (work := self._given.get()) is not None:
            work()
            del work  # while it waits, it keeps nothing alive


class Errand:
    """A function that runs in a thread, and what it asks of the loop. `is_over`: nobody waits for it any more."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.is_over = False
        self.has_ended = False
        self._loop_thread = threading.get_ident()
        self.begun_at = time.monotonic()
        self._asked: asyncio.Queue[tuple[Callable[[], Awaitable[Any]] | None, Future[Any]]] = asyncio.Queue()

    def ask(self, do: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """In the thread: what `do` gives in the loop. Raises HookError when nobody waits for the thread any more."""
        if self.is_over or threading.get_ident() == self._loop_thread:  # whom it would wait for would be itself
            raise HookError(_OVER)
        answer: Future[T] = Future()
        try:
            self.loop.call_soon_threadsafe(self.put, do, answer)
        except RuntimeError:
            raise HookError("the server has stopped") from None
        return answer.result()

    def put(self, do: Callable[[], Awaitable[Any]] | None, answer: Future[Any]) -> None:
        """In the loop. Without `do`, `answer` is the end of the function."""
        if not self.is_over:
            self._asked.put_nowait((do, answer))
        elif do is not None:
            answer.set_exception(HookError(_OVER))

    async def serve(self) -> Future[Any]:
        """Do what is asked until the function ends."""
        while True:
            do, answer = await self._asked.get()
            if do is None:
                return answer
            try:
                answer.set_result(await do())
            except Exception as error:  # it belongs to the function, which asked
                answer.set_exception(error)
            except BaseException:
                answer.set_exception(HookError(_OVER))
                raise

    def close(self) -> None:
        self.is_over = True
        while not self._asked.empty():
            self.put(*self._asked.get_nowait())
