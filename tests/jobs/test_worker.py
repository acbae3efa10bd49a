"""The worker over the queue in memory: what it runs, what it says of it, and how it ends."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import anyio
import pytest

from tests.jobs.owed import Clock, claim_one, job, until
from tusd_py.core.jobs import Job, JobState
from tusd_py.core.upload import UploadId
from tusd_py.errors import BackendError
from tusd_py.jobs import worker as worker_module
from tusd_py.jobs.memory import MemoryQueue
from tusd_py.jobs.worker import Beat, Worker

pytestmark = pytest.mark.anyio

SHORT = 0.15  # seconds of a lease that tests let be extended


class Watched(MemoryQueue):
    """Counts what it is asked, and refuses what is `down`."""

    def __init__(self, *args) -> None:
        super().__init__(*args)
        self.asked: Counter[str] = Counter()
        self.down: dict[str, Exception] = {}

    def _hear(self, name: str) -> None:
        self.asked[name] += 1
        if name in self.down:
            raise self.down[name]

    async def claim(self, *args):
        self._hear("claim")
        return await super().claim(*args)

    async def extend(self, *args):
        self._hear("extend")
        return await super().extend(*args)

    async def finish(self, *args):
        self._hear("finish")
        return await super().finish(*args)

    async def put_off(self, *args):
        self._hear("put_off")
        return await super().put_off(*args)

    async def give_back(self, *args):
        self._hear("give_back")
        return await super().give_back(*args)

    def state(self, key: str) -> JobState:
        return self._entries[key].state


class Runs:
    """What runs: says what has begun, and ends when it may."""

    def __init__(self) -> None:
        self.begun: list[Job] = []
        self.cancelled: list[Job] = []
        self.beat: Beat | None = None
        self.may_end = asyncio.Event()

    async def __call__(self, job: Job, beat: Beat) -> None:
        self.begun.append(job)
        self.beat = beat
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.cancelled.append(job)
            raise


@pytest.fixture
def queue() -> Watched:
    return Watched()


@asynccontextmanager
async def working(queue, run, capacity=None, **settings) -> AsyncIterator[Worker]:
    made = Worker(queue, run, capacity or {"scan": 4}, draw=lambda: 0.0, **settings)
    made.start()
    try:
        yield made
    finally:
        await made.stop(0)


def failing(error: BaseException) -> Callable[[Job, Beat], object]:
    async def run(_job: Job, _beat: Beat) -> None:
        raise error

    return run


class Trouble(Exception):
    def __init__(self, **attributes) -> None:
        super().__init__("receiver said 503")
        self.__dict__ |= attributes


class TestRunning:
    async def test_every_job_runs_once_and_is_done(self, queue):
        seen = []

        async def run(job: Job, _beat: Beat) -> None:
            seen.append(job)

        jobs = [job(f"u{number}", payload=b"%d" % number) for number in range(100)]
        await queue.put(jobs[:50])
        async with working(queue, run):
            await queue.put(jobs[50:])
            await until(lambda: all(queue.state(each.key) is JobState.DONE for each in jobs))
        assert sorted(seen, key=jobs.index) == jobs

    async def test_each_hook_has_its_own_room(self, queue):
        runs = Runs()
        hooks = ["scan"] * 6 + ["mail"] * 3 + ["other"] * 3
        await queue.put([job(f"u{number}", hook=hook) for number, hook in enumerate(hooks)])
        async with working(queue, runs, {"scan": 2, "mail": 3}):
            await until(lambda: len(runs.begun) == 5)
            await anyio.wait_all_tasks_blocked()
            assert Counter(each.hook for each in runs.begun) == {"scan": 2, "mail": 3}
            runs.may_end.set()
            await until(lambda: len(runs.begun) == 9)
            await until(lambda: Counter(entry.state for entry in queue._entries.values())[JobState.DONE] == 9)
        assert (await queue.counts())[JobState.WAITING] == 3  # other's

    async def test_a_hook_that_is_full_hears_of_room_at_once(self, queue):
        """Although another one waits in `claim` for as long as a lease."""
        runs = Runs()
        await queue.put([job("u1"), job("u2")])
        async with working(queue, runs, {"scan": 1, "mail": 1}, lease_seconds=30):
            await until(lambda: len(runs.begun) == 1)
            runs.may_end.set()
            await until(lambda: len(runs.begun) == 2, 1)

    async def test_a_lease_is_extended_while_the_job_runs(self, queue):
        runs = Runs()
        await queue.put([job()])
        async with working(queue, runs, lease_seconds=SHORT), working(queue, runs, lease_seconds=SHORT):
            await until(lambda: queue.asked["extend"] >= 8)
            assert len(runs.begun) == 1
            runs.may_end.set()
            await until(lambda: queue.state(job().key) is JobState.DONE)
        assert (await queue.find(job().key)).attempts == 1

    async def test_progress_is_written_down_seldom_and_the_last_word_always(self, queue):
        runs = Runs()
        await queue.put([job()])
        async with working(queue, runs, lease_seconds=SHORT * 10):
            await until(lambda: runs.beat is not None)
            for number in range(1000):
                runs.beat(number / 1000, f"{number} of 1000")
            await until(lambda: queue._entries[job().key].note == "999 of 1000")
            assert queue.asked["extend"] == 1
            runs.beat(7.0)
            runs.beat(note="all \udcff of it" + "." * 5000)
            runs.may_end.set()
            await until(lambda: queue.state(job().key) is JobState.DONE)
        status = await queue.find(job().key)
        assert status.progress == 1.0
        assert status.note.startswith("all ? of it.")
        assert len(status.note) == 1000

    async def test_who_says_nothing_is_extended_three_times_in_a_lease_and_not_each_beat(self, queue, monkeypatch):
        monkeypatch.setattr(worker_module, "BEAT_SECONDS", 0.02)
        runs = Runs()
        await queue.put([job("u1"), job("u2")])
        async with working(queue, runs, lease_seconds=30):
            await until(lambda: len(runs.begun) == 2)
            for said in ("a", "b", "c"):
                runs.beat(note=said)
                await until(lambda said=said: said in {entry.note for entry in queue._entries.values()})
            assert queue.asked["extend"] == 3


class TestLosing:
    async def test_an_upload_that_goes_ends_the_job_that_runs(self, queue):
        runs = Runs()
        await queue.put([job()])
        async with working(queue, runs, lease_seconds=SHORT) as worker:
            await until(lambda: len(runs.begun) == 1)
            await queue.cancel(UploadId("u1"))
            await until(lambda: len(runs.cancelled) == 1)
            await until(lambda: not worker._tasks())
        assert queue.state(job().key) is JobState.CANCELLED
        assert not queue.asked["finish"] + queue.asked["put_off"] + queue.asked["give_back"]

    async def test_a_job_that_another_worker_has_is_ended_here(self):
        clock = Clock()
        queue, runs = Watched(clock), Runs()
        await queue.put([job()])
        async with working(queue, runs, lease_seconds=SHORT):
            await until(lambda: len(runs.begun) == 1)
            clock.now += 3600
            other = await claim_one(queue, lease_seconds=3600)
            await until(lambda: len(runs.cancelled) == 1)
        assert await queue.extend(other, 1)
        assert other.attempt == 2


class TestFailing:
    async def test_it_is_tried_again_and_given_up_after_the_last_delay(self, queue):
        attempts = []

        async def run(_job: Job, _beat: Beat) -> None:
            attempts.append(1)
            raise Trouble

        await queue.put([job()])
        async with working(queue, run, delays_seconds=[0.0, 0.01, 0.0]):
            await until(lambda: queue.state(job().key) is JobState.DEAD)
        status = await queue.find(job().key)
        assert len(attempts) == status.attempts == 4
        assert status.error == "Trouble: receiver said 503"

    @pytest.mark.parametrize(
        ("error", "seconds"),
        [
            (Trouble(), 60),
            (Trouble(retry_after_seconds=600.0), 600),
            (Trouble(retry_after_seconds=5.0), 60),
            (Trouble(retry_after_seconds=None, is_final=False), 60),
            (asyncio.CancelledError("its own doing"), 60),
            (ValueError("\udcff" * 5000), 60),
        ],
    )
    async def test_it_is_put_off_for_as_long_as_is_right(self, error, seconds):
        clock = Clock()
        queue = Watched(clock)
        await queue.put([job()])
        async with working(queue, failing(error), delays_seconds=[60]):
            await until(lambda: queue.asked["put_off"] == 1)
        status = await queue.find(job().key)
        assert (status.state, status.due_at - clock.now) == (JobState.WAITING, seconds)
        status.error.encode()
        assert 0 < len(status.error) <= 1000

    async def test_what_is_final_is_buried_at_once(self, queue):
        await queue.put([job()])
        async with working(queue, failing(Trouble(is_final=True, retry_after_seconds=5.0))):
            await until(lambda: queue.state(job().key) is JobState.DEAD)
        assert (await queue.find(job().key)).attempts == 1

    async def test_a_job_that_kills_each_worker_is_given_up(self):
        clock = Clock()
        queue, runs = Watched(clock), Runs()
        await queue.put([job()])
        for _ in range(3):
            await claim_one(queue, lease_seconds=1)
            clock.now += 2
        async with working(queue, runs, delays_seconds=[0.0, 0.0]):
            await until(lambda: queue.state(job().key) is JobState.DEAD)
        assert not runs.begun
        assert "worker ended" in (await queue.find(job().key)).error


class TestOutage:
    @pytest.mark.parametrize("error", [BackendError(), RuntimeError("a bug")])
    async def test_a_queue_that_is_down_is_waited_for_without_a_rush(self, queue, error):
        runs = Runs()
        runs.may_end.set()
        queue.down["claim"] = error
        await queue.put([job()])
        async with working(queue, runs):
            await until(lambda: queue.asked["claim"] == 3)
            start = asyncio.get_running_loop().time()
            await until(lambda: queue.asked["claim"] == 4)
            assert asyncio.get_running_loop().time() - start > 0.3
            queue.down.clear()
            await until(lambda: queue.state(job().key) is JobState.DONE)

    async def test_an_end_that_the_queue_did_not_hear_is_told_again_and_the_job_not_run_again(self, queue):
        runs = Runs()
        runs.may_end.set()
        queue.down["finish"] = BackendError()
        await queue.put([job()])
        async with working(queue, runs, lease_seconds=SHORT):
            await until(lambda: queue.asked["finish"] >= 3)  # for longer than a lease
            assert queue.asked["extend"] > 0
            queue.down.clear()
            await until(lambda: queue.state(job().key) is JobState.DONE)
        assert len(runs.begun) == 1

    async def test_a_job_goes_on_while_its_lease_cannot_be_extended(self, queue):
        runs = Runs()
        await queue.put([job()])
        async with working(queue, runs, lease_seconds=0.6):
            await until(lambda: len(runs.begun) == 1)
            queue.down["extend"] = BackendError()
            runs.beat(0.5, "half")
            await until(lambda: queue.asked["extend"] == 1)
            queue.down.clear()
            await until(lambda: queue._entries[job().key].note == "half")
            assert not runs.cancelled


class TestStopping:
    async def test_what_runs_may_end_and_nothing_new_begins(self, queue):
        runs = Runs()
        await queue.put([job(event="a"), job(event="b")])
        async with working(queue, runs) as worker:
            await until(lambda: len(runs.begun) == 1)
            stopping = asyncio.create_task(worker.stop(30))
            await anyio.wait_all_tasks_blocked()
            assert not stopping.done()
            runs.may_end.set()
            await stopping
        assert queue.state(job(event="a").key) is JobState.DONE
        assert queue.state(job(event="b").key) is JobState.WAITING
        assert not runs.cancelled

    async def test_leases_are_extended_during_the_grace(self, queue):
        runs = Runs()
        await queue.put([job()])
        async with working(queue, runs, lease_seconds=SHORT) as worker:
            await until(lambda: len(runs.begun) == 1)
            stopping = asyncio.create_task(worker.stop(30))
            asked = queue.asked["extend"]
            await until(lambda: queue.asked["extend"] >= asked + 4)
            runs.may_end.set()
            await stopping
        assert (await queue.find(job().key)).attempts == 1

    async def test_what_does_not_end_is_another_workers_at_once_and_not_an_attempt(self, queue):
        runs = Runs()
        await queue.put([job()])
        async with working(queue, runs, lease_seconds=3600) as worker:
            await until(lambda: len(runs.begun) == 1)
            await worker.stop(0.01)
            assert runs.cancelled == [job()]
            assert (await claim_one(queue)).attempt == 1

    async def test_a_job_that_will_not_end_does_not_keep_the_worker(self, queue, monkeypatch):
        monkeypatch.setattr(worker_module, "LAST_WORD_SECONDS", 0.05)
        may_end, begun = asyncio.Event(), asyncio.Event()

        async def run(_job: Job, _beat: Beat) -> None:
            begun.set()
            while not may_end.is_set():
                with suppress(asyncio.CancelledError):
                    await may_end.wait()

        await queue.put([job()])
        async with working(queue, run) as worker:
            await begun.wait()
            with anyio.fail_after(2):
                await worker.stop(0)
            tasks = worker._tasks()
            may_end.set()
            await asyncio.wait(tasks)

    async def test_it_stops_while_the_queue_is_down(self, queue):
        runs = Runs()
        queue.down = {"finish": BackendError(), "give_back": BackendError(), "extend": BackendError()}
        await queue.put([job("u1"), job("u2")])
        async with working(queue, runs, {"scan": 2}) as worker:
            await until(lambda: len(runs.begun) == 2)
            runs.may_end.set()
            await until(lambda: queue.asked["finish"] == 2)
            with anyio.fail_after(2):
                await worker.stop(0)
            assert not worker._tasks()
            await worker.stop(0)

    async def test_what_waits_for_jobs_ends_at_once(self, queue):
        async with working(queue, Runs(), lease_seconds=3600) as worker:
            await until(lambda: queue.asked["claim"] == 1)
            with anyio.fail_after(1):
                await worker.stop(3600)
