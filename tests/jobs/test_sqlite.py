"""What is SQLite's own in its queue: the file, what can be wrong with it, and what a claim costs."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import stat
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from tests.jobs.owed import Clock, claim_one, claim_some, has_none, job
from tusd_py.core.jobs import JobState
from tusd_py.errors import BackendError, ConfigError
from tusd_py.jobs.memory import MemoryQueue
from tusd_py.jobs.sqlite import SqliteQueue, database, statements

pytestmark = pytest.mark.anyio

DAY = 24 * 3600


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


@pytest.fixture
async def made(path: Path) -> AsyncIterator[Callable[..., SqliteQueue]]:
    queues: list[SqliteQueue] = []

    def make(**settings) -> SqliteQueue:
        queues.append(SqliteQueue(path, **settings))
        return queues[-1]

    yield make
    for queue in queues:
        await queue.aclose()


def jobs(count: int, prefix: str = "u", size: int = 2):
    return [job(f"{prefix}{number}", payload=bytes(size)) for number in range(count)]


def spoil(path: Path, start: int, count: int) -> None:
    with path.open("r+b") as file:
        file.seek(start)
        file.write(b"\xa5" * count)


class TestFile:
    async def test_what_was_put_outlives_the_queue(self, made):
        queue = made()
        await queue.put([job(payload=b"kept")])
        await queue.aclose()
        await queue.aclose()
        assert (await claim_one(made())).job.payload == b"kept"

    async def test_it_is_for_the_servers_user_only(self, made, path):
        queue = made()
        await queue.put([job()])
        files = list(path.parent.iterdir())
        assert {file.name for file in files} == {"jobs.db", "jobs.db-wal", "jobs.db-shm"}
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}

    async def test_each_transaction_is_on_the_disk_before_it_counts(self, made):
        queue = made()
        assert await queue._writer.read(lambda c: c.execute("PRAGMA synchronous").fetchone()[0]) == 2  # FULL
        assert await queue._writer.read(lambda c: c.execute("PRAGMA journal_mode").fetchone()[0]) == "wal"

    async def test_those_who_put_at_once_share_a_transaction(self, made):
        queue = made()
        said: list[str] = []
        await queue._writer.read(lambda c: c.set_trace_callback(said.append))
        await asyncio.gather(*(queue.put([each]) for each in jobs(64)))
        assert said.count("COMMIT") <= 3
        assert (await queue.counts())[JobState.WAITING] == 64

    async def test_one_that_is_wrong_does_not_spoil_the_others(self, made):
        queue = made()
        await queue.start()
        wrong = job("u\udcff")
        results = await asyncio.gather(*(queue.put([each]) for each in [*jobs(5), wrong]), return_exceptions=True)
        assert [type(result) for result in results] == [type(None)] * 5 + [UnicodeEncodeError]
        assert (await queue.counts())[JobState.WAITING] == 5

    async def test_a_queue_that_was_closed_says_so(self, made):
        queue = made()
        await queue.aclose()
        with pytest.raises(BackendError):
            await queue.put([job()])

    async def test_what_was_begun_is_ended_before_it_closes(self, made):
        queue = made()
        putting = [asyncio.create_task(queue.put([each])) for each in jobs(600)]
        await asyncio.sleep(0)
        await queue.aclose()
        await asyncio.gather(*putting)
        assert (await made().counts())[JobState.WAITING] == 600


def test_those_who_open_a_new_file_at_once_do_not_disturb_each_other(tmp_path) -> None:
    barrier = threading.Barrier(8)

    def open_one(path: str) -> None:
        made = database.Database(path, 5.0)
        barrier.wait(10)
        assert made.connection().execute("SELECT sum(jobs) FROM tally").fetchone() == (0,)
        made.close()

    with ThreadPoolExecutor(8) as threads:
        for number in range(15):
            list(threads.map(open_one, [str(tmp_path / f"{number}.db")] * 8))


class TestCost:
    async def test_no_statement_of_every_day_reads_the_whole_table(self, made):
        queue = made()
        fields = dict.fromkeys(
            [
                "key",
                "upload_id",
                "event",
                "kept",
                "hook",
                "payload",
                "now",
                "until",
                "progress",
                "note",
                "token",
                "error",
            ],
            "x",
        ) | {"due_at": 1}
        plans = {
            "SOONEST": ("x",),
            "READY": ("x", 1, 10),
            "LEASE": (1, 1, "x", 1),
            "OWES": {"id": "x"},
            "RETRY": (1, 1, 1),
            "DROP": (1, 1),
            "LIST": ("dead", 1, 10),
            "FIND": ("x",),
            "FORGET": (1, "done", 10),
        } | dict.fromkeys(
            ["PUT", "EXTEND", "PUT_OFF", "GIVE_BACK", "FINISH", "BURY", "PROMOTE", "PROMOTE_ALL", "DEMOTE", "CANCEL"],
            fields,
        )
        for name, values in plans.items():
            statement = f"EXPLAIN QUERY PLAN {getattr(statements, name)}"
            plan = await queue._writer.read(lambda c, s=statement, v=values: c.execute(s, v).fetchall())
            steps = [row[3] for row in plan]
            assert not [step for step in steps if step.startswith("SCAN") and "CONSTANT" not in step], (name, steps)
            if name != "READY":
                assert not [step for step in steps if "TEMP B-TREE" in step], (name, steps)

    async def test_a_claim_costs_the_same_whatever_else_there_is(self, made):
        """In steps of SQLite's machine, which do not depend on the machine."""
        queue = made()
        await queue.put(jobs(20, "first"))
        few = await _steps(queue, {"scan": 5})
        await queue.put([job(f"late{number}", hook="other") for number in range(3000)])
        await queue.put([job("long", event=f"e{number}", hook="line") for number in range(3000)])  # behind one another
        await queue.put(jobs(3000, "done"))
        await queue.finish(await claim_some(queue, {"scan": 2000}))
        many = await _steps(queue, {"scan": 5})
        line = await _steps(queue, {"line": 5})
        assert many <= few * 1.5 + 50
        assert line <= few * 1.5 + 50

    async def test_done_ones_are_small_and_forgotten_in_time_in_small_steps(self, made, path):
        clock = Clock()
        queue = made(clock=clock, keep_done_seconds=DAY)
        await queue.put(jobs(1200, "done", 2000))
        await queue.finish(await claim_some(queue, {"scan": 1200}))
        await queue.put([job("gone"), job("dead"), job("waiting")])
        await queue.cancel(job("gone").upload_id)
        await queue.bury(await claim_one(queue), "no")
        assert (await queue.find("done3:post-finish:scan")).job.payload == b""
        before = await _bytes(queue)
        await queue.put(jobs(1000, "again", 2000))  # into the same room
        assert await _bytes(queue) < before * 1.1
        await asyncio.gather(*(queue.drop(f"again{number}:post-finish:scan") for number in range(1000)))
        clock.now += DAY - 1
        await queue.claim({}, 0)
        assert (await queue.counts())[JobState.DONE] == 1200
        await queue.put([job("done3")])
        assert (await queue.counts())[JobState.WAITING] == 1
        clock.now += 20
        left = []
        for _ in range(4):
            await queue.claim({}, 0)
            left.append((await queue.counts())[JobState.DONE])
        assert left == [700, 200, 0, 0]
        assert await queue.find(job("gone").key) is None
        assert (await queue.find(job("dead").key)).state is JobState.DEAD
        for _ in range(3):
            clock.now += 20
            await queue.claim({}, 0)
        await queue.aclose()
        assert path.stat().st_size < 500_000  # of five million bytes

    async def test_a_queue_in_memory_forgets_as_well(self):
        clock = Clock()
        queue = MemoryQueue(clock, keep_done_seconds=DAY)
        await queue.put([job()])
        await queue.finish([await claim_one(queue)])
        clock.now += DAY - 1
        await queue.put([job()])
        assert await has_none(queue)
        clock.now += 2
        await queue.put([job()])
        assert (await claim_one(queue)).attempt == 1


