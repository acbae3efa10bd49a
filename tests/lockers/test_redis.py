"""RedisLocker between real processes and with a real Redis: leases, fences, release requests."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from tests.lockers.conftest import LEASE, PREFIX
from tests.lockers.test_file import Contender
from tusd_py.core.body import Wish
from tusd_py.core.upload import UploadId
from tusd_py.errors import RequestError
from tusd_py.lockers.redis import RedisLocker

pytestmark = pytest.mark.anyio

ID = UploadId("00112233445566778899aabbccddeeff")
LOCK = f"{PREFIX}lock:{{{ID}}}"
FENCE = f"{PREFIX}fence:{{{ID}}}"
SCRIPT = Path(__file__).with_name("rediscontender.py")


@asynccontextmanager
async def contender(url: str, timeout_seconds: float = 5, loop: str = "asyncio") -> AsyncIterator[Contender]:
    command = [sys.executable, str(SCRIPT), url, str(timeout_seconds), loop, str(LEASE)]
    async with await anyio.open_process(command, stderr=None) as process:
        try:
            made = Contender(process)
            await made.says("ready", 10)
            yield made
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


class Ear:
    """A holder that goes on whatever it is asked."""

    def __init__(self) -> None:
        self.asked: list[Wish] = []
        self.taken_back: list[Wish] = []
        self.was_asked = asyncio.Event()

    async def __call__(self, wish: Wish) -> bool:
        self.asked.append(wish)
        self.was_asked.set()
        if wish is not Wish.WHEN_STALLED:
            return False
        try:
            await anyio.sleep_forever()
        finally:
            self.taken_back.append(wish)


async def busy(_wish: Wish) -> bool:
    return False


async def take(locker: RedisLocker, wish: Wish | None = Wish.WHEN_STALLED) -> None:
    async with locker.hold(ID, busy, wish=wish):
        pass


async def timed(awaitable: Awaitable[object]) -> float:
    start = time.monotonic()
    await awaitable
    return time.monotonic() - start


async def until(is_true: Callable[[], object], seconds: float = 3) -> None:
    with anyio.fail_after(seconds):
        while not is_true():
            await anyio.sleep(0.005)


class TestProcesses:
    @pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
    async def test_exclusion_and_hand_over(self, server, locker, loop):
        async with locker() as ours, contender(server.url, loop=loop) as other:
            async with ours.hold(ID, busy):
                await other.send(f"hold {ID} none busy")
                await other.says(f"423 {ID}")
                await other.send(f"hold {ID} if-stalled busy")
                await other.says(f"423 {ID}")
                await other.send(f"hold {ID} when-stalled busy")
                await other.send(f"settle {ID}")
                await other.says(f"settled {ID} True")
            assert await other.says(f"held {ID}") < 0.3
            with pytest.raises(RequestError):
                await take(ours, None)
            await other.send(f"release {ID}")
            assert await timed(take(ours)) < 0.3

    @pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
    async def test_stalled_body_hands_over_within_a_second(self, server, locker, loop):
        async with locker() as ours, contender(server.url, loop=loop) as other:
            for wish in [Wish.WHEN_STALLED, Wish.IF_STALLED, Wish.NOW]:
                await other.send(f"hold {ID} none stalled")
                await other.says(f"held {ID}")
                assert await timed(take(ours, wish)) < 0.8
                await other.says(f"released {ID}")
                await heard(ours)
            await other.send(f"hold {ID} none stalled")
            await other.says(f"held {ID}")
            assert await ours.settle(ID) is False

    async def test_healthy_body_goes_on(self, server, locker):
        async with locker(0.6) as ours, contender(server.url) as other:
            await other.send(f"hold {ID} none healthy")
            await other.says(f"held {ID}")
            assert await ours.settle(ID) is True
            for wish in [Wish.WHEN_STALLED, Wish.IF_STALLED]:
                with pytest.raises(RequestError):
                    await take(ours, wish)
            assert await timed(take(ours, Wish.NOW)) < 0.3
            await other.says(f"released {ID}")

    async def test_killed_holder(self, server, locker):
        """Failures F23."""
        async with locker() as ours, contender(server.url) as other:
            await other.send(f"hold {ID} none healthy")
            await other.says(f"held {ID}")
            waiting = asyncio.create_task(take(ours))
            await until(lambda: ours._fleet.requests.follows)
            await other.kill()
            assert await timed(waiting) < LEASE + 0.5
            await take(ours, None)

    async def test_killed_waiter_is_forgotten(self, server, locker):
        ear = Ear()
        async with locker() as ours, contender(server.url) as other, ours.hold(ID, ear):
            await other.send(f"hold {ID} when-stalled busy")
            await ear.was_asked.wait()
            await other.kill()
            await until(lambda: ear.taken_back == [Wish.WHEN_STALLED], 3 * LEASE + 1)

    async def test_stopped_holder_comes_back_too_late(self, server, locker):
        """Failures F22: it is ended, and leaves the new holder's lock alone."""
        async with locker() as ours, contender(server.url) as other:
            await other.send(f"hold {ID} none healthy")
            await other.says(f"held {ID}")
            other.signal(signal.SIGSTOP)
            turn = ours.hold(ID, busy)
            start = time.monotonic()
            async with turn:
                assert time.monotonic() - start < LEASE + 0.5
                held = server.ask("GET", LOCK)
                other.signal(signal.SIGCONT)
                await other.says(f"released {ID}", 1)
                await heard(ours)  # after whatever the other did
                assert server.ask("GET", LOCK) == held
                await other.send(f"hold {ID} none busy")
                await other.says(f"423 {ID}")
                assert not turn.is_lost

    async def test_no_lost_update(self, server, tmp_path):
        number = tmp_path / "number"
        number.write_text("0")
        async with contender(server.url, 20) as one, contender(server.url, 20, "uvloop") as two:
            for each in (one, two):
                await each.send(f"count {ID} 100 {number}")
                await each.send(f"count {ID} 100 {number}")
            for each in (one, two):
                await each.says("counted", 15)
                await each.says("counted", 15)
        assert number.read_text() == "400"


