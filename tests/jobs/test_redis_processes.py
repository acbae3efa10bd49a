"""The queue in Redis between real processes: killed ones, and Redis itself killed while all of them work."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import pytest

from tests.jobs.owed import claim_some, job
from tests.jobs.test_sqlite_processes import Other, other
from tests.lockers.redisserver import RedisServer, redis_server
from tusd_py.core.jobs import Job, JobState
from tusd_py.errors import BackendError
from tusd_py.jobs.redis import RedisQueue
from tusd_py.jobs.worker import Beat, Worker
from tusd_py.lockers.redis.address import parse

pytestmark = pytest.mark.anyio

LEASE = 0.8


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path / "redis", "appendonly yes", "appendfsync always") as made:
        yield made


@pytest.fixture
async def queue(server: RedisServer) -> AsyncIterator[RedisQueue]:
    made = RedisQueue(parse(server.url))
    yield made
    await made.aclose()


async def done(queue: RedisQueue) -> int:
    while True:
        try:
            return (await queue.counts())[JobState.DONE]
        except BackendError:
            await anyio.sleep(0.05)


async def test_what_was_acknowledged_is_there_after_a_kill_of_who_put_it(queue, server):
    async with other("put", server.url, "u", 1_000_000) as putting:
        lines = [await putting.line() for _ in range(500)]
        lines += await putting.kill()
    keys = [line.removeprefix("put ") for line in lines if line.endswith(":post-finish:scan")]
    assert len(keys) >= 500
    found = {status.job.key for status in await queue.list([JobState.WAITING], 1_000_000)}
    assert set(keys) <= found
    assert len(found) <= len(keys) + 32  # those that it did not come to say


async def test_a_job_of_a_killed_worker_runs_again_within_its_lease_and_three_seconds(queue, server, tmp_path):
    lease_seconds = 1.5
    await queue.put([job()])
    async with other("hang", server.url, lease_seconds) as hanging:
        await hanging.says("ready")
        await hanging.says(f"began {job().key}")
        async with other("work", server.url, lease_seconds, tmp_path / "effects") as working:
            await working.says("ready")
            with pytest.raises(TimeoutError):
                await working.line(lease_seconds + 0.5)  # the lease is extended
            start = time.monotonic()
            await hanging.kill()
            await working.says(f"began {job().key}")
            assert time.monotonic() - start < lease_seconds + 3


async def test_four_workers_of_which_one_after_the_other_is_killed_lose_no_job_and_repeat_few(queue, server, tmp_path):
    """Which one, and where it is then, is chance."""
    chance = random.Random(7)
    effects = tmp_path / "effects"
    count, kills = 80, 12
    async with AsyncExitStack() as stack, asyncio.timeout(60):

        async def begin() -> Other:
            one = await stack.enter_async_context(other("work", server.url, LEASE, effects))
            await one.says("ready")
            return one

        workers = [await begin() for _ in range(4)]
        for number in range(kills):
            new = range(number * count, (number + 1) * count)
            await queue.put([job(f"u{each}", event) for each in new for event in ("a", "b")])
            enough = await done(queue) + chance.randrange(count)
            while await done(queue) < enough:
                await anyio.sleep(0.001)
            await workers.pop(chance.randrange(4)).kill()
            workers.append(await begin())
        while await done(queue) < kills * count * 2:
            await anyio.sleep(0.02)
    ran = effects.read_text().splitlines()
    had = Counter(ran)
    keys = [job(f"u{number}", event).key for number in range(kills * count) for event in ("a", "b")]
    assert set(had) == set(keys)
    assert sum(had.values()) - len(keys) <= kills * 8  # what ran when it was killed
    first = {key: place for place, key in reversed(list(enumerate(ran)))}
    for number in range(kills * count):
        assert first[job(f"u{number}", "a").key] < first[job(f"u{number}", "b").key]


async def test_a_redis_that_is_killed_while_four_workers_work_loses_no_job(queue, server, tmp_path):
    effects = tmp_path / "effects"
    jobs = [job(f"u{number}") for number in range(1500)]
    async with AsyncExitStack() as stack, asyncio.timeout(60):
        for _ in range(4):
            one = await stack.enter_async_context(other("work", server.url, LEASE, effects))
            await one.says("ready")
        await queue.put(jobs)
        for round_ in range(3):
            while await done(queue) < 300 * (round_ + 1):
                await anyio.sleep(0.01)
            server.kill()
            server.start()
        while await done(queue) < len(jobs):
            await anyio.sleep(0.02)
    had = Counter(effects.read_text().splitlines())
    assert set(had) == {each.key for each in jobs}
    assert sum(had.values()) - len(jobs) <= 3 * 4 * 8 * 2  # what ran, and claims of which nobody heard


async def test_eight_processes_that_put_the_same_put_it_once(queue, server):
    async with AsyncExitStack() as stack:
        others = [await stack.enter_async_context(other("once", server.url, "u", 100)) for _ in range(8)]
        for each in others:
            await each.says("ready", 30)
        for each in others:
            await each.go()
        for each in others:
            await each.says("done", 30)
    assert (await queue.counts())[JobState.WAITING] == 100
    assert len(await claim_some(queue, {"scan": 200})) == 100


async def test_a_hundred_thousand_owed_jobs_are_drained(tmp_path):
    count = 100_000
    with redis_server(tmp_path, "appendonly yes", "appendfsync everysec") as server:
        queue = RedisQueue(parse(server.url))
        left, is_empty = count, anyio.Event()

        async def run(_job: Job, _beat: Beat) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                is_empty.set()

        numbers = iter(range(count))

        async def put() -> None:
            for _ in numbers:
                await queue.put([job(random.randbytes(16).hex(), payload=bytes(500))])

        start = time.monotonic()
        await asyncio.gather(*(put() for _ in range(64)))
        put_seconds = time.monotonic() - start
        worker = Worker(queue, run, {"scan": 32})
        start = time.monotonic()
        worker.start()
        with anyio.fail_after(count / 5000):
            await is_empty.wait()
        seconds = time.monotonic() - start
        await worker.stop(5)
        print(f"{count / put_seconds:.0f} put and {count / seconds:.0f} done a second")
        assert count / put_seconds > 10_000
        assert (await queue.counts())[JobState.DONE] == count
        await queue.aclose()
