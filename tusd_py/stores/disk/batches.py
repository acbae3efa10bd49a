"""Short calls that wait for the disk, several at a time in a thread, which tells the loop once of all.

A thread for each call costs more than the call: whenever one comes back from the disk it fights the loop, and the other
threads, for the interpreter. Measured with 4 KiB uploads: a third more of them a second, at two thirds of the CPU.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")
_Outcome = tuple[asyncio.Future[Any], Any, BaseException | None]
"""Whose it is, its result, or its error."""

THREADS = 2
"""While one waits for the disk, the other works. More of them are slower."""

MOST = 16
"""Calls in a batch: the first one's answer waits for the last."""


class Batches:
    """Belongs to one event loop. `run` runs each call, in a thread."""

    def __init__(self, run: Callable[[Callable[[], Any]], Any]) -> None:
        self._run = run
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="tusd-py-steps")
        self._waiting: deque[tuple[asyncio.Future[Any], Callable[[], Any]]] = deque()
        self._busy = 0

    def start(self, call: Callable[[], T]) -> asyncio.Future[T]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._waiting.append((future, call))
        if self._busy < THREADS:
            self._busy += 1
            self._executor.submit(self._work, loop)
        return future

    def close(self) -> None:
        self._executor.shutdown(wait=True)

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        """In a thread: a batch of what waits."""
        done: list[_Outcome] = []
        while len(done) < MOST:
            try:
                future, call = self._waiting.popleft()  # the other thread takes from it, too
            except IndexError:
                break
            try:
                done.append((future, self._run(call), None))
            except BaseException as error:
                done.append((future, None, error))
        loop.call_soon_threadsafe(self._tell, loop, done)

    def _tell(self, loop: asyncio.AbstractEventLoop, done: list[_Outcome]) -> None:
        if self._waiting:
            self._executor.submit(self._work, loop)
        else:
            self._busy -= 1
        for future, result, error in done:
            if future.cancelled():
                continue
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)
