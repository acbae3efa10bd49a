"""RedisLocker when Redis is gone, slow, empty, full, read-only: who holds goes on for a lease, who comes hears 503."""

from __future__ import annotations

import asyncio
import time

import anyio
import pytest

from tests.lockers.conftest import LEASE, PREFIX
from tests.lockers.redisserver import RedisServer
from tests.lockers.test_redis import FENCE, ID, LOCK, Ear, busy, heard, take, timed, until
from tusd_py.core.body import Wish
from tusd_py.core.upload import UploadId
from tusd_py.errors import BackendError, RequestError
from tusd_py.lockers.redis import RedisLocker

pytestmark = pytest.mark.anyio


async def unavailable(awaitable) -> float:
    """Asserts the error; returns how long it took."""
    start = time.monotonic()
    with pytest.raises(BackendError) as caught:
        await awaitable
    assert (caught.value.status, caught.value.code) == (503, "ERR_LOCKER_UNAVAILABLE")
    return time.monotonic() - start


async def in_thread(call, *arguments) -> object:
    return await asyncio.get_running_loop().run_in_executor(None, call, *arguments)


class TestGone:
    async def test_before_the_start(self, server, locker, caplog):
        server.kill()
        ours = locker()
        assert await unavailable(ours.start()) < 2.5
        assert "LockerFailed" in caplog.text
        assert "is it running" in caplog.text

    async def test_claims_and_questions_and_back_again(self, server, locker, caplog):
        async with locker() as ours:
            await take(ours)
            server.kill()
            for _ in range(3):
                assert await unavailable(take(ours)) < 2.5
                assert await unavailable(take(ours, None)) < 2.5
                assert await unavailable(ours.settle(ID)) < 2.5
            assert caplog.text.count("LockerFailed") <= 2  # one for each kind: refused, and perhaps cut
            server.start()
            await take(ours)
            assert await ours.settle(ID) is False
            await until(ours._fleet.requests.is_listening.is_set, 6)

    async def test_many_at_once_hear_of_it_in_time(self, server, locker):
        async with locker() as ours:
            server.pause()
            try:
                many = [unavailable(take(ours)) for _ in range(100)]
                many += [unavailable(take(ours, wish)) for wish in (None, Wish.IF_STALLED, Wish.NOW)]
                many += [unavailable(take_other(ours, number)) for number in range(300)]
                assert max(await asyncio.gather(*many)) < 2.5
            finally:
                server.go_on()
            await take(ours)

    async def test_holder_is_ended_when_its_lease_is(self, server, locker):
        ear = Ear()
        async with locker() as ours:
            turn = ours.hold(ID, ear)
            async with turn:
                server.kill()
                start = time.monotonic()
                await anyio.sleep(0.4 * LEASE)
                assert not turn.is_lost
                await ear.was_asked.wait()
                assert 0.5 * LEASE < time.monotonic() - start < LEASE + 0.2
                assert turn.is_lost
                assert ear.asked == [Wish.NOW]
            assert not ours._fleet.turns._locks

    async def test_holder_goes_on_when_redis_comes_back_empty(self, server, locker):
        async with locker() as ours, locker() as theirs:
            turn = ours.hold(ID, busy)
            async with turn:
                holder = server.ask("GET", LOCK)
                server.kill()
                server.start()
                await until(lambda: LOCK in server.names())
                assert server.ask("GET", LOCK) == holder
                await anyio.sleep(1.5 * LEASE)
                assert not turn.is_lost
                with pytest.raises(RequestError):
                    await take(theirs, None)
            assert not turn.is_lost

    async def test_waiter_hears_of_it(self, server, locker):
        async with locker() as ours, locker() as theirs, ours.hold(ID, Ear()):
            waiting = [asyncio.create_task(unavailable(take(theirs))) for _ in range(3)]
            await until(lambda: theirs._fleet.requests.follows)
            await heard(theirs)
            start = time.monotonic()
            server.kill()
            await asyncio.gather(*waiting)
            assert time.monotonic() - start < 2.5
            assert not theirs._fleet.turns._locks

    async def test_being_without_costs_little(self, server, locker):
        async with locker() as ours, locker() as theirs, ours.hold(ID, Ear()):
            waiting = [asyncio.create_task(unavailable(take(theirs))) for _ in range(50)]
            await until(lambda: theirs._fleet.requests.follows)
            server.kill()
            await asyncio.gather(*waiting)
            start = time.process_time()
            await anyio.sleep(2)
            assert time.process_time() - start < 0.2


