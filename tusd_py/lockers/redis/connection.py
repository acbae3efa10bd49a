"""What is said to Redis: commands in order, many in one round trip, each answered or failed within about two seconds.

All commands of a process go over one connection, one bundle at a time, so what is said later happens later. Nothing
is tried unless somebody asks, so a Redis that is gone costs nothing. Every failure becomes one BackendError, and a
line in the log with advice, for each kind one in five minutes.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from typing import Any

from tusd_py.errors import BackendError
from tusd_py.lockers.redis.address import Address, close
from tusd_py.logs import Seldom, event

log = logging.getLogger("tusd_py.locks")

COMMAND_SECONDS = 1.0
_MOST_AT_ONCE = 128  # commands of one bundle: some milliseconds of work for the loop

_ADVICE = {
    "OutOfMemory|OOM": "Redis is out of memory: raise maxmemory, or give the locks a Redis of their own",
    "ReadOnly|READONLY": "this Redis is a read-only replica: give the URL of the primary, or of the Sentinels",
    "Authentication|NOAUTH|WRONGPASS": "Redis does not take the user and password of the URL",
    "NoPermission|NOPERM": "the user needs the commands eval, get, set, pexpire, pttl, del, publish, subscribe, time, "
    "the keys and the channels that begin with the prefix",
    "BusyLoading|LOADING": "Redis is loading its data: wait",
    "MasterNotFound|MasterDown": "Sentinel knows no primary: look at the Sentinels, and at the service's name",
    "Cluster|SlotNotCovered": "the Cluster does not serve all slots: look at CLUSTER INFO",
    "WRONGTYPE": "something else uses keys with this prefix: give the locks another prefix or database",
    "SSL|certificate": "TLS failed: look at the certificate, its names and ssl_ca_certs",
    "Timeout": "Redis does not answer in time: look at its SLOWLOG, its load and the network",
    "ConnectionError|OSError": "Redis cannot be reached: is it running, and are host and port right?",
}

Command = tuple[str | int, ...]
Convert = Callable[[Any], Any]


class Connection:
    """The commands of one process. Usable from the first call on; `aclose` when nothing is asked any more."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.client: Any = address.client()
        self._waiting: list[tuple[Command, asyncio.Future[Any], Convert]] = []
        self._sending: asyncio.Task[None] | None = None
        self._seldom = Seldom()

    def call(self, *command: str | int, convert: Convert = lambda answer: answer) -> asyncio.Future[Any]:
        """Redis' answer, or BackendError. `convert` gets the answer first, even if nobody waits for it any more."""
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[Any] = loop.create_future()
        self._waiting.append((command, answered, convert))
        if self._sending is None or self._sending.done():
            self._sending = loop.create_task(self._send())
        return answered

    def tell(self, *command: str | int) -> None:
        """The same for whom the answer does not matter."""
        self.call(*command).add_done_callback(_forget)

    async def flush(self) -> None:
        """Until Redis has heard what was said, or cannot."""
        if self._sending is not None:
            await asyncio.wait([self._sending])

    async def aclose(self) -> None:
        """After what was said before."""
        await self.flush()
        await close(self.client)

    def failure(self, error: BaseException) -> BackendError:
        """What the client hears of it; the log hears more, but not too often."""
        what = f"{type(error).__name__} {error}"
        kind = next((kind for kind in _ADVICE if re.search(kind, what)), "")
        kind = kind or ("ConnectionError|OSError" if isinstance(error, OSError) else "")
        if self._seldom.is_due(kind):
            event(
                log,
                "LockerFailed",
                level=logging.ERROR,
                redis=self.address.shown,
                reason=str(error) or type(error).__name__,
                advice=_ADVICE.get(kind, "see the reason"),
            )
        return unavailable()

    async def _send(self) -> None:
        while self._waiting:
            bundle, self._waiting = self._waiting[:_MOST_AT_ONCE], self._waiting[_MOST_AT_ONCE:]
            try:
                answers = await self._answers([command for command, _, _ in bundle])
            except Exception as error:
                # Those behind have waited as long, and would wait for the next failure.
                bundle, self._waiting = bundle + self._waiting, []
                answers = [error] * len(bundle)
            for (_, answered, convert), answer in zip(bundle, answers, strict=True):
                self._settle(answered, convert, answer)

    def _settle(self, answered: asyncio.Future[Any], convert: Convert, answer: Any) -> None:
        try:
            result = self.failure(answer) if isinstance(answer, Exception) else convert(answer)
        except Exception as error:  # an answer that is none of ours
            result = self.failure(error)
        if answered.done():
            return
        if isinstance(result, BackendError):
            answered.set_exception(result)
        else:
            answered.set_result(result)

    async def _answers(self, commands: list[Command]) -> list[Any]:
        """One for each, which may be an exception."""
        if self.address.form == "cluster":
            return await self._answers_of_cluster(commands)
        async with asyncio.timeout(COMMAND_SECONDS):
            answers: list[Any] = await _twice_if_cut(self._execute, commands)
        if any("ReadOnly" in type(answer).__name__ for answer in answers):
            await self.client.connection_pool.disconnect()  # the name may lead to the new primary by now
        return answers

    async def _execute(self, commands: list[Command]) -> list[Any]:
        pipeline = self.client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        answers: list[Any] = await pipeline.execute(raise_on_error=False)
        return answers

    async def _answers_of_cluster(self, commands: list[Command]) -> list[Any]:
        """In order for each key, so a node that is gone or hangs spoils only what is on it."""
        answers: list[Any] = [None] * len(commands)
        places: dict[str | int, list[int]] = {}
        for place, command in enumerate(commands):
            places.setdefault(command[3] if command[0] == "EVAL" else command[1], []).append(place)

        async def run(lane: list[int]) -> None:
            for done, place in enumerate(lane):
                try:
                    async with asyncio.timeout(COMMAND_SECONDS):
                        answers[place] = await _twice_if_cut(self.client.execute_command, *commands[place])
                except Exception as error:
                    for rest in lane[done:]:
                        answers[rest] = error
                    return

        await asyncio.gather(*map(run, places.values()))
        if any(type(answer).__name__ == "RedisClusterException" for answer in answers):
            gone, self.client = self.client, self.address.client()  # that one may have forgotten all nodes
            await close(gone)
        return answers


async def _twice_if_cut(execute: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
    """A connection that was cut is not worth a failure: every command may be sent twice."""
    try:
        return await execute(*arguments)
    except Exception as error:
        if not _is_cut(error):
            raise
    return await execute(*arguments)


def unavailable() -> BackendError:
    return BackendError(
        "the server cannot lock uploads just now; the offset acknowledged so far is unharmed",
        status=503,
        code="ERR_LOCKER_UNAVAILABLE",
    )


def _is_cut(error: Exception) -> bool:
    return type(error).__name__ == "ConnectionError" or isinstance(error, OSError)


def _forget(answered: asyncio.Future[Any]) -> None:
    if not answered.cancelled():
        answered.exception()
