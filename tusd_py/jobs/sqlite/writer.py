"""The one thread that touches the file: what waits while a transaction is committed goes into the next one.

So 64 tasks that put a job each wait for the disk once, not 64 times. Steps are given and told in the loop.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from tusd_py.errors import BackendError, ConfigError
from tusd_py.jobs.sqlite.database import Database
from tusd_py.jobs.sqlite.failures import MESSAGE, Failures, breaks_connection, is_damage, is_of_file

T = TypeVar("T")

MOST = 256
"""Steps in a transaction: the first one's answer waits for the last."""


@dataclass(slots=True, eq=False)
class _Step(Generic[T]):
    call: Callable[[sqlite3.Connection], T]
    is_write: bool
    future: asyncio.Future[T]
    result: T | None = None
    error: BaseException | None = None

    def tell(self) -> None:
        if self.future.cancelled():
            return
        if self.error is None:
            self.future.set_result(self.result)  # type: ignore[arg-type]
        else:
            self.future.set_exception(self.error)


class Writer:
    """Belongs to one event loop. Futures raise BackendError; then nothing of the step has counted, or, if the disk
    failed while it was told to keep it, it may have."""

    def __init__(self, path: str, busy_seconds: float, on_loss: Callable[[], None]) -> None:
        self._database = Database(path, busy_seconds)
        self._failures = Failures(path)
        self._on_loss = on_loss
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="tusd-py-jobs")
        self._waiting: deque[_Step[Any]] = deque()
        self._is_busy = False
        self._is_closed = False

    async def start(self) -> None:
        """Open the file, or make it. Raises ConfigError when it cannot be used as it is."""
        try:
            await asyncio.get_running_loop().run_in_executor(self._executor, self._database.connection)
        except (sqlite3.Error, OSError) as error:
            advice = self._failures.advice(error)
            raise ConfigError(f"the queue {self._failures.path} cannot be used ({error}): {advice}") from error
        self._tell_loss()

    def read(self, call: Callable[[sqlite3.Connection], T]) -> asyncio.Future[T]:
        """Waits for no other process."""
        return self._start(call, is_write=False)

    def write(self, call: Callable[[sqlite3.Connection], T]) -> asyncio.Future[T]:
        """On the disk when the future is done. `call` may be called twice."""
        return self._start(call, is_write=True)

    async def aclose(self) -> None:
        """What was begun is ended first. May be called twice."""
        if self._is_closed:
            return
        self._is_closed = True
        loop = asyncio.get_running_loop()
        while self._waiting or self._is_busy:
            await loop.run_in_executor(self._executor, bool)  # behind what is under way
        await loop.run_in_executor(self._executor, self._database.close)
        self._executor.shutdown(wait=False)

    def _start(self, call: Callable[[sqlite3.Connection], T], is_write: bool) -> asyncio.Future[T]:
        if self._is_closed:
            raise BackendError(MESSAGE)
        loop = asyncio.get_running_loop()
        step = _Step(call, is_write, loop.create_future())
        self._waiting.append(step)
        if not self._is_busy:
            self._is_busy = True
            self._executor.submit(self._work, loop)
        return step.future

    # In the thread.

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), MOST))]
        self._carry_out("BEGIN", [step for step in batch if not step.is_write])
        self._carry_out("BEGIN IMMEDIATE", [step for step in batch if step.is_write])
        with suppress(RuntimeError):  # the loop has ended, and with it who waited
            loop.call_soon_threadsafe(self._tell, loop, batch)

    def _carry_out(self, begin: str, steps: list[_Step[Any]]) -> None:
        """All of them in one transaction; if one of them is wrong, each in its own."""
        if not steps:
            return
        connection: sqlite3.Connection | None = None
        try:
            connection = self._database.begin(begin)
            for step in steps:
                step.result = step.call(connection)
            connection.execute("COMMIT")
            if not self._database.is_in_place():
                raise FileNotFoundError(f"{self._failures.path} was removed or replaced while it was written")
        except BaseException as error:
            self._take_back(connection, error)
            if len(steps) == 1 or is_of_file(error):
                for step in steps:
                    step.error = self._failures.translated(error)
            else:
                for step in steps:
                    self._carry_out(begin, [step])

    def _take_back(self, connection: sqlite3.Connection | None, error: BaseException) -> None:
        if connection is not None and connection.in_transaction:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
        if is_damage(error):
            with suppress(OSError, ConfigError):  # it cannot be moved now; the next who meets it tries again
                self._database.set_aside(str(error))
        elif breaks_connection(error):
            self._database.close()

    # In the loop.

    def _tell(self, loop: asyncio.AbstractEventLoop, batch: list[_Step[Any]]) -> None:
        if self._waiting:
            self._executor.submit(self._work, loop)
        else:
            self._is_busy = False
        for step in batch:
            step.tell()
        self._tell_loss()

    def _tell_loss(self) -> None:
        if self._database.has_lost:
            self._database.has_lost = False
            self._on_loss()
