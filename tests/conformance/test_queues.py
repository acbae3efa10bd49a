"""The port suite of queues: what `core.jobs.Queue` promises, for every queue that there is.

A new queue joins by adding a factory to QUEUES. Each gives two queues over the same jobs, which may be the same object;
if they are two, they stand for two processes. They go by the clock they are given; one whose time is kept elsewhere
gets a `wait` that really waits.
"""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.jobs.owed import Clock, claim_one, claim_some, has_none, job
from tests.lockers.redisserver import RedisServer
from tusd_py.core.jobs import Claim, JobState, Queue
from tusd_py.core.upload import UploadId
from tusd_py.jobs.memory import MemoryQueue
from tusd_py.jobs.redis import RedisQueue
from tusd_py.jobs.sqlite import SqliteQueue
from tusd_py.jobs.sqlite.queue import KEEP_DONE_SECONDS
from tusd_py.lockers.redis.address import parse

pytestmark = pytest.mark.anyio

LEASE = 30.0


@asynccontextmanager
async def _memory(_path: Path, clock: Clock) -> AsyncIterator[tuple[Queue, Queue]]:
    queue = MemoryQueue(clock)
    yield queue, queue


@asynccontextmanager
async def _sqlite(path: Path, clock: Clock) -> AsyncIterator[tuple[Queue, Queue]]:
    queue = SqliteQueue(path / "jobs.db", clock=clock)
    yield queue, queue
    await queue.aclose()


@asynccontextmanager
async def _two_sqlite(path: Path, clock: Clock) -> AsyncIterator[tuple[Queue, Queue]]:
    one, two = SqliteQueue(path / "jobs.db", clock=clock), SqliteQueue(path / "jobs.db", clock=clock)
    yield one, two
    await one.aclose()
    await two.aclose()


class Redis:
    """One for all tests of this module, started when the first one wants it; each has a prefix of its own."""

    def __init__(self) -> None:
        self.path = Path()
        self.server: RedisServer | None = None
        self._numbers = itertools.count()

    def queues(self, clock: Clock, count: int) -> list[RedisQueue]:
        if self.server is None:
            self.server = RedisServer(self.path)
            self.server.start()
        prefix = f"test{next(self._numbers)}:"
        return [RedisQueue(parse(self.server.url), prefix, clock=clock) for _ in range(count)]


REDIS = Redis()


