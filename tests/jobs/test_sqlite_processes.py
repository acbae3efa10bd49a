"""The queue in a file between real processes: killed ones, one that holds its lock, one without room on the disk."""

from __future__ import annotations

import asyncio
import random
import signal
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path

import anyio
import pytest

from tests.jobs.owed import claim_some, job
from tusd_py.core.jobs import Job, JobState
from tusd_py.errors import BackendError
from tusd_py.jobs.sqlite import SqliteQueue, database
from tusd_py.jobs.worker import Beat, Worker

pytestmark = pytest.mark.anyio

SCRIPT = Path(__file__).with_name("jobprocess.py")
ROOT = Path(__file__).parents[2]


class Other:
    """The other process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        self._process = process
        self._lines = process.stdout

    async def line(self, seconds: float = 10) -> str:
        async with asyncio.timeout(seconds):
            return (await self._lines.readline()).decode().rstrip("\n")

    async def says(self, line: str, seconds: float = 10) -> None:
        assert await self.line(seconds) == line

    async def go(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        await self._process.stdin.drain()

    async def kill(self) -> list[str]:
        """At once; what it had said by then."""
        self._process.send_signal(signal.SIGKILL)
        said = (await self._lines.read()).decode()
        await self._process.wait()
        return said.splitlines()


@asynccontextmanager
async def other(*arguments: object) -> AsyncIterator[Other]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(SCRIPT), *map(str, arguments)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={"PYTHONPATH": str(ROOT)},
    )
    try:
        yield Other(process)
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.communicate()
        process._transport.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


@pytest.fixture
async def queue(path: Path) -> AsyncIterator[SqliteQueue]:
    queue = SqliteQueue(path)
    yield queue
    await queue.aclose()


class TestKills:
    async def test_what_was_acknowledged_is_there_after_a_kill(self, queue, path):
        async with other("put", path, "u", 1_000_000) as putting:
            lines = [await putting.line() for _ in range(500)]
            lines += await putting.kill()
        keys = [line.removeprefix("put ") for line in lines if line.endswith(":post-finish:scan")]
        assert len(keys) >= 500
        found = {status.job.key for status in await queue.list([JobState.WAITING], 1_000_000)}
        assert set(keys) <= found
        assert len(found) <= len(keys) + 32  # those that it did not come to say

    async def test_a_job_of_a_killed_worker_runs_again_within_its_lease_and_three_seconds(self, queue, path, tmp_path):
        lease_seconds = 1.5
        await queue.put([job()])
        async with other("hang", path, lease_seconds) as hanging:
            await hanging.says("ready")
            await hanging.says(f"began {job().key}")
            async with other("work", path, lease_seconds, tmp_path / "effects") as working:
                await working.says("ready")
                with pytest.raises(TimeoutError):
                    await working.line(lease_seconds + 0.5)  # the lease is extended
                start = time.monotonic()
                await hanging.kill()
                await working.says(f"began {job().key}")
                assert time.monotonic() - start < lease_seconds + 3

    async def test_twenty_kills_lose_no_job_and_repeat_few(self, queue, path, tmp_path):
        """Where it is killed is chance, when is a job that it says to have begun."""
        chance = random.Random(7)
        effects = tmp_path / "effects"
        keys = []
        killed = 0
        async with asyncio.timeout(60):
            while killed < 20:
                new = [job(f"u{killed}-{number}", event) for number in range(30) for event in ("a", "b")]
                keys += [each.key for each in new]
                async with other("work", path, 0.8, effects) as one:
                    await one.says("ready")
                    await queue.put(new)
                    for _ in range(chance.randrange(1, 50)):
                        await one.line()
                    await one.kill()
                    killed += 1
            async with other("work", path, 0.8, effects):
                while (await queue.counts())[JobState.DONE] < len(keys):
                    await anyio.sleep(0.02)
        had = Counter(effects.read_text().splitlines())
        assert set(had) == set(keys)
        assert sum(had.values()) - len(keys) <= 20 * 8  # what ran when it was killed
        assert await asyncio.to_thread(database.checked, str(path)) is None


class TestCompany:
    async def test_eight_processes_that_put_the_same_put_it_once(self, queue, path):
        async with _all([lambda: other("once", path, "u", 100)] * 8) as others:
            for each in others:
                await each.says("ready", 30)
            for each in others:
                await each.go()
            for each in others:
                await each.says("done", 30)
        assert (await queue.counts())[JobState.WAITING] == 100
        claims = await claim_some(queue, {"scan": 200})
        assert len({claim.job.payload for claim in claims}) >= 1
        assert len(claims) == 100

    async def test_a_lock_that_another_process_holds_is_waited_for(self, queue, path):
        await queue.put([job("before")])
        async with other("lock", path) as locking:
            await locking.says("locked")
            putting = asyncio.create_task(queue.put([job()]))
            done, _ = await asyncio.wait([putting], timeout=0.3)
            assert not done
            await locking.go()
            async with asyncio.timeout(5):
                await putting
        assert (await queue.find(job().key)).state is JobState.WAITING

    async def test_but_not_for_ever_and_readers_do_not_wait(self, path, caplog):
        queue = SqliteQueue(path, busy_seconds=0.4)
        await queue.put([job("before")])
        async with other("lock", path) as locking:
            await locking.says("locked")
            with pytest.raises(BackendError):
                await queue.put([job()])
            assert "another process keeps it locked" in caplog.text
            assert (await queue.counts())[JobState.WAITING] == 1
        await queue.put([job()])
        assert (await queue.counts())[JobState.WAITING] == 2
        await queue.aclose()

    async def test_a_disk_without_room_fails_what_is_new_and_harms_nothing(self, path, tmp_path):
        async with other("small", path, 5_000_000) as small:
            count = int((await small.line(30)).removeprefix("put "))
            await small.says("error ERR_INTERNAL_SERVER_ERROR")
            await small.says("put last")
        assert count > 500
        assert await asyncio.to_thread(database.checked, str(path)) is None
        with closing(sqlite3.connect(path)) as connection:
            uploads = [upload for (upload,) in connection.execute("SELECT upload_id FROM jobs ORDER BY number")]
        assert uploads == [*(f"u{number}" for number in range(count)), "last"]


@asynccontextmanager
async def _all(makers: list[Callable]) -> AsyncIterator[list[Other]]:
    if not makers:
        yield []
        return
    async with makers[0]() as first, _all(makers[1:]) as others:
        yield [first, *others]


async def test_a_hundred_thousand_owed_jobs_are_drained(path):
    count = 100_000
    queue = SqliteQueue(path)
    left, is_empty = count, anyio.Event()

    async def run(_job: Job, _beat: Beat) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            is_empty.set()

    for start in range(0, count, 5000):
        await queue.put([job(random.randbytes(16).hex(), payload=bytes(500)) for _ in range(start, start + 5000)])
    worker = Worker(queue, run, {"scan": 32})
    start_time = time.monotonic()
    worker.start()
    with anyio.fail_after(count / 3000):
        await is_empty.wait()
    seconds = time.monotonic() - start_time
    await worker.stop(5)
    print(f"{count / seconds:.0f} jobs a second")
    assert (await queue.counts())[JobState.DONE] == count
    await queue.aclose()
