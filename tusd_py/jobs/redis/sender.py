"""What is said to Redis: calls in their order, many in one round trip, each answered or failed within two seconds.

Calls of one operation that follow each other become one call of the script: to be asked for 64 jobs at once takes a
fraction of the time of 64 times one. Every call may be said twice, so one whose connection was cut is said again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tusd_py.errors import BackendError, ConfigError
from tusd_py.jobs.redis.connection import Command, Connection, Known, Place
from tusd_py.jobs.redis.failures import MESSAGE, Failures, advice, is_of_connection

ANSWER_SECONDS = 2.0

MOST_AT_ONCE = 256
"""Calls of one round trip, and items of one call of the script: some milliseconds, in which Redis does nothing else."""


@dataclass(slots=True, eq=False)
class _Call:
    """Of so many items; None: it stands alone. `answer` may be an exception."""

    operation: str
    arguments: Sequence[bytes]
    items: int | None
    future: asyncio.Future[list[Any]]
    answer: Any = None


class Sender:
    """The calls of one process; belongs to one event loop. Usable from the first call on."""

    def __init__(self, place: Place, known: Known, failures: Failures, clock: Callable[[], float] | None) -> None:
        self._connection = Connection(place, known)
        self._known = known
        self._failures = failures
        self._clock = clock
        self._waiting: list[_Call] = []
        self._sending: asyncio.Task[None] | None = None
        self._is_closed = False

    async def start(self) -> None:
        """See whether Redis is there. Raises ConfigError."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._connection.open()
        except ConfigError:
            raise
        except Exception as error:
            await self._connection.drop()
            reason = f"{self._failures.shown} cannot be used ({error or type(error).__name__})"
            raise ConfigError(f"the queue in {reason}: {advice(error)}") from error

    def call(self, operation: str, arguments: Sequence[bytes], items: int | None = None) -> asyncio.Future[list[Any]]:
        """What the script answers, or BackendError. If it is of `items`, others' may be asked for together with them;
        the script answers with something for each, or with nothing."""
        if self._is_closed:
            raise BackendError(MESSAGE)
        loop = asyncio.get_running_loop()
        call = _Call(operation, arguments, items, loop.create_future())
        self._waiting.append(call)
        if self._sending is None:
            self._sending = loop.create_task(self._send())
        return call.future

    async def aclose(self) -> None:
        """After what was said before. May be called twice."""
        self._is_closed = True
        while self._sending is not None:
            await asyncio.wait([self._sending])
        await self._connection.drop()

    async def _send(self) -> None:
        try:
            while self._waiting:
                calls, self._waiting = self._waiting[:MOST_AT_ONCE], self._waiting[MOST_AT_ONCE:]
                try:
                    async with asyncio.timeout(ANSWER_SECONDS):
                        await self._ask(calls)
                except Exception as error:
                    await self._connection.drop()
                    # Those behind have waited as long, and would wait for the next failure.
                    calls, self._waiting = calls + self._waiting, []
                    for call in calls:
                        call.answer = call.answer if isinstance(call.answer, list) else error
                for call in calls:
                    self._settle(call)
        finally:
            self._sending = None

    async def _ask(self, calls: list[_Call]) -> None:
        """Once more what met a connection of no more use, and each alone of those that were wrong together."""
        groups = _joined(calls)
        for _ in range(2):
            await self._connection.open()
            answers = await self._connection.ask([self._command(group) for group in groups])
            left: list[list[_Call]] = []
            for group, answer in zip(groups, answers, strict=True):
                _share(group, answer)
                if isinstance(answer, Exception):
                    if is_of_connection(answer):
                        left.append(group)
                    elif len(group) > 1:
                        left += [[call] for call in group]
            groups = left
            if not groups:
                return

    def _command(self, group: list[_Call]) -> Command:
        known = self._known
        now = "" if self._clock is None else repr(self._clock())
        arguments = [argument for call in group for argument in call.arguments]
        return ("EVALSHA", known.script, 1, known.start, group[0].operation, known.epoch, now, *arguments)

    def _settle(self, call: _Call) -> None:
        if call.future.done():
            return
        if isinstance(call.answer, Exception):
            call.future.set_exception(self._failures.translated(call.answer))
        else:
            call.future.set_result(call.answer)


def _joined(calls: list[_Call]) -> list[list[_Call]]:
    groups: list[list[_Call]] = []
    count = 0
    for call in calls:
        if groups and call.items is not None and count + call.items <= MOST_AT_ONCE:
            before = groups[-1][0]
            if before.operation == call.operation and before.items is not None:
                groups[-1].append(call)
                count += call.items
                continue
        groups.append([call])
        count = call.items or 0
    return groups


def _share(group: list[_Call], answer: Any) -> None:
    """Each gets the part that is of its own items."""
    start = 0
    for call in group:
        if isinstance(answer, Exception) or call.items is None:
            call.answer = answer
        else:
            call.answer = answer[start : start + call.items]
            start += call.items