@pytest.fixture(scope="module", autouse=True)
def _redis_ends(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    REDIS.path = tmp_path_factory.mktemp("redis")
    yield
    if REDIS.server is not None:
        REDIS.server.kill()
        REDIS.server = None


@asynccontextmanager
async def _redis(_path: Path, clock: Clock) -> AsyncIterator[tuple[Queue, Queue]]:
    (queue,) = REDIS.queues(clock, 1)
    yield queue, queue
    await queue.aclose()


@asynccontextmanager
async def _two_redis(_path: Path, clock: Clock) -> AsyncIterator[tuple[Queue, Queue]]:
    one, two = REDIS.queues(clock, 2)
    yield one, two
    await one.aclose()
    await two.aclose()


QUEUES: dict[str, Callable[[Path, Clock], AbstractAsyncContextManager[tuple[Queue, Queue]]]] = {
    "memory": _memory,
    "sqlite": _sqlite,
    "sqlite-two": _two_sqlite,
    "sqlite-two-uvloop": _two_sqlite,
    "redis": _redis,
    "redis-two": _two_redis,
    "redis-two-uvloop": _two_redis,
}


@pytest.fixture(params=QUEUES)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def anyio_backend(kind: str) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": kind.endswith("uvloop")}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def wait(clock: Clock) -> Callable[[float], None]:
    """Let so many seconds pass."""

    def let_pass(seconds: float) -> None:
        clock.now += seconds

    return let_pass


@pytest.fixture
async def queues(kind: str, tmp_path: Path, clock: Clock) -> AsyncIterator[tuple[Queue, Queue]]:
    async with QUEUES[kind](tmp_path, clock) as made:
        yield made


class TestPut:
    async def test_what_was_put_is_had_whole_by_another(self, queues):
        one, other = queues
        put = job(payload=bytes(range(256)) * 40)
        await one.put([put])
        claim = await claim_one(other)
        assert claim.job == put
        assert claim.attempt == 1

    async def test_nothing_is_put(self, queues):
        await queues[0].put([])
        assert sum((await queues[1].counts()).values()) == 0

    async def test_a_key_that_was_ever_there_is_passed_over(self, queues):
        one, other = queues
        await one.put([job(), job()])
        await other.put([replace(job(), payload=b"another")])
        claim = await claim_one(other)
        assert claim.job.payload == b"{}"
        await one.put([job()])
        await other.finish([claim])
        await one.put([job()])
        assert (await one.counts())[JobState.DONE] == 1
        assert sum((await one.counts()).values()) == 1
        assert await has_none(one)

    async def test_many_who_put_the_same_at_once_put_it_once(self, queues):
        one, other = queues
        jobs = [job(f"u{number}") for number in range(20)]
        await asyncio.gather(*(queue.put(jobs) for queue in (one, other) * 8))
        assert (await one.counts())[JobState.WAITING] == 20


class TestOrder:
    async def test_jobs_of_an_upload_and_a_hook_come_one_after_the_other(self, queues):
        one, other = queues
        names = ["post-create", "post-receive", "post-finish", "post-terminate"]
        for name in names:
            await one.put([job(event=name)])
        for name in names:
            (claim,) = await claim_some(other, {"scan": 10})
            assert claim.job.event == name
            assert await has_none(one)
            await other.finish([claim])
        assert await has_none(one)

    async def test_a_job_that_is_put_off_holds_back_the_next_ones(self, queues, wait):
        one, other = queues
        await one.put([job(event="a"), job(event="b")])
        await one.put_off(await claim_one(one), 100, "no")
        assert await has_none(other)
        wait(99)
        assert await has_none(other)
        wait(2)
        assert (await claim_one(other)).job.event == "a"

    async def test_a_dead_one_lets_the_next_come(self, queues):
        one, other = queues
        await one.put([job(event="a"), job(event="b")])
        await one.bury(await claim_one(one), "no")
        assert (await claim_one(other)).job.event == "b"

    async def test_a_dropped_one_lets_the_next_come(self, queues):
        one, other = queues
        await one.put([job(event="a"), job(event="b")])
        assert await one.drop(job(event="a").key)
        assert (await claim_one(other)).job.event == "b"

    async def test_other_uploads_and_other_hooks_do_not_wait(self, queues):
        one, other = queues
        await one.put([job("u1", hook="scan"), job("u1", hook="mail"), job("u2", hook="scan")])
        assert (await claim_one(one)).job.key == job("u1").key
        claims = await claim_some(other, {"scan": 10, "mail": 10})
        assert {claim.job.key for claim in claims} == {job("u2").key, job("u1", hook="mail").key}

    async def test_a_lease_that_runs_out_does_not_let_the_next_one_pass(self, queues, wait):
        one, other = queues
        await one.put([job(event="a"), job(event="b")])
        await claim_one(one)
        wait(LEASE + 1)
        (claim,) = await claim_some(other, {"scan": 10})
        assert claim.job.event == "a"

    async def test_a_dead_one_that_is_retried_goes_before_those_that_wait(self, queues, wait):
        one, other = queues
        await one.put([job(event="a"), job(event="b")])
        await one.bury(await claim_one(one), "no")
        assert await other.retry(job(event="a").key)
        claim = await claim_one(other)
        assert claim.job.event == "a"
        await one.finish([claim])
        assert (await claim_one(one)).job.event == "b"

    async def test_a_dead_one_that_is_retried_waits_for_what_runs(self, queues):
        one, other = queues
        await one.put([job(event="a"), job(event="b"), job(event="c")])
        await one.bury(await claim_one(one), "no")
        running = await claim_one(one)
        assert await other.retry(job(event="a").key)
        assert await has_none(other)
        await one.put_off(running, 0, "no")
        assert [(await claim_one(other)).job.event] == ["a"]

    async def test_the_oldest_come_first(self, queues, wait):
        one, other = queues
        for number in (3, 1, 2):
            await one.put([job(f"u{number}")])
            wait(1)
        assert [claim.job.upload_id for claim in await claim_some(other, {"scan": 2})] == ["u3", "u1"]


class TestClaim:
    async def test_no_more_than_there_is_room_for(self, queues):
        one, other = queues
        await one.put([job(f"u{number}", hook=hook) for number in range(5) for hook in ("scan", "mail", "other")])
        claims = await claim_some(other, {"scan": 2, "mail": 3, "other": 0})
        assert sorted(claim.job.hook for claim in claims) == ["mail"] * 3 + ["scan"] * 2

    async def test_those_who_claim_at_once_get_each_job_once(self, queues):
        one, other = queues
        await one.put([job(f"u{number}") for number in range(60)])
        with anyio.fail_after(10):
            found = await asyncio.gather(*(queue.claim({"scan": 10}, 5) for queue in (one, other) * 3))
        keys = [claim.job.key for claims in found for claim in claims]
        assert len(keys) == len(set(keys)) == 60

    async def test_a_lease_that_ran_out_makes_another_attempt(self, queues, wait):
        one, other = queues
        await one.put([job()])
        first = await claim_one(one)
        wait(LEASE - 1)
        assert await has_none(other)
        wait(1)
        second = await claim_one(other)
        assert (second.job, second.attempt) == (first.job, 2)
        assert second.token != first.token

    async def test_it_waits_about_a_lease_for_a_job(self, queues):
        start = time.monotonic()
        assert await queues[0].claim({"scan": 1}, 0.2) == []
        assert 0.19 < time.monotonic() - start < 2

    @pytest.mark.parametrize("ours", [True, False])
    async def test_a_put_wakes_who_waits(self, queues, ours):
        one, other = queues
        waiting = asyncio.create_task(claim_one(one))
        await anyio.sleep(0.1)  # by now it has looked and sleeps, which no queue tells
        start = time.monotonic()
        await (one if ours else other).put([job()])
        assert (await waiting).job == job()
        assert time.monotonic() - start < (0.5 if ours or one is other else 2.5)

    async def test_the_end_of_one_wakes_who_waits_for_the_next(self, queues):
        one, _ = queues
        await one.put([job(event="a"), job(event="b")])
        first = await claim_one(one)
        waiting = asyncio.create_task(claim_one(one))
        await anyio.sleep(0.1)  # by now it has looked and sleeps, which no queue tells
        start = time.monotonic()
        await one.finish([first])
        assert (await waiting).job.event == "b"
        assert time.monotonic() - start < 0.5

    async def test_who_is_cancelled_has_taken_none(self, queues):
        """Whenever it is: before the queue looks, while it does, or when it has the answer."""
        one, other = queues
        for turns in range(40):
            await one.put([job(f"u{turns}")])
            claiming = asyncio.create_task(one.claim({"scan": 1}, 5))
            for _ in range(turns % 20):
                await asyncio.sleep(0 if turns < 20 else 0.0002)
            claiming.cancel()
            claims = (await asyncio.gather(claiming, return_exceptions=True))[0]
            claim = claims[0] if isinstance(claims, list) else await claim_one(other)
            assert claim.attempt == 1
            await other.finish([claim])

    async def test_what_is_over_is_not_had_again(self, queues, wait):
        one, other = queues
        await one.put([job("u1"), job("u2"), job("u3")])
        claims = await claim_some(one, {"scan": 3})
        await one.finish(claims[:1])
        await one.bury(claims[1], "no")
        await one.cancel(UploadId("u3"))
        wait(LEASE * 10)
        assert await has_none(other)


class TestHolding:
    async def test_an_extended_lease_holds_for_longer(self, queues, wait):
        one, other = queues
        await one.put([job()])
        claim = await claim_one(one)
        wait(LEASE - 1)
        assert await one.extend(claim, LEASE)
        wait(LEASE - 1)
        assert await has_none(other)
        wait(2)
        assert (await claim_one(other)).attempt == 2

    async def test_progress_and_note_are_kept_until_others_are_said(self, queues):
        one, other = queues
        await one.put([job()])
        claim = await claim_one(one)
        assert await one.extend(claim, LEASE, 0.25, "half of a half")
        assert await one.extend(claim, LEASE)
        assert await one.extend(claim, LEASE, 0.5)
        status = await other.find(job().key)
        assert (status.state, status.progress, status.note) == (JobState.RUNNING, 0.5, "half of a half")

    async def test_another_attempt_begins_without_the_progress_of_the_last(self, queues):
        one, other = queues
        await one.put([job()])
        claim = await claim_one(one)
        assert await one.extend(claim, LEASE, 0.9, "almost")
        await one.put_off(claim, 0, "no")
        assert (await other.find(job().key)).note == "almost"
        await claim_one(other)
        status = await one.find(job().key)
        assert (status.progress, status.note, status.error) == (None, "", "no")

    async def test_a_lost_claim_changes_nothing(self, queues, wait):
        one, other = queues
        await one.put([job()])
        lost = await claim_one(one)
        wait(LEASE + 1)
        held = await claim_one(other)
        before = await other.find(job().key)
        assert not await one.extend(lost, LEASE, 0.9, "lost")
        await one.finish([lost])
        await one.put_off(lost, 0, "lost")
        await one.bury(lost, "lost")
        await one.give_back([lost])
        assert await other.find(job().key) == before
        assert await other.extend(held, LEASE)
        await other.finish([held])
        assert (await other.find(job().key)).state is JobState.DONE

    async def test_lost_ones_are_passed_over_among_others(self, queues, wait):
        one, other = queues
        await one.put([job("u1"), job("u2")])
        claims = await claim_some(one, {"scan": 2})
        await one.cancel(UploadId("u1"))
        await one.finish(claims)
        assert (await other.find(job("u1").key)).state is JobState.CANCELLED
        assert (await other.find(job("u2").key)).state is JobState.DONE

    async def test_who_was_late_but_not_replaced_may_finish(self, queues, wait):
        one, other = queues
        await one.put([job()])
        claim = await claim_one(one)
        wait(LEASE * 2)
        await one.finish([claim])
        assert (await other.find(job().key)).state is JobState.DONE

    async def test_what_is_put_off_says_why_and_comes_again(self, queues, wait, clock):
        one, other = queues
        await one.put([job()])
        await one.put_off(await claim_one(one), 60, "receiver said 503")
        status = await other.find(job().key)
        assert (status.state, status.attempts, status.error) == (JobState.WAITING, 1, "receiver said 503")
        assert status.due_at == clock.now + 60
        wait(59)
        assert await has_none(other)
        wait(1)
        assert (await claim_one(other)).attempt == 2

    async def test_what_is_given_back_is_had_at_once_and_has_not_been_tried(self, queues):
        one, other = queues
        await one.put([job("u1"), job("u2")])
        await one.give_back(await claim_some(one, {"scan": 2}))
        claims = await claim_some(other, {"scan": 2})
        assert [claim.attempt for claim in claims] == [1, 1]


class TestCancel:
    async def test_an_upload_that_goes_takes_all_it_owes_with_it(self, queues):
        one, other = queues
        await one.put([job(event="a"), job(event="b"), job(hook="mail"), job("u2")])
        running = await claim_one(one, "mail")
        assert await other.cancel(UploadId("u1")) == 3
        assert not await one.extend(running, LEASE)
        await one.finish([running])
        assert (await one.find(running.job.key)).state is JobState.CANCELLED
        assert (await claim_one(one)).job.upload_id == "u2"
        assert await has_none(one, "scan", "mail")
        assert await other.cancel(UploadId("u1")) == 0

    async def test_what_tells_of_its_end_is_kept_and_comes_next(self, queues):
        one, other = queues
        await one.put([job(), job(event="post-terminate"), job(hook="mail", event="post-terminate"), job("u2")])
        assert await other.cancel(UploadId("u1"), "post-terminate") == 1
        claims = await claim_some(one, {"scan": 2, "mail": 1})
        assert sorted(claim.job.key for claim in claims) == [
            "u1:post-terminate:mail", "u1:post-terminate:scan", "u2:post-finish:scan",
        ]  # fmt: skip

    async def test_what_comes_after_it_is_had(self, queues):
        one, other = queues
        await one.put([job(event="post-finish")])
        await one.cancel(UploadId("u1"))
        await one.put([job(event="post-terminate"), job(event="post-finish")])
        claim = await claim_one(other)
        assert claim.job.event == "post-terminate"
        await other.finish([claim])
        assert await has_none(one)

    async def test_what_is_over_stays_as_it_is(self, queues):
        one, other = queues
        await one.put([job("u1", event="a"), job("u1", hook="mail")])
        await one.finish([await claim_one(one)])
        await one.bury(await claim_one(one, "mail"), "no")
        assert await other.cancel(UploadId("u1")) == 0
        assert (await one.find(job("u1", event="a").key)).state is JobState.DONE
        assert (await one.find(job("u1", hook="mail").key)).state is JobState.DEAD


class TestOperators:
    async def test_a_list_is_by_age_and_goes_on_behind_a_key(self, queues):
        one, other = queues
        names = ["u5", "u1", "u4", "u2", "u3"]
        await one.put([job(name) for name in names])
        claims = await claim_some(one, {"scan": 3})
        await one.finish(claims[:1])
        both = [JobState.WAITING, JobState.RUNNING]
        listed = [status.job.upload_id for status in await other.list(both, 10)]
        assert listed == names[1:]
        assert [status.job.upload_id for status in await other.list(both, 2)] == names[1:3]
        assert [each.job.upload_id for each in await other.list(both, 10, job("u4").key)] == names[3:]
        assert [each.job.upload_id for each in await other.list([JobState.DONE], 10)] == ["u5"]
        assert await other.list(both, 10, "not there") == []
        assert await other.list([], 10) == []
        assert await other.list([JobState.DEAD], 10) == []

    async def test_a_job_is_found_with_all_there_is_to_say(self, queues, wait, clock):
        one, other = queues
        await one.put([job()])
        wait(5)
        await one.bury(await claim_one(one), "it said no")
        status = await other.find(job().key)
        assert status.job == job()
        assert (status.state, status.attempts, status.error) == (JobState.DEAD, 1, "it said no")
        assert (status.created_at, status.changed_at) == (clock.now - 5, clock.now)
        assert await other.find("not there") is None

    async def test_counts_are_of_all_states(self, queues):
        one, other = queues
        assert dict(await one.counts()) == dict.fromkeys(JobState, 0)
        await one.put([job(f"u{number}") for number in range(9)])
        claims = await claim_some(one, {"scan": 6})
        await one.finish(claims[:3])
        await one.bury(claims[3], "no")
        await one.cancel(claims[4].job.upload_id)
        assert dict(await other.counts()) == {
            JobState.WAITING: 3,
            JobState.RUNNING: 1,
            JobState.DONE: 3,
            JobState.DEAD: 1,
            JobState.CANCELLED: 1,
        }

    async def test_it_is_told_for_how_long_the_one_that_is_due_for_longest_is(self, queues, wait):
        one, other = queues
        both = ["scan", "mail"]
        assert await one.overdue_seconds(both) == 0
        await one.put([job(event="a"), job(event="b")])
        wait(5)
        await one.put([job(hook="mail"), job("u2", hook="other")])
        wait(3)
        assert await other.overdue_seconds(both) == 8
        assert await other.overdue_seconds(["mail"]) == 3
        assert await other.overdue_seconds([]) == 0
        claim = await claim_one(one)
        assert await other.overdue_seconds(both) == 3
        wait(LEASE + 1)
        await one.finish([await claim_one(one, "mail")])
        assert await other.overdue_seconds(both) == 1  # its lease ran out
        await one.put_off(claim, 10, "no")
        wait(9)
        assert await other.overdue_seconds(both) == 0  # who is behind it is not due either
        wait(3)
        assert await other.overdue_seconds(both) == 2
        await one.bury(await claim_one(one), "no")
        assert await other.drop(job(event="b").key)
        assert await other.overdue_seconds(both) == 0

    async def test_a_dead_one_is_retried_with_all_attempts_before_it(self, queues):
        one, other = queues
        await one.put([job()])
        await one.put_off(await claim_one(one), 0, "no")
        await one.bury(await claim_one(one), "no")
        assert await other.retry(job().key)
        claim = await claim_one(one)
        assert (claim.attempt, claim.job) == (1, job())

    async def test_a_waiting_one_is_retried_at_once(self, queues):
        one, other = queues
        await one.put([job()])
        await one.put_off(await claim_one(one), 3600, "no")
        assert await other.retry(job().key)
        assert (await claim_one(one)).attempt == 1

    async def test_only_dead_and_waiting_ones_are_retried(self, queues):
        one, other = queues
        await one.put([job("u1"), job("u2"), job("u3")])
        claims = await claim_some(one, {"scan": 2})
        await one.finish(claims[:1])
        assert await one.drop(job("u3").key)
        for name in ("u1", "u2", "u3", "not there"):
            assert not await other.retry(job(name).key)
        assert await has_none(other)

    async def test_what_is_dropped_is_cancelled_and_lost_to_who_runs_it(self, queues):
        one, other = queues
        await one.put([job("u1"), job("u2"), job("u3")])
        claims = await claim_some(one, {"scan": 2})
        await one.bury(claims[1], "no")
        for name in ("u1", "u2", "u3"):
            assert await other.drop(job(name).key)
            assert not await other.drop(job(name).key)
        assert not await other.drop("not there")
        assert not await one.extend(claims[0], LEASE)
        assert (await one.counts())[JobState.CANCELLED] == 3


LINES = [("u1", "scan"), ("u1", "mail"), ("u2", "scan")]
NAMES = [(upload, event, hook) for upload, hook in LINES for event in ("a", "b", "c", "d")]
ACTIONS = st.one_of(
    st.tuples(st.just("put"), st.lists(st.sampled_from(NAMES), max_size=4)),
    st.tuples(st.just("claim"), st.integers(1, 3)),
    st.tuples(st.sampled_from(["extend", "finish", "put_off", "bury", "give_back"]), st.integers(0, 9)),
    st.tuples(st.sampled_from(["retry", "drop"]), st.sampled_from(NAMES)),
    st.tuples(st.just("cancel"), st.sampled_from([("u1", ""), ("u2", ""), ("u1", "b"), ("u2", "d")])),
    st.tuples(st.just("wait"), st.sampled_from([1, 10, 40])),
)


class Both:
    """Does the same to a queue and to the one in memory, and compares."""

    def __init__(self, queues: tuple[Queue, Queue], clock: Clock) -> None:
        self._queues, self._clock = queues, clock
        self._model = MemoryQueue(clock)
        self._claims: list[tuple[Claim, Claim]] = []
        self._steps = 0

    async def step(self, name: str, what) -> None:
        self._steps += 1
        queue = self._queues[self._steps % 2]
        if name == "wait":
            self._clock.now += what
        elif name == "put":
            jobs = [job(upload, event, hook, event.encode()) for upload, event, hook in what]
            assert await queue.put(jobs) == await self._model.put(jobs)
        elif name == "claim":
            await self._claim(queue, dict.fromkeys(("scan", "mail"), what))
        elif name in ("retry", "drop"):
            assert await getattr(queue, name)(job(*what).key) == await getattr(self._model, name)(job(*what).key)
        elif name == "cancel":
            upload, kept = what
            assert await queue.cancel(UploadId(upload), kept) == await self._model.cancel(UploadId(upload), kept)
        elif self._claims:
            ours, models = self._claims[what % len(self._claims)]
            assert await self._end(name, queue, ours) == await self._end(name, self._model, models)
        states = list(JobState)
        assert await queue.list(states, 100) == await self._model.list(states, 100)
        assert dict(await queue.counts()) == dict(await self._model.counts())

    async def _claim(self, queue: Queue, capacity: dict[str, int]) -> None:
        before = {status.job.key: status for status in await self._model.list(list(JobState), 100)}
        taken, _ = self._model._take(capacity, LEASE)  # does not wait when there is nothing
        expected = sorted(taken, key=lambda claim: claim.job.key)
        found = sorted(await queue.claim(capacity, LEASE if expected else 0.0), key=lambda claim: claim.job.key)
        assert [(claim.job, claim.attempt) for claim in found] == [(claim.job, claim.attempt) for claim in expected]
        self._claims += zip(found, expected, strict=True)
        self._are_oldest(found, before)

    def _are_oldest(self, claims: list[Claim], before) -> None:
        """No other job of its line runs, and none that waits is older, unless it came back while this one ran."""
        for claim in claims:
            line = [
                status
                for status in before.values()
                if (status.job.upload_id, status.job.hook) == (claim.job.upload_id, claim.job.hook)
                and status.state in (JobState.WAITING, JobState.RUNNING)
            ]
            if before[claim.job.key].state is JobState.WAITING:
                assert line[0].job.key == claim.job.key
                assert not any(status.state is JobState.RUNNING for status in line)

    async def _end(self, name: str, queue: Queue, claim: Claim) -> object:
        match name:
            case "extend":
                return await queue.extend(claim, LEASE, 0.5, "half")
            case "put_off":
                return await queue.put_off(claim, 20, "no")
            case "bury":
                return await queue.bury(claim, "no")
        return await getattr(queue, name)([claim])


@given(actions=st.lists(ACTIONS, max_size=60))
@settings(max_examples=120, deadline=None)
@pytest.mark.parametrize("kind", ["sqlite", "sqlite-two", "redis", "redis-two"])
def test_whatever_is_done_it_is_as_in_memory_and_in_order(kind: str, actions) -> None:
    async def run() -> None:
        clock = Clock()
        with tempfile.TemporaryDirectory() as folder:
            async with QUEUES[kind](Path(folder), clock) as queues:
                both = Both(queues, clock)
                for name, what in actions:
                    await both.step(name, what)

    asyncio.run(run())


class TestSettled:
    """Who is told that nothing is owed of an upload forgets it, so it must be true of the queue that was asked."""

    async def test_the_last_job_of_an_upload_tells(self, queues):
        one, other = queues
        await one.put([job(event="post-create"), job(), job(hook="index"), job("u2")])
        assert await other.finish([await claim_one(one)]) == set()
        both = await claim_some(one, {"scan": 5})
        assert await other.finish(both) == {"u2"}
        assert await other.finish([await claim_one(one, "index")]) == {"u1"}

    async def test_a_dead_job_is_owed_until_it_is_dropped(self, queues):
        one, other = queues
        await one.put([job(), job(hook="index")])
        await one.bury(await claim_one(one), "no")
        assert await one.finish([await claim_one(one, "index")]) == set()
        assert await other.put_again([job()]) == set()
        assert await other.drop(job().key)
        assert await one.put_again([job(), job(hook="index")]) == {"u1"}

    async def test_a_lost_claim_tells_nothing(self, queues):
        one, other = queues
        await one.put([job()])
        claim = await claim_one(one)
        await other.cancel(claim.job.upload_id)
        assert await one.finish([claim]) == set()
        assert await one.put_again([job()]) == {"u1"}

    async def test_what_was_over_for_so_long_that_it_is_forgotten_is_not_done_again(self, queues, wait):
        one, other = queues
        jobs = [job(event="post-create"), job(), job(hook="index")]
        await one.put(jobs)
        for _ in range(2):
            await one.finish([await claim_one(one)])
        await one.bury(await claim_one(one, "index"), "no")
        wait(KEEP_DONE_SECONDS + 1)
        assert await has_none(other)
        await other.put([job("u2")])  # both are when the queue in memory and the one in a file forget
        await has_none(other, "nobody")
        assert await one.find(job().key) is None
        assert await one.put_again(jobs) == set()
        assert [claim.job.upload_id for claim in await claim_some(other, {"scan": 5})] == ["u2"]

    async def test_of_what_is_put_again_only_what_is_over_is_told(self, queues):
        one, other = queues
        assert await one.put_again([job(), job("u2")]) == set()
        assert await one.put_again([]) == set()
        await one.finish([await claim_one(one)])
        assert await other.put_again([job(), job("u2"), job("u3")]) == {"u1"}
        assert (await other.counts())[JobState.WAITING] == 2