class TestLease:
    async def test_is_renewed_while_held(self, locker):
        async with locker() as ours, locker() as theirs:
            turn = ours.hold(ID, busy)
            async with turn:
                await anyio.sleep(2.5 * LEASE)
                with pytest.raises(RequestError):
                    await take(theirs, None)
            assert not turn.is_lost

    async def test_many_are_renewed_together(self, locker):
        async with locker() as ours, locker() as theirs, anyio.create_task_group() as tasks:
            turns = [ours.hold(UploadId(f"upload-{number}"), busy) for number in range(300)]

            async def hold(turn) -> None:
                async with turn:
                    await anyio.sleep(2 * LEASE)
                    assert await theirs.settle(turn.upload_id) is True

            for turn in turns:
                tasks.start_soon(hold, turn)
        assert not any(turn.is_lost for turn in turns)

    async def test_every_key_has_the_prefix_and_an_end(self, server, locker):
        async with locker() as ours, locker() as theirs, ours.hold(ID, busy):
            with pytest.raises(RequestError):
                await take(theirs, Wish.IF_STALLED)
            keys = server.names()
            assert {LOCK, FENCE} <= set(keys)
            for key in keys:
                assert key.startswith(PREFIX)
                assert int(server.ask("PTTL", key)) > 0
            assert int(server.ask("TTL", FENCE)) >= 86400
        assert LOCK not in server.names()

    async def test_key_taken_by_another(self, server, locker):
        """Told by the next renewal, long before the lease would be over."""
        ear = Ear()
        async with locker(lease_seconds=3) as ours:
            turn = ours.hold(ID, ear)
            async with turn:
                server.ask("SET", LOCK, "another:1", "PX", "5000")
                await until(lambda: turn.is_lost, 1.5)
                await ear.was_asked.wait()
                assert ear.asked == [Wish.NOW]
            with pytest.raises(RequestError):
                await take(ours, None)
            assert server.ask("GET", LOCK) == "another:1"

    async def test_next_one_here_does_not_inherit_what_was_lost(self, server, locker):
        async with locker() as ours:
            turn = ours.hold(ID, busy)
            async with turn:
                waiting = asyncio.create_task(take(ours))
                await until(lambda: turn.upload_id in ours._fleet.turns._locks)
                server.ask("SET", LOCK, "another:1", "PX", "1500")
                await until(lambda: turn.is_lost, LEASE)
            assert 0.3 < await timed(waiting) < 2

    async def test_key_gone_and_nobody_had_it(self, server, locker):
        async with locker() as ours, locker() as theirs:
            turn = ours.hold(ID, busy)
            async with turn:
                holder = server.ask("GET", LOCK)
                server.ask("FLUSHALL")
                await until(lambda: LOCK in server.names())
                assert server.ask("GET", LOCK) == holder
                assert server.ask("GET", FENCE) == str(turn.fence)
                with pytest.raises(RequestError):
                    await take(theirs, None)
            assert not turn.is_lost

    async def test_key_gone_and_somebody_had_it(self, server, locker):
        async with locker() as ours, locker() as theirs:
            turn = ours.hold(ID, busy)
            async with turn:
                server.ask("FLUSHALL")
                await take(theirs, None)
                await until(lambda: turn.is_lost, LEASE)
                assert LOCK not in server.names()


