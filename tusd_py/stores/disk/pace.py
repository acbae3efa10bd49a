"""Where blocking file calls run: in the event loop while the disk is fast, in threads once it is slow.

A write into the page cache is faster done than handed to a thread; a disk that makes the loop wait would stall every
other upload. Calls that wait for the disk by design (fsync) always go to a thread, and the first that hangs there is
a warning for the others. A disk that hangs while nothing waits for it stops the loop once; after that it has to show
in threads that it is fast. Nothing here can be abandoned: a cancelled request waits for its call, so no late write
meets the next holder of the lock.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TypeVar

import anyio

from tusd_py.logs import event
from tusd_py.stores.disk.batches import Batches
from tusd_py.stores.disk.settling import Settling

T = TypeVar("T")

SLOW_SECONDS = 0.005
"""A call that takes longer makes the loop's other requests feel it."""

SLOW_BUDGET_SECONDS = 0.1
"""What such calls may take together before the disk counts as slow: one of them is often the machine's doing, which
had other work for this processor. A second gives it back."""

BUSY_SHARE = 0.25
"""A call in a thread waits for the interpreter too: under load one in three took longer than that, on a fast disk. So
it counts as slow only if this process used less than this share of its time."""

STUCK_SECONDS = 0.5
"""A call in a thread that takes longer tells of a disk that hangs, whatever it is for and whoever used the time."""

WARY_SECONDS = 2.0
"""How long calls go to threads at least, and for how long they must not have been slow before the loop is risked."""

LONGEST_WARY_SECONDS = 60.0
"""Up to which that time doubles while the loop finds the disk slow again: in a busy process threads cannot tell."""

log = logging.getLogger("tusd_py.disk")


class Pace:
    """Runs the file calls of one store. `threads` bounds how many wait for the disk at once, those that do so by design
    and those that are kept out of the loop: apart, so that what the page cache has waits behind no queue of syncs.
    """

    def __init__(
        self,
        settling: Settling | None = None,
        threads: int = 16,
        clock: Callable[[], float] = time.monotonic,
        cpu_clock: Callable[[], float] = time.process_time,
    ) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="tusd-py-disk")
        self._wary_executor = ThreadPoolExecutor(threads, thread_name_prefix="tusd-py-slow-disk")
        self._batches = Batches(self._run_watched, settling or Settling())
        self._clock = clock
        self._cpu_clock = cpu_clock
        # Threads report too. The loop looks at the first two without the lock: it does so thousands of times a second.
        self._lock = threading.Lock()
        self._is_wary = False
        self._under_way: dict[object, float] = {}  # calls in threads, oldest first: when they began
        self._slow_seconds = 0.0
        self._slow_at = 0.0
        self._suspected_at = 0.0
        self._trusted_at = float("-inf")
        self._wary_seconds = WARY_SECONDS

    @property
    def is_slow(self) -> bool:
        """Whether calls had better not run in the loop."""
        return self._is_wary or (bool(self._under_way) and self._has_stuck())

    async def run(self, call: Callable[[], T]) -> T:
        """Run a call that usually needs no disk access: inline unless the disk was slow of late."""
        if self.is_slow:
            return await self.wait(self._start(self._wary_executor, call))
        return self.run_inline(call)

    def run_inline(self, call: Callable[[], T]) -> T:
        """Run now, in the loop, and watch the time."""
        start = self._clock()
        try:
            return call()
        finally:
            seconds = self._clock() - start
            if seconds > SLOW_SECONDS:
                self._count_slow(start, seconds)

    def run_in_background(self, call: Callable[[], object]) -> None:
        """Run soon, in a thread, for nobody who waits. From any thread."""
        self._executor.submit(call)

    async def run_in_thread(self, call: Callable[[], T]) -> T:
        return await self.wait(self.start(call))

    async def run_step(self, call: Callable[[], T], undo: Callable[[T], object] | None = None) -> T:
        """Run a call that waits for the disk, but not for much data to get there. `undo` takes its result back, in a
        thread, should the disk refuse it after all, or nobody want it any more."""
        future = self._batches.start(call, undo)
        try:
            return await self.wait(future)
        except asyncio.CancelledError:
            if undo is not None and future.exception() is None:
                with suppress(Exception):
                    await self.run_in_thread(partial(undo, future.result()))  # while the caller still has the lock
            raise

    def start(self, call: Callable[[], T]) -> asyncio.Future[T]:
        """Begin a call in a thread; `wait` for it before anything it works on is closed."""
        return self._start(self._executor, call)

    async def wait(self, future: asyncio.Future[T]) -> T:
        """The result of a started call; a cancellation is delivered after it."""
        cancelled: asyncio.CancelledError | None = None
        # Two kinds of cancellation: anyio's scopes would deliver theirs again and again, a task's comes once.
        with anyio.CancelScope(shield=True):
            while not future.done():
                try:
                    await asyncio.shield(future)
                except asyncio.CancelledError as error:
                    cancelled = error
                except Exception:  # noqa: S110  (the future has it: raised below)
                    pass
        if cancelled is not None:
            raise cancelled
        return future.result()

    def close(self) -> None:
        self._batches.close()
        self._executor.shutdown(wait=True)
        self._wary_executor.shutdown(wait=True)

    # What the times tell.

    def _start(self, executor: Executor, call: Callable[[], T]) -> asyncio.Future[T]:
        is_kept_out = executor is self._wary_executor
        return asyncio.get_running_loop().run_in_executor(executor, self._run_watched, call, is_kept_out)

    def _run_watched(self, call: Callable[[], T], is_kept_out: bool = False) -> T:
        this = object()
        with self._lock:
            start = self._under_way[this] = self._clock()
        used = self._cpu_clock()
        try:
            return call()
        finally:
            with self._lock:
                del self._under_way[this]
                seconds = self._clock() - start
            if seconds > STUCK_SECONDS:
                self._become_wary(start, seconds)
            elif is_kept_out:
                if seconds <= SLOW_SECONDS:
                    self._consider_trust()
                elif self._cpu_clock() - used < seconds * BUSY_SHARE:
                    self._count_slow(start, seconds)

    def _has_stuck(self) -> bool:
        with self._lock:
            oldest = next(iter(self._under_way.values()), None)
            return oldest is not None and self._clock() - oldest > STUCK_SECONDS

    def _count_slow(self, start: float, seconds: float) -> None:
        with self._lock:
            forgiven = max(start - self._slow_at, 0.0) * SLOW_BUDGET_SECONDS
            self._slow_seconds = max(self._slow_seconds - forgiven, 0.0) + seconds
            self._slow_at = start + seconds
            if self._slow_seconds <= SLOW_BUDGET_SECONDS:
                return
            self._slow_seconds = 0.0
        self._become_wary(start, seconds)

    def _become_wary(self, start: float, seconds: float) -> None:
        with self._lock:
            self._suspected_at = start + seconds
            if self._is_wary:
                return
            self._is_wary = True
            is_relapse = start - self._trusted_at < self._wary_seconds
            self._wary_seconds = min(self._wary_seconds * 2, LONGEST_WARY_SECONDS) if is_relapse else WARY_SECONDS
        if not is_relapse:
            advice = "file calls go to threads until they are fast again"
            event(log, "DiskSlow", level=logging.WARNING, seconds=seconds, advice=advice)

    def _consider_trust(self) -> None:
        """A call that was kept out of the loop was fast."""
        if self._has_stuck():
            return
        with self._lock:
            now = self._clock()
            if self._is_wary and now - self._suspected_at > self._wary_seconds:
                self._is_wary = False
                self._trusted_at = now
