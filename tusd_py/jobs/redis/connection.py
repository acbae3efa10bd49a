"""A connection to the Redis of the queue: opened when it is used, and asked each time whose it is.

A Redis that was restarted, or replaced by its replica, may have lost what it acknowledged last; one that was emptied
has lost all. The first is seen by the id of its run, the second by the epoch of the queue, a key that all share. Where
Redis is and how it is reached is left to the `Place` that is given.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from tusd_py.jobs.redis.failures import is_of_connection, log
from tusd_py.jobs.redis.scripts import LUA
from tusd_py.logs import Seldom, event

Command = tuple[bytes | str | int, ...]

_HARMLESS = ("noeviction", "volatile")
"""Policies that leave keys alone which never expire, as ours."""


class Place(Protocol):
    """Where Redis is. `shown` is what logs may say of it."""

    @property
    def shown(self) -> str: ...

    @property
    def form(self) -> str: ...

    def client(self) -> Any:
        """One of redis-py, not connected. Raises ConfigError without redis-py."""
        ...


@dataclass(frozen=True, slots=True)
class Identity:
    """Which run of Redis has which queue."""

    run_id: str
    epoch: str


class Known:
    """What a process knows of its queue, for all of its connections: the one whose keys begin with `start`. `on_loss`
    is called when it is another one."""

    def __init__(self, start: str, shown: str, on_loss: Callable[[], None]) -> None:
        self.start = start
        self.epoch = ""
        self.script = ""
        self._shown = shown
        self._identity: Identity | None = None
        self._on_loss = on_loss
        self._seldom = Seldom()

    def learn(self, facts: dict[str, str], script: str, epoch: str) -> None:
        self._judge(facts)
        before, self._identity = self._identity, Identity(facts.get("run_id", ""), epoch)
        self.script, self.epoch = script, epoch
        if before is None or before == self._identity:
            return
        event(
            log,
            "JobsRedisChanged",
            level=logging.WARNING,
            redis=self._shown,
            reason="it was emptied" if before.epoch != epoch else "it was started again, or replaced by another",
            advice="what it may have lost is found again in the store of uploads",
        )
        self._on_loss()

    def _judge(self, facts: dict[str, str]) -> None:
        """Say what will lose jobs one day."""
        policy = facts.get("maxmemory_policy", "noeviction")
        if not policy.startswith(_HARMLESS):
            self._warn(f"maxmemory-policy {policy}", "it removes jobs when it is full: use maxmemory-policy noeviction")
        if facts.get("aof_enabled", "1") == "0":
            self._warn(
                "appendonly no",
                "after a crash of Redis jobs are found again in the store of uploads, but for post-terminate: use"
                " appendonly yes, with appendfsync always if nothing may be lost",
            )

    def _warn(self, reason: str, advice: str) -> None:
        if self._seldom.is_due(reason):
            event(log, "JobsAtRisk", level=logging.WARNING, redis=self._shown, reason=reason, advice=advice)


class Connection:
    """For one user at a time, who limits the time. After a cancelled call it is to be dropped."""

    def __init__(self, place: Place, known: Known) -> None:
        self._place = place
        self._known = known
        self._client: Any = None
        self._opened: Any = None

    async def open(self) -> None:
        """To the Redis that is now at this place, if it is not open. Raises what redis-py does."""
        if self._opened is not None and self._opened.is_connected:
            return
        await self.drop()
        self._client = self._place.client()
        if self._place.form == "cluster":
            await _unless_cancelled(self._client.initialize())
            self._opened = self._client.get_node_from_key(self._known.start).acquire_connection()
        else:
            self._opened = self._client.connection_pool.make_connection()
        await _unless_cancelled(self._opened.connect())
        self._opened.socket_timeout = None  # a time limit for each answer would end those that are waited for
        epoch = f"{self._known.start}epoch"
        hello = [("INFO",), ("SCRIPT", "LOAD", LUA), ("SET", epoch, secrets.token_hex(8), "NX"), ("GET", epoch)]
        answers = await self.ask(hello)
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        info, script, _, found = answers
        self._known.learn(_facts(info.decode(errors="replace")), script.decode(), found.decode())

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        """An answer for each in bytes, or an exception. Dropped if it is of no more use."""
        answers: list[Any] = []
        try:
            await self._opened.send_packed_command(self._opened.pack_commands(commands))
            for _ in commands:
                try:
                    answers.append(await self._opened.read_response(disable_decoding=True))
                except Exception as error:
                    if not self._opened.is_connected:
                        raise
                    answers.append(error)
        except Exception as error:
            answers += [error] * (len(commands) - len(answers))
        if any(isinstance(answer, Exception) and is_of_connection(answer) for answer in answers):
            await self.drop()
        return answers

    async def drop(self) -> None:
        """May be called twice."""
        opened, self._opened = self._opened, None
        client, self._client = self._client, None
        with suppress(Exception):  # it may be broken, and is not needed any more
            if opened is not None:
                await opened.disconnect(nowait=True)
        with suppress(Exception):
            if client is not None:
                await _close(client)


async def _unless_cancelled(connecting: Coroutine[Any, Any, object]) -> None:
    """On the way redis-py may lose a cancellation (`asyncio.wait_for` before Python 3.12), and would go on for ever."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101  (no coroutine runs without one)
    before = task.cancelling()
    await connecting
    if task.cancelling() > before:
        raise asyncio.CancelledError


async def _close(client: Any) -> None:
    """With its connections to the Sentinels, which redis-py would leave open."""
    manager = getattr(getattr(client, "connection_pool", None), "sentinel_manager", None)
    for each in [client, *(manager.sentinels if manager is not None else [])]:
        await each.aclose()


def _facts(info: str) -> dict[str, str]:
    """What INFO says."""
    pairs = (line.partition(":") for line in info.splitlines())
    return {name: value for name, colon, value in pairs if colon}