async def _bytes(queue: SqliteQueue) -> int:
    return await queue._writer.read(lambda c: c.execute("PRAGMA page_count").fetchone()[0]) * 4096


async def _steps(queue: SqliteQueue, capacity: dict[str, int]) -> int:
    """How many hundred instructions of SQLite's machine a claim takes."""
    ticks: list[int] = []
    await queue._writer.read(lambda c: c.set_progress_handler(lambda: ticks.append(1), 1))
    claims = await claim_some(queue, capacity)
    await queue._writer.read(lambda c: c.set_progress_handler(None, 0))
    await queue.give_back(claims)
    return len(ticks)


class TestTrouble:
    async def test_a_folder_that_is_not_there_is_a_matter_of_configuration(self, tmp_path):
        queue = SqliteQueue(tmp_path / "missing" / "jobs.db")
        with pytest.raises(ConfigError, match=r"missing.*is not there: make or mount it"):
            await queue.start()
        with pytest.raises(BackendError):
            await queue.put([job()])
        await queue.aclose()

    async def test_a_folder_in_its_place_is_a_matter_of_configuration(self, made, path):
        path.mkdir()
        with pytest.raises(ConfigError, match=r"jobs\.db"):
            await made().start()

    async def test_a_place_where_no_file_can_be_made_is_a_matter_of_configuration(self):
        queue = SqliteQueue("/proc/jobs.db")
        with pytest.raises(
            ConfigError, match=r"/proc/jobs\.db cannot be used .*: it cannot be opened: let the server's"
        ):
            await queue.start()
        await queue.aclose()

    async def test_a_file_of_a_newer_version_is_left_alone(self, made, path):
        await made().start()
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA user_version = 99")
        with pytest.raises(ConfigError, match="made by a newer tusd-py"):
            await made().start()
        with pytest.raises(BackendError):
            await made().put([job()])
        assert [name for name in os.listdir(path.parent) if "corrupt" in name] == []

    async def test_the_database_of_another_program_is_left_alone(self, made, path):
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE theirs (one)")
        with pytest.raises(ConfigError, match="of another program"):
            await made().start()
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (1,)

    @pytest.mark.parametrize(("start", "count"), [(0, 100), (0, 16384), (100, 3996)])
    async def test_a_damaged_file_is_set_aside_at_the_start_and_said_loudly(self, made, path, caplog, start, count):
        first = made()
        await first.put(jobs(500, size=300))
        await first.aclose()
        spoil(path, start, count)
        spoiled = path.read_bytes()
        losses: list[int] = []
        queue = made(on_loss=lambda: losses.append(1))
        await queue.start()
        assert losses == [1]
        await queue.put([job("new")])
        assert (await claim_one(queue)).job.upload_id == "new"
        (aside,) = [file for file in path.parent.iterdir() if ".corrupt-" in file.name]
        assert aside.read_bytes() == spoiled
        (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
        assert "JobsFileSetAside" in record.getMessage()
        assert aside.name in record.getMessage()

    async def test_a_file_that_is_damaged_while_in_use_fails_once_and_is_set_aside(self, made, path, caplog):
        queue, other = made(), made()
        await queue.put(jobs(500, size=300))
        await queue._writer.read(lambda _: None)
        await queue.aclose()
        await other.put([job("other")])
        await other.aclose()
        losses: list[str] = []
        queue, other = made(on_loss=lambda: losses.append("ours")), made(on_loss=lambda: losses.append("other's"))
        await queue.start()
        await other.start()
        spoil(path, 3 * 4096, path.stat().st_size - 3 * 4096)  # its schema is whole
        with pytest.raises(BackendError):
            await queue.claim({"scan": 1000}, 1)
        assert "JobsFileSetAside" in caplog.text
        await queue.put([job("new")])
        assert (await claim_one(other)).job.upload_id == "new"
        assert "JobsFileGone" in caplog.text
        assert losses == ["ours", "other's"]
        assert await asyncio.to_thread(database.checked, str(path)) is None

    async def test_a_file_that_is_removed_while_in_use_is_made_anew(self, made, path, caplog):
        losses: list[int] = []
        queue, other = made(on_loss=lambda: losses.append(1)), made()
        await queue.put([job("lost")])
        await other.start()
        for name in os.listdir(path.parent):
            (path.parent / name).unlink()
        await queue.put([job("new")])
        assert "JobsFileGone" in caplog.text
        assert losses == [1]
        assert (await claim_one(other)).job.upload_id == "new"
        assert (await made().counts())[JobState.RUNNING] == 1

    async def test_nothing_is_acknowledged_that_went_into_a_file_nobody_finds(self, made, path):
        queue = made()
        await queue.start()

        def put_and_remove(connection: sqlite3.Connection) -> None:
            statements.put(connection, [job()], 1.0)
            path.unlink(missing_ok=True)

        with pytest.raises(BackendError):
            await queue._writer.write(put_and_remove)
        await queue.put([job()])
        assert (await made().counts())[JobState.WAITING] == 1

    async def test_a_full_disk_is_said_and_what_was_there_is_unharmed(self, made, caplog):
        queue = made()
        await queue.put(jobs(10))
        pages = await queue._writer.read(lambda c: c.execute("PRAGMA page_count").fetchone()[0])
        await queue._writer.read(lambda c: c.execute(f"PRAGMA max_page_count = {pages + 2}"))
        with pytest.raises(BackendError) as raised:
            await queue.put(jobs(500, "more", 1000))
        assert (raised.value.status, raised.value.code) == (507, "ERR_INSUFFICIENT_STORAGE")
        assert "the disk is full" in caplog.text
        assert (await queue.counts())[JobState.WAITING] == 10
        await queue._writer.read(lambda c: c.execute("PRAGMA max_page_count = 1000000"))
        await queue.put(jobs(500, "more", 1000))
        assert (await queue.counts())[JobState.WAITING] == 510

    async def test_a_file_that_an_operator_sets_aside_is_made_anew(self, made, path):
        queue = made()
        await queue.put([job()])
        aside = await asyncio.to_thread(database.rebuild, str(path))
        assert await has_none(queue)
        await queue.put([job()])
        assert (await claim_one(queue)).attempt == 1
        with closing(sqlite3.connect(aside)) as connection:
            assert connection.execute("SELECT key FROM jobs").fetchall() == [(job().key,)]
