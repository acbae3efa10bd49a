"""The port suite of lockers: what `core.ports.Locker` promises, for every locker that there is.

A new locker joins by adding a factory to LOCKERS. Each gives two lockers: one that has the lock first and one whose
requests come later. They may be the same; if they are two, they stand for two processes.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from pathlib import Path

import anyio
import pytest

from tests.lockers.redisserver import redis_server
from tusd_py.core.body import Body, Sink, Wish
from tusd_py.core.patience import Patience
from tusd_py.core.ports import Locker, ReleaseRequested
from tusd_py.core.upload import UploadId
from tusd_py.errors import RequestError, TusError
from tusd_py.lockers import turns
from tusd_py.lockers.file import FileLocker
from tusd_py.lockers.memory import MemoryLocker
from tusd_py.lockers.redis import RedisLocker

pytestmark = pytest.mark.anyio

ID = UploadId("00112233445566778899aabbccddeeff")
SHORT = 0.1  # the time limit of lockers in tests that let it pass
WAITING = [Wish.NOW, Wish.WHEN_STALLED, Wish.IF_STALLED]


@asynccontextmanager
async def _memory(_path: Path, timeout_seconds: float) -> AsyncIterator[tuple[Locker, Locker]]:
    locker = MemoryLocker(timeout_seconds)
    yield locker, locker
    assert not locker._turns._locks


@asynccontextmanager
async def _file(path: Path, timeout_seconds: float) -> AsyncIterator[tuple[Locker, Locker]]:
    async with FileLocker(path, timeout_seconds) as locker:
        yield locker, locker
        await _leaves_nothing(path, locker)


@asynccontextmanager
async def _two_files(path: Path, timeout_seconds: float) -> AsyncIterator[tuple[Locker, Locker]]:
    async with FileLocker(path, timeout_seconds) as one, FileLocker(path, timeout_seconds) as two:
        yield one, two
        await _leaves_nothing(path, one, two)


async def _leaves_nothing(path: Path, *lockers: FileLocker) -> None:
    for locker in lockers:
        assert not locker._turns._locks
        assert not locker._machine._file._held
        peers = locker._machine._peers
        await until(lambda peers=peers: not peers.callers and not peers._links)
    names = [each.name for each in path.iterdir() if each.name != "lock"]
    assert len(names) == len(lockers)
    assert all(name.endswith(".sock") for name in names)
    assert (path / "lock").stat().st_size == 0


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server.url


@asynccontextmanager
async def _redis(url: str, timeout_seconds: float) -> AsyncIterator[tuple[Locker, Locker]]:
    async with RedisLocker(url, _prefix(), timeout_seconds) as locker:
        yield locker, locker
        await _redis_is_left_empty(locker)


@asynccontextmanager
async def _two_redis(url: str, timeout_seconds: float) -> AsyncIterator[tuple[Locker, Locker]]:
    prefix = _prefix()
    async with _Redis(url, prefix, timeout_seconds) as one, _Redis(url, prefix, timeout_seconds) as two:
        one.other, two.other = two, one
        yield one, two
        await _redis_is_left_empty(one, two)


class _Redis(RedisLocker):
    """Who does not wait for the lock asks for it when Redis has heard what the other let go: nobody waits for that."""

    other: _Redis

    def hold(self, upload_id: UploadId, ask: ReleaseRequested, *, wish: Wish | None = Wish.WHEN_STALLED):
        turn = super().hold(upload_id, ask, wish=wish)
        return turn if wish is not None else self._hold_then(turn)

    @asynccontextmanager
    async def _hold_then(self, turn: turns.Turn) -> AsyncIterator[None]:
        await self.other._fleet.connection.flush()
        async with turn:
            yield


def _prefix() -> str:
    return f"{secrets.token_hex(4)}:"


async def _redis_is_left_empty(*lockers: RedisLocker) -> None:
    for locker in lockers:
        fleet = locker._fleet
        await until(lambda fleet=fleet: not fleet.turns._locks)
        assert not fleet.leases.held
        assert not fleet.requests.follows
        await until(lambda fleet=fleet: not fleet.requests.askers)
    fleet = lockers[0]._fleet
    keys = await fleet.connection.call("KEYS", f"{fleet.leases.prefix}lock:*")
    assert keys == []


LOCKERS = {
    "memory": _memory,
    "file": _file,
    "file-two": _two_files,
    "file-two-uvloop": _two_files,
    "redis": _redis,
    "redis-uvloop": _redis,
    "redis-two": _two_redis,
    "redis-two-uvloop": _two_redis,
}


@pytest.fixture(params=LOCKERS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def anyio_backend(kind: str) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": kind.endswith("uvloop")}


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "ANSWER_SECONDS", 0.2)


@pytest.fixture
def made(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., object]:
    place = request.getfixturevalue("redis_url") if kind.startswith("redis") else tmp_path / "locks"
    return lambda timeout_seconds=5.0: LOCKERS[kind](place, timeout_seconds)


async def until(is_true: Callable[[], bool], seconds: float = 2.0) -> None:
    with anyio.fail_after(seconds):
        while not is_true():
            await anyio.sleep(0.002)


class Holder:
    """Holds the lock in a task of its own; `asked` is what it was asked, `cancelled` which questions were taken back.

    It answers `answer`, or if that is None nothing; it lets go at once when `yields`.
    """

    def __init__(
        self,
        locker: Locker,
        answer: bool | None = False,
        *,
        wish: Wish | None = Wish.WHEN_STALLED,
        yields: bool = False,
    ) -> None:
        self.asked: list[Wish] = []
        self.cancelled: list[Wish] = []
        self.error: TusError | None = None
        self.has_it = anyio.Event()
        self.was_let_go = anyio.Event()
        self._locker, self._answer, self._wish, self._yields = locker, answer, wish, yields
        self._lets_go = anyio.Event()
        self._task = asyncio.get_running_loop().create_task(self._run())

    def let_go(self) -> None:
        self._lets_go.set()

    def cancel(self) -> None:
        self._task.cancel()

    async def end(self) -> None:
        self.let_go()
        await asyncio.wait([self._task], timeout=3)
        assert self._task.done()
        if not self._task.cancelled():
            self._task.result()

    async def _run(self) -> None:
        try:
            async with self._locker.hold(ID, self._release_requested, wish=self._wish):
                self.has_it.set()
                await self._lets_go.wait()
        except TusError as error:
            self.error = error
        finally:
            self.was_let_go.set()

    async def _release_requested(self, wish: Wish) -> bool:
        self.asked.append(wish)
        if self._yields:
            self.let_go()
        try:
            if self._answer is None:
                await anyio.sleep_forever()
        except asyncio.CancelledError:
            self.cancelled.append(wish)
            raise
        return bool(self._answer)


@asynccontextmanager
async def held(locker: Locker, answer: bool | None = False, *, yields: bool = False) -> AsyncIterator[Holder]:
    holder = Holder(locker, answer, yields=yields)
    await holder.has_it.wait()
    try:
        yield holder
    finally:
        await holder.end()


async def take(locker: Locker, wish: Wish | None = Wish.WHEN_STALLED) -> None:
    async with locker.hold(ID, busy, wish=wish):
        pass


async def busy(_wish: Wish) -> bool:
    return False


async def refused(locker: Locker, wish: Wish | None) -> float:
    """Asserts the error; returns how long it took."""
    start = time.monotonic()
    with pytest.raises(RequestError) as caught:
        await take(locker, wish)
    assert (caught.value.status, caught.value.code) == (423, "ERR_UPLOAD_LOCKED")
    return time.monotonic() - start


class TestExclusion:
    async def test_one_at_a_time(self, made):
        async with made() as (one, two):
            async with held(one):
                await refused(two, None)
            await take(two, None)
            await take(one, None)

    async def test_no_wish_asks_nothing_and_does_not_wait(self, made):
        async with made() as (one, two), held(one) as holder:
            assert await refused(two, None) < 0.1
            assert holder.asked == []

    async def test_uploads_do_not_disturb_each_other(self, made):
        async with made() as (one, two), AsyncExitStack() as stack:
            for number in range(50):
                await stack.enter_async_context(one.hold(UploadId(f"one-{number}"), busy, wish=None))
                await stack.enter_async_context(two.hold(UploadId(f"two-{number}"), busy, wish=None))

    async def test_error_in_the_context_passes_and_frees(self, made):
        async with made() as (one, two):
            with pytest.raises(ZeroDivisionError):
                async with one.hold(ID, busy):
                    _ = 1 / 0
            await take(two, None)

    async def test_cancelled_holder_frees(self, made):
        async with made() as (one, two):
            async with held(one) as holder:
                holder.cancel()
                await take(two)
            await take(two, None)

    async def test_many_waiters_all_get_it_one_by_one(self, made):
        inside, most, total = 0, 0, 0

        async def go(locker: Locker) -> None:
            nonlocal inside, most, total
            async with locker.hold(ID, busy):
                inside += 1
                most = max(most, inside)
                await anyio.sleep(0)
                inside -= 1
                total += 1

        async with made() as (one, two):
            async with held(one):
                tasks = [asyncio.create_task(go(locker)) for locker in [one, two] * 100]
                await anyio.sleep(0.05)
                assert total == 0
            await asyncio.gather(*tasks)
            assert (most, total) == (1, 200)


class TestHandOver:
    @pytest.mark.parametrize("wish", WAITING)
    async def test_holder_that_lets_go(self, made, wish):
        async with made() as (one, two), held(one, True, yields=True) as holder:
            start = time.monotonic()
            await take(two, wish)
            assert time.monotonic() - start < 0.3
            assert holder.asked == [wish]

    @pytest.mark.parametrize("wish", [Wish.NOW, Wish.WHEN_STALLED])
    async def test_waits_for_a_holder_that_goes_on(self, made, wish):
        async with made() as (one, two), held(one, False) as holder:
            waiter = Holder(two, wish=wish)
            await until(lambda: holder.asked == [wish])
            await anyio.sleep(0.05)
            assert not waiter.has_it.is_set()
            holder.let_go()
            start = time.monotonic()
            await waiter.has_it.wait()
            assert time.monotonic() - start < 0.2
            await waiter.end()

    async def test_if_stalled_does_not_wait_for_a_healthy_holder(self, made):
        async with made() as (one, two), held(one, False) as holder:
            assert await refused(two, Wish.IF_STALLED) < 0.3
            assert holder.asked == [Wish.IF_STALLED]
            assert not holder.was_let_go.is_set()

    async def test_if_stalled_waits_for_one_that_is_letting_go(self, made):
        async with made() as (one, two), held(one, True) as holder:
            waiter = Holder(two, wish=Wish.IF_STALLED)
            await until(lambda: holder.asked == [Wish.IF_STALLED])
            await anyio.sleep(0.1)
            assert not waiter.was_let_go.is_set()
            holder.let_go()
            await waiter.has_it.wait()
            await waiter.end()

    @pytest.mark.usefixtures("impatient")
    async def test_if_stalled_takes_no_answer_for_a_no(self, made):
        async with made() as (one, two), held(one, None) as holder:
            assert 0.15 < await refused(two, Wish.IF_STALLED) < 0.7
            await until(lambda: holder.cancelled == [Wish.IF_STALLED])

    async def test_next_holder_is_asked_for_those_still_waiting(self, made):
        async with made() as (one, two):
            async with held(one, None) as first:
                second = Holder(one, None)
                await until(lambda: first.asked == [Wish.WHEN_STALLED])
                third = Holder(two)
                first.let_go()
                await second.has_it.wait()
                await until(lambda: second.asked == [Wish.WHEN_STALLED])
                assert not third.has_it.is_set()
            await second.end()
            await third.has_it.wait()
            await third.end()
            assert second.cancelled == [Wish.WHEN_STALLED]

    async def test_who_wants_it_now_is_not_kept_waiting_by_a_line(self, made):
        """A line of appends, then a DELETE: none of those before it may keep it (failures F26)."""
        async with made() as (one, two), held(one, False) as first:
            line = [Holder(two, False) for _ in range(5)]
            await until(lambda: first.asked != [])
            urgent = Holder(two, wish=Wish.NOW)
            await until(lambda: Wish.NOW in first.asked)
            first.let_go()
            with anyio.fail_after(0.5):
                await urgent.has_it.wait()
            await urgent.end()
            for waiter in line:
                waiter.let_go()
            for waiter in line:
                await waiter.has_it.wait()
                await waiter.end()

    async def test_failing_question_kills_nobody(self, made, caplog):
        async def fails(_wish: Wish) -> bool:
            raise RuntimeError("the holder is confused")

        async with made() as (one, two):
            async with one.hold(ID, fails):
                await refused(two, Wish.IF_STALLED)
                waiter = Holder(two)
                await until(lambda: sum("ReleaseRequestFailed" in each.message for each in caplog.records) == 2)
                assert not waiter.was_let_go.is_set()
            await waiter.has_it.wait()
            await waiter.end()


class TestLeaving:
    @pytest.mark.parametrize("wish", [Wish.NOW, Wish.WHEN_STALLED])
    async def test_time_limit(self, made, wish):
        async with made(SHORT) as (one, two), held(one) as holder:
            assert SHORT * 0.9 < await refused(two, wish) < SHORT + 0.3
            assert not holder.was_let_go.is_set()

    async def test_time_limit_zero(self, made):
        async with made(0.0) as (one, two), held(one):
            assert await refused(two, Wish.WHEN_STALLED) < 0.1

    async def test_question_is_taken_back_when_the_waiter_runs_out_of_time(self, made):
        async with made(SHORT) as (one, two), held(one, None) as holder:
            await refused(two, Wish.WHEN_STALLED)
            await until(lambda: holder.cancelled == [Wish.WHEN_STALLED])

    async def test_question_is_taken_back_when_the_last_waiter_is_cancelled(self, made):
        async with made() as (one, two), held(one, None) as holder:
            waiters = [Holder(two), Holder(two)]
            await until(lambda: holder.asked == [Wish.WHEN_STALLED])
            waiters[0].cancel()
            await waiters[0].end()
            await anyio.sleep(0.05)
            assert holder.cancelled == []
            waiters[1].cancel()
            await waiters[1].end()
            await until(lambda: holder.cancelled == [Wish.WHEN_STALLED])
            assert not holder.was_let_go.is_set()

    async def test_question_is_taken_back_when_the_lock_is_free(self, made):
        async with made() as (one, two), held(one, None) as holder:
            waiter = Holder(two)
            await until(lambda: holder.asked == [Wish.WHEN_STALLED])
            holder.let_go()
            await waiter.has_it.wait()
            assert holder.cancelled == [Wish.WHEN_STALLED]
            await waiter.end()

    @pytest.mark.parametrize("wish", WAITING)
    @pytest.mark.parametrize("lets_go_after", [None, 0, 1, 2, 5])
    async def test_cancelled_at_any_moment(self, made, wish, lets_go_after):
        """`steps` turns of the loop after a waiter came it is cancelled, and shortly before the holder let go."""
        async with made() as (one, two):
            for steps in range(14):
                holder = Holder(one, True)
                await holder.has_it.wait()
                waiter, other = Holder(two, wish=wish), Holder(two)
                for step in range(steps):
                    if lets_go_after is not None and step == steps - lets_go_after:
                        holder.let_go()
                    await anyio.sleep(0)
                waiter.cancel()
                await waiter.end()
                await holder.end()
                await other.end()
                assert other.has_it.is_set()
                await take(one, None)

    async def test_cancelled_together_with_the_grant(self, made):
        async with made() as (one, _):
            async with one.hold(ID, busy):
                first, second = Holder(one), Holder(one)
                await anyio.sleep(0)
                await anyio.sleep(0)
            first.cancel()  # has the lock since the line before, and has not run since
            await first.end()
            assert not first.has_it.is_set()
            await second.has_it.wait()
            await second.end()


class TestSettle:
    async def test_free(self, made):
        async with made() as (one, two):
            assert await one.settle(ID) is False
            await take(one)
            assert await two.settle(ID) is False

    async def test_healthy_holder_goes_on(self, made):
        async with made() as (one, two), held(one, False) as holder:
            assert await two.settle(ID) is True
            assert holder.asked == [Wish.IF_STALLED]
            assert not holder.was_let_go.is_set()

    async def test_stalled_holder_lets_go(self, made):
        async with made() as (one, two), held(one, True) as holder:
            settling = asyncio.create_task(two.settle(ID))
            await until(lambda: holder.asked == [Wish.IF_STALLED])
            await anyio.sleep(0.05)
            assert not settling.done()
            holder.let_go()
            assert await settling is False

    @pytest.mark.usefixtures("impatient")
    async def test_holder_that_says_nothing(self, made):
        async with made() as (one, two), held(one, None) as holder:
            start = time.monotonic()
            assert await two.settle(ID) is True
            assert 0.15 < time.monotonic() - start < 0.7
            await until(lambda: holder.cancelled == [Wish.IF_STALLED])

    @pytest.mark.usefixtures("impatient")
    async def test_holder_that_says_it_lets_go_and_does_not(self, made):
        async with made() as (one, two), held(one, True):
            start = time.monotonic()
            assert await two.settle(ID) is True
            assert time.monotonic() - start < 1

    async def test_somebody_else_is_next(self, made):
        async with made() as (one, two), held(one, True) as holder:
            waiter = Holder(two, False)
            settling = asyncio.create_task(one.settle(ID))
            await until(lambda: set(holder.asked) == {Wish.IF_STALLED, Wish.WHEN_STALLED})
            assert not settling.done()
            holder.let_go()
            await waiter.has_it.wait()
            assert await two.settle(ID) is True
            await settling
            await waiter.end()

    async def test_many_at_once_are_one_question(self, made):
        async with made() as (one, two), held(one, None) as holder:
            settling = [asyncio.create_task(two.settle(ID)) for _ in range(100)]
            await until(lambda: holder.asked == [Wish.IF_STALLED])
            for task in settling:
                task.cancel()
            await asyncio.wait(settling)
            await until(lambda: holder.cancelled == [Wish.IF_STALLED])
            assert len(holder.asked) == 1


class TestCost:
    async def test_waiting_costs_nothing(self, made):
        """Failures F24: 300 waiters, 0.4 s."""
        async with made() as (one, two), held(one, None):
            tasks = [asyncio.create_task(take(two)) for _ in range(300)]
            await anyio.sleep(0.1)
            start = time.process_time()
            await anyio.sleep(0.4)
            assert time.process_time() - start < 0.01
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def test_waiting_delays_nobody(self, made):
        """The longest a tick of the loop took while 1,000 came, waited and were served."""
        longest, is_done = 0.0, False

        async def tick() -> None:
            nonlocal longest
            while not is_done:
                start = time.monotonic()
                await anyio.sleep(0.005)
                longest = max(longest, time.monotonic() - start)

        async with made() as (one, two):
            ticking = asyncio.create_task(tick())
            async with held(one, None):
                tasks = [asyncio.create_task(take(two)) for _ in range(1000)]
                await anyio.sleep(0.2)
            start = time.process_time()
            await asyncio.gather(*tasks)
            spent = time.process_time() - start
            is_done = True
            await ticking
        # A herd would be 500,000 wake-ups, some seconds.
        assert spent < 0.5
        assert longest < 0.3


class Memory:
    """A sink."""

    def __init__(self) -> None:
        self.received = bytearray()
        self._room = memoryview(bytearray(64))

    def buffer(self) -> memoryview:
        return self._room

    def filled(self, count: int) -> None:
        self.received += self._room[:count]


class Client:
    """A source that sends ten bytes each `every_seconds`, `pieces` times, and is silent from then on."""

    def __init__(self, pieces: float, every_seconds: float = 0.02) -> None:
        self._pieces, self._every_seconds = pieces, every_seconds

    async def fill(self, sink: Sink) -> None:
        for number in count():
            if number >= self._pieces:
                await anyio.sleep_forever()
            sink.buffer()[:10] = b"0123456789"
            sink.filled(10)
            await anyio.sleep(self._every_seconds)


class TestWithBodies:
    @staticmethod
    @asynccontextmanager
    async def appending(locker: Locker, client: Client) -> AsyncIterator[tuple[Body, Memory]]:
        body, sink = Body(client, patience=Patience(stall_seconds=0.15)), Memory()

        async def append() -> None:
            async with locker.hold(ID, body.release_requested):
                await body.into(sink)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(append)
            await until(lambda: len(sink.received) >= 10)
            yield body, sink
            tasks.cancel_scope.cancel()

    @pytest.mark.parametrize("wish", [Wish.WHEN_STALLED, Wish.IF_STALLED])
    async def test_stalled_hands_over_within_a_second(self, made, wish):
        async with made() as (one, two), self.appending(one, Client(pieces=1)) as (body, sink):
            start = time.monotonic()
            await take(two, wish)
            assert time.monotonic() - start < 0.8
            assert sink.received == b"0123456789"
            assert body.error.status == 423

    async def test_settle_ends_a_stalled_one_within_a_second(self, made):
        async with made() as (one, two), self.appending(one, Client(pieces=1)) as (body, _):
            start = time.monotonic()
            assert await two.settle(ID) is False
            assert time.monotonic() - start < 0.8
            assert body.error is not None

    async def test_healthy_one_is_not_interrupted(self, made):
        async with made(0.3) as (one, two), self.appending(one, Client(pieces=float("inf"))) as (body, _):
            assert await two.settle(ID) is True
            await refused(two, Wish.IF_STALLED)
            await refused(two, Wish.WHEN_STALLED)
            assert body.error is None

    async def test_healthy_one_is_ended_now(self, made):
        async with made() as (one, two), self.appending(one, Client(pieces=float("inf"))) as (body, _):
            start = time.monotonic()
            await take(two, Wish.NOW)
            assert time.monotonic() - start < 0.3
            assert body.error is not None

    async def test_one_that_stalls_later_hands_over_then(self, made):
        async with made() as (one, two), self.appending(one, Client(pieces=10, every_seconds=0.02)) as (_, sink):
            start = time.monotonic()
            await take(two, Wish.WHEN_STALLED)
            assert 0.2 < time.monotonic() - start < 1.0
            assert len(sink.received) == 100
