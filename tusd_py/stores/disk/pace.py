"""Where blocking file calls run: in the event loop while the disk is fast, in threads once it is slow.

A write into the page cache is faster done than handed to a thread; a disk that makes the loop wait would stall every
other upload. Calls that wait for the disk by design (fsync) always go to a thread. Nothing here can be abandoned:
a cancelled request waits for its call, so no late write meets the next holder of the lock.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import anyio

T = TypeVar("T")

SLOW_SECONDS = 0.005
"""A call that takes longer makes the loop's other requests feel it."""

SLOW_BUDGET_SECONDS = 0.1
"""What such calls may take together before the disk counts as slow: one of them is often the machine's doing, which
had other work for this processor. A second gives it back."""

WARY_SECONDS = 2.0
"""How long calls go to threads then."""


class Pace:
    """Runs the file calls of one store. `threads` bounds how many wait for the disk at once."""

    def __init__(self, threads: int = 16) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="tusd-py-disk")
        self._wary_until = 0.0
        self._slow_seconds = 0.0
        self._slow_at = 0.0

    @property
    def is_slow(self) -> bool:
        return time.monotonic() < self._wary_until

    def run_inline(self, call: Callable[[], T]) -> T:
        """Run now, in the loop, and watch the time."""
        start = time.monotonic()
        try:
            return call()
        finally:
            seconds = time.monotonic() - start
            if seconds > SLOW_SECONDS:
                self._count_slow(start, seconds)

    def _count_slow(self, start: float, seconds: float) -> None:
        forgiven = (start - self._slow_at) * SLOW_BUDGET_SECONDS
        self._slow_seconds = max(self._slow_seconds - forgiven, 0.0) + seconds
        self._slow_at = start + seconds
        if self._slow_seconds > SLOW_BUDGET_SECONDS:
            self._wary_until = self._slow_at + WARY_SECONDS

    async def run(self, call: Callable[[], T]) -> T:
        """Run a call that usually needs no disk access: inline unless the disk was slow of late."""
        if time.monotonic() < self._wary_until:
            return await self.run_in_thread(call)
        return self.run_inline(call)

    def run_in_background(self, call: Callable[[], object]) -> None:
        """Run soon, in a thread, for nobody who waits. From any thread."""
        self._executor.submit(call)

    async def run_in_thread(self, call: Callable[[], T]) -> T:
        return await self.wait(self.start(call))

    def start(self, call: Callable[[], T]) -> asyncio.Future[T]:
        """Begin a call in a thread; `wait` for it before anything it works on is closed."""
        return asyncio.get_running_loop().run_in_executor(self._executor, call)

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
        self._executor.shutdown(wait=True)