class TestSlow:
    async def test_claim_that_is_not_answered(self, server, locker):
        async with locker() as ours, locker() as theirs:
            sleeping = asyncio.ensure_future(in_thread(server.ask, "DEBUG", "SLEEP", "3"))
            await anyio.sleep(0.1)
            assert await unavailable(take(ours)) < 2.5
            await sleeping
            # The claim was executed after all, but it keeps nobody out.
            assert await timed(take(theirs)) < 0.5
            assert await timed(take(ours)) < 0.5

    async def test_holder_outlives_a_pause_shorter_than_its_lease(self, server, locker):
        async with locker(lease_seconds=3) as ours:
            turn = ours.hold(ID, busy)
            async with turn:
                await in_thread(server.ask, "DEBUG", "SLEEP", "1.8")
                await anyio.sleep(2)
                assert not turn.is_lost

    async def test_waiter_outlives_a_short_one(self, server, locker):
        async with locker() as ours, locker() as theirs:
            async with ours.hold(ID, Ear()):
                waiting = asyncio.create_task(take(theirs))
                await until(lambda: ours._fleet.requests.askers)
                await in_thread(server.ask, "DEBUG", "SLEEP", "0.5")
            assert await timed(waiting) < 1

    async def test_silent_subscription_is_replaced(self, server, locker, monkeypatch):
        monkeypatch.setattr("tusd_py.lockers.redis.subscription._SILENCE_SECONDS", 0.2)
        async with locker(lease_seconds=30) as ours:
            was = server.ask("CLIENT", "LIST", "TYPE", "pubsub")
            await anyio.sleep(0.6)
            assert server.ask("CLIENT", "LIST", "TYPE", "pubsub").split()[0] == was.split()[0]  # it answers pings
            server.pause()
            await until(lambda: not ours._fleet.requests.is_listening.is_set())
            server.go_on()
            await until(ours._fleet.requests.is_listening.is_set)


class TestRefusing:
    async def test_out_of_memory(self, server, locker, caplog):
        async with locker() as ours, locker() as theirs:
            turn = ours.hold(ID, busy)
            async with turn:
                server.ask("CONFIG", "SET", "maxmemory", "1mb", "maxmemory-policy", "noeviction")
                assert await unavailable(take_other(ours)) < 0.5
                assert "out of memory" in caplog.text
                await anyio.sleep(1.5 * LEASE)
                assert not turn.is_lost
                with pytest.raises(RequestError):
                    await take(theirs, Wish.IF_STALLED)
                assert await theirs.settle(ID) is True
            server.ask("CONFIG", "SET", "maxmemory", "0")
            await take_other(ours)

    async def test_read_only_replica(self, server, locker, caplog):
        async with locker() as ours:
            turn = ours.hold(ID, busy)
            async with turn:
                server.ask("REPLICAOF", "127.0.0.1", "1")
                assert await unavailable(take_other(ours)) < 0.5
                assert "read-only replica" in caplog.text
                await until(lambda: turn.is_lost, LEASE + 0.2)
            server.ask("REPLICAOF", "NO", "ONE")
            assert await timed(take_other(ours)) < 0.5
            await until(lambda: LOCK not in server.names())

    async def test_wrong_password(self, tmp_path, caplog):
        server = RedisServer(tmp_path, "requirepass right")
        server.start()
        try:
            await unavailable(RedisLocker(f"redis://:wrong-one@127.0.0.1:{server.port}", PREFIX).start())
            assert "user and password" in caplog.text
            assert "wrong-one" not in caplog.text
            async with RedisLocker(f"redis://:right@127.0.0.1:{server.port}", PREFIX) as ours:
                await take(ours)
                assert "right" not in repr(ours._fleet.connection.address)
        finally:
            server.kill()

    @pytest.mark.parametrize("key", [LOCK, FENCE])
    async def test_keys_of_something_else(self, server, locker, caplog, key):
        async with locker() as ours:
            server.ask("LPUSH", key, "something")
            await unavailable(take(ours))
            assert "another prefix" in caplog.text


async def take_other(locker, number: int = 0) -> None:
    async with locker.hold(UploadId(f"other-{number}"), busy):
        pass