class TestFence:
    async def test_grows_with_each_holder(self, server, locker):
        fences = []

        async def go(locker) -> None:
            turn = locker.hold(ID, busy)
            async with turn:
                fences.append(turn.fence)

        async with locker() as ours, locker() as theirs:
            await asyncio.gather(*(go(each) for each in (ours, theirs, ours, ours, theirs)))
            server.ask("FLUSHALL")
            await go(theirs)
        assert fences == sorted(set(fences))
        assert len(fences) == 6

    async def test_late_claim_does_not_take_a_later_one_of_its_own_process(self, server, locker):
        async with locker() as ours:
            turn = ours.hold(ID, busy)
            async with turn:
                process, _, number = server.ask("GET", LOCK).rpartition(":")
                server.ask("SET", LOCK, f"{process}:{int(number) + 5}", "PX", "5000")
                ours._fleet.leases.held.clear()
                assert await ours._fleet.leases.claim(ID) is None
                assert server.ask("GET", LOCK) == f"{process}:{int(number) + 5}"


class TestRequests:
    async def test_lock_that_was_left_behind(self, server, locker):
        """Its process lives and does not have it: a claim that was given up, or a release that was not heard."""
        async with locker() as ours, locker() as theirs:
            server.ask("SET", LOCK, f"{ours._fleet.leases.process}:1", "PX", "60000")
            assert await timed(take(theirs)) < 0.3
            server.ask("SET", LOCK, f"{ours._fleet.leases.process}:1", "PX", "60000")
            assert await ours.settle(ID) is False
            assert await timed(take(ours, None)) < 0.3

    async def test_lock_of_a_dead_process(self, server, locker):
        async with locker() as ours:
            server.ask("SET", LOCK, "dead:1", "PX", "700")
            assert 0.4 < await timed(take(ours)) < 1

    async def test_waiting_costs_nothing(self, locker):
        """Failures F24: 200 waiters, 2 s, a lease that is renewed and asked after meanwhile."""
        async with locker() as ours, locker() as theirs, ours.hold(ID, Ear()):
            waiting = [asyncio.create_task(take(theirs)) for _ in range(200)]
            await until(lambda: theirs._fleet.requests.follows)
            await anyio.sleep(0.1)
            start = time.process_time()
            await anyio.sleep(2)
            assert time.process_time() - start < 0.1
            for task in waiting:
                task.cancel()
            await asyncio.wait(waiting)

    async def test_idle_costs_nothing(self, server, locker):
        async with locker() as ours:
            await take(ours)
            await heard(ours)
            commands = int(info(server, "total_commands_processed"))
            await anyio.sleep(1.5 * LEASE)
            assert int(info(server, "total_commands_processed")) - commands <= 1

    async def test_one_round_trip_each(self, server, locker):
        async with locker() as ours:
            await take(ours)
            await heard(ours)
            scripts = scripts_run(server)
            for _ in range(100):
                await take(ours)
            await heard(ours)
            assert scripts_run(server) - scripts == 200

    async def test_words_that_are_none(self, server, locker):
        async with locker() as ours, locker() as theirs:
            channel = f"{PREFIX}process:{ours._fleet.leases.process}"
            for message in ["", "ask", "ask a b c soon", "answer x y z", "free", "what is this", "leave a b", "hello"]:
                assert server.ask("PUBLISH", channel, message) == "1"
            async with ours.hold(ID, busy):
                with pytest.raises(RequestError):
                    await take(theirs, Wish.IF_STALLED)

    @pytest.mark.parametrize("kind", ["pubsub", "normal"])
    async def test_cut_connection(self, server, locker, kind):
        async with locker(lease_seconds=30) as ours, locker(lease_seconds=30) as theirs:
            for _ in range(3):
                ear = Ear()
                async with ours.hold(ID, ear):
                    waiting = asyncio.create_task(take(theirs))
                    await ear.was_asked.wait()
                    server.ask("CLIENT", "KILL", "TYPE", kind)
                    await until(ours._fleet.requests.is_listening.is_set)
                    await until(theirs._fleet.requests.is_listening.is_set)
                    assert not waiting.done()
                assert await timed(waiting) < 0.5

    async def test_question_asked_while_the_holder_was_deaf(self, server, locker):
        """The holder says hello when it listens again, and is asked."""
        async with locker(lease_seconds=30) as ours, locker(lease_seconds=30) as theirs:
            ear = Ear()
            await ours._fleet.requests.aclose()
            async with ours.hold(ID, ear):
                await ours._fleet.requests._subscription.aclose()
                waiting = asyncio.create_task(take(theirs))
                await until(lambda: any(each.holder for each in theirs._fleet.requests.follows.values()))
                assert ear.asked == []
                ours._fleet.requests.open()
                with anyio.fail_after(3):
                    await ear.was_asked.wait()
            assert await timed(waiting) < 0.5

    async def test_closing_gives_back_what_is_held(self, server, locker):
        async with locker() as ours, locker() as theirs, ours.hold(ID, busy):
            waiting = asyncio.create_task(take(theirs))
            await until(lambda: ours._fleet.requests.askers)
            await ours.aclose()
            assert await timed(waiting) < 0.3
            assert ours._fleet.turns._locks[ID].is_ignored()  # so nothing is said when it ends

    async def test_opens_at_first_use(self, server, locker):
        ours, theirs = locker(), locker()
        async with ours.hold(ID, busy):
            assert await theirs.settle(ID) is True
        await ours.aclose()
        await theirs.aclose()
        await theirs.aclose()
        assert info(server, "connected_clients", "clients") == "1"


async def heard(locker: RedisLocker) -> None:
    """Redis has heard what the locker said until now."""
    assert await locker.settle(UploadId("nobody's")) is False


def scripts_run(server) -> int:
    return int(info(server, "cmdstat_eval", "commandstats").partition("calls=")[2].partition(",")[0])


def info(server, name: str, section: str = "stats") -> str:
    lines = dict(line.partition(":")[::2] for line in server.ask("INFO", section).splitlines())
    return lines[name]
