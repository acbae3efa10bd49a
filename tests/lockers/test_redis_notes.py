"""Notes that holders leave in Redis: true as long as they can be had, and few seconds old."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import pytest

from tests.lockers.conftest import PREFIX
from tests.lockers.redisserver import RedisServer
from tests.lockers.test_redis import ID, busy, take, until
from tusd_py.lockers.redis import RedisLocker, notes

pytestmark = pytest.mark.anyio

NOTE = f"{PREFIX}note:{{{ID}}}"

Make = Callable[..., RedisLocker]


@pytest.fixture
def _believed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """But as short-lived, too."""
    monkeypatch.setattr(notes, "NOTE_SECONDS", 0.3)


short = pytest.mark.usefixtures("_believed_at_once")


async def leave(locker: RedisLocker, text: str) -> None:
    async with locker.hold(ID, busy):
        locker.leave_note(ID, text)
    await locker._fleet.connection.flush()


@short
async def test_it_is_there_until_somebody_has_the_lock(locker: Make) -> None:
    async with locker() as one, locker() as two:
        await anyio.sleep(0.35)
        await leave(one, "ærlig")
        assert [await each.note(ID) for each in (one, two)] == ["ærlig"] * 2
        async with two.hold(ID, busy):
            assert await one.note(ID) is None
            two.leave_note(ID, "newer")
        assert await one.note(ID) == "newer"
        await take(one)
        assert await two.note(ID) is None


@short
async def test_it_does_not_last(server: RedisServer, locker: Make) -> None:
    async with locker() as one:
        await anyio.sleep(0.35)
        await leave(one, "x")
        assert server.ask("EXISTS", NOTE) == "1"
        await until(lambda: server.ask("EXISTS", NOTE) == "0")
        assert await one.note(ID) is None


async def test_who_does_not_have_the_lock_leaves_none(server: RedisServer, locker: Make) -> None:
    async with locker() as one, locker() as two:
        one.leave_note(ID, "x")
        async with two.hold(ID, busy):
            one.leave_note(ID, "x")
        await one._fleet.connection.flush()
        async with one.hold(ID, busy):
            one.leave_note(ID, "x" * 20_000)
            server.ask("SET", f"{PREFIX}lock:{{{ID}}}", "another:1")
            one.leave_note(ID, "late")
            await one._fleet.connection.flush()
        assert server.ask("EXISTS", NOTE) == "0"


async def test_none_is_believed_until_all_from_before_are_gone(server: RedisServer, locker: Make) -> None:
    """Redis may have lost what it was told last, as after a failover: our subscription tells."""
    async with locker() as one:
        await leave(one, "x")
        assert server.ask("GET", NOTE) == "x"
        assert await one.note(ID) is None


@short
async def test_a_redis_that_comes_back_is_not_believed_at_once(server: RedisServer, locker: Make) -> None:
    async with locker() as one:
        await anyio.sleep(0.35)
        server.kill()
        assert await one.note(ID) is None
        server.start()
        await until(one._fleet.requests.is_listening.is_set, 10)
        server.ask("SET", NOTE, "of old", "PX", "60000")
        assert await one.note(ID) is None
        await anyio.sleep(0.35)
        assert await one.note(ID) == "of old"
