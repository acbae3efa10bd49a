"""What is Redis' own in its queue: what it keeps, what a call costs, and what can be wrong with it."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from tests.jobs.owed import Clock, claim_one, claim_some, has_none, job, until
from tests.lockers.redisserver import RedisServer, redis_server
from tusd_py.core.jobs import JobState
from tusd_py.errors import BackendError, ConfigError
from tusd_py.jobs.redis import RedisQueue, news
from tusd_py.lockers.redis.address import parse

pytestmark = pytest.mark.anyio

DAY = 24 * 3600
PREFIX = "test:"
START = "test:{jobs}:"

Make = Callable[..., RedisQueue]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path / "redis") as made:
        yield made


@pytest.fixture
async def made(server: RedisServer) -> AsyncIterator[Make]:
    queues: list[RedisQueue] = []

    def make(url: str = "", **settings) -> RedisQueue:
        queues.append(RedisQueue(parse(url or server.url), PREFIX, **settings))
        return queues[-1]

    yield make
    for queue in queues:
        await queue.aclose()


def jobs(count: int, prefix: str = "u", size: int = 2):
    return [job(f"{prefix}{number}", payload=bytes(size)) for number in range(count)]


def calls(server: RedisServer, *commands: str) -> int:
    """How often these were called, or any; scripts' calls count."""
    stats = dict(re.findall(r"cmdstat_(\S+):calls=(\d+)", server.ask("INFO", "commandstats")))
    return sum(int(count) for name, count in stats.items() if name in commands or not commands)


def memory(server: RedisServer) -> int:
    return int(re.search(r"used_memory:(\d+)", server.ask("INFO", "memory"))[1])


class TestKeys:
    async def test_what_was_put_outlives_the_queue(self, made):
        queue = made()
        await queue.put([job(payload=b"kept")])
        await queue.aclose()
        await queue.aclose()
        assert (await claim_one(made())).job.payload == b"kept"

    async def test_all_begin_with_the_prefix_and_are_in_one_slot(self, made, server):
        queue = made()
        await queue.put([job("u1"), job("u2", hook="mail")])
        await queue.finish([await claim_one(queue)])
        await queue.bury(await claim_one(queue, "mail"), "no")
        names = server.names()
        assert f"{START}jobs" in names
        assert all(name.startswith(START) for name in names)

    async def test_a_prefix_that_would_part_them_is_refused(self, server):
        with pytest.raises(ConfigError, match=r"the Redis prefix 'a\{b\}' is wrong"):
            RedisQueue(parse(server.url), "a{b}")

    async def test_queues_of_two_prefixes_know_nothing_of_each_other(self, made, server):
        await made().put([job()])
        other = RedisQueue(parse(server.url), "other:")
        assert await has_none(other)
        await other.aclose()

    async def test_nothing_is_left_of_an_upload_when_its_jobs_are_forgotten(self, made, server):
        clock = Clock()
        queue = made(clock=clock)
        await queue.put([job(event=event, hook=hook) for event in "abc" for hook in ("scan", "mail")])
        await queue.finish([await claim_one(queue)])
        await queue.put_off(await claim_one(queue), 5, "no")
        await queue.bury(await claim_one(queue, "mail"), "no")
        await queue.cancel(job().upload_id)
        await queue.drop(job(event="a", hook="mail").key)
        clock.now += 8 * DAY
        await has_none(queue)
        assert sorted(server.names()) == [f"{START}epoch", f"{START}news", f"{START}number"]

    async def test_done_ones_are_small_and_forgotten_in_time_in_small_steps(self, made, server):
        clock = Clock()
        queue = made(clock=clock, keep_done_seconds=DAY)
        await queue.put([job("gone"), job("dead")])
        await queue.cancel(job("gone").upload_id)
        await queue.bury(await claim_one(queue), "no")
        before = memory(server)
        ids = [f"{number:032x}" for number in range(1200)]
        await queue.put([job(each, payload=bytes(2000)) for each in ids])
        await queue.finish(await claim_some(queue, {"scan": 1200}))
        assert (memory(server) - before) / 1200 < 400
        assert (await queue.find(job(ids[3]).key)).job.payload == b""
        clock.now += DAY - 1
        await queue.claim({}, 0)
        assert (await queue.counts())[JobState.DONE] == 1200
        await queue.put([job(ids[3])])
        assert (await queue.counts())[JobState.WAITING] == 0
        clock.now += 20
        left = []
        for _ in range(4):
            await queue.claim({}, 0)
            left.append((await queue.counts())[JobState.DONE])
        assert left == [700, 200, 0, 0]
        assert await queue.find(job("gone").key) is None
        assert (await queue.find(job("dead").key)).state is JobState.DEAD


class TestCost:
    async def test_those_who_put_at_once_are_put_by_one_call(self, made, server):
        queue = made()
        await queue.start()
        before = calls(server, "evalsha")
        await asyncio.gather(*(queue.put([each]) for each in jobs(64)))
        assert calls(server, "evalsha") - before <= 2
        assert (await queue.counts())[JobState.WAITING] == 64

    async def test_one_that_cannot_be_written_does_not_spoil_the_others(self, made):
        queue = made()
        wrong = job("u\udcff")
        results = await asyncio.gather(*(queue.put([each]) for each in [*jobs(5), wrong]), return_exceptions=True)
        assert [type(result) for result in results] == [type(None)] * 5 + [UnicodeEncodeError]
        assert (await queue.counts())[JobState.WAITING] == 5

    async def test_more_than_one_call_may_take_are_put_by_several(self, made, server):
        queue = made()
        await queue.start()
        before = calls(server, "evalsha")
        await queue.put(jobs(1000))
        assert calls(server, "evalsha") - before == 4
        listed = await queue.list([JobState.WAITING], 1000)
        assert [status.job for status in listed] == jobs(1000)
        before = calls(server, "evalsha")
        await asyncio.gather(*(queue.put(jobs(200, f"more{number}-")) for number in range(4)))
        assert calls(server, "evalsha") - before == 4

    async def test_each_of_those_who_ask_at_once_gets_the_answer_to_its_own(self, made, server):
        queue = made()
        await queue.put(
            [job(f"u{number}", event) for number in range(30) for event in ("a", "b")[: 1 + number % 3 % 2]]
        )
        claims = await claim_some(queue, {"scan": 100})
        before = calls(server, "evalsha")
        settled = await asyncio.gather(*(queue.finish([claim]) for claim in claims))
        assert calls(server, "evalsha") - before <= 2
        assert settled == [{f"u{number}"} if number % 3 != 1 else set() for number in range(30)]
        claims = await claim_some(queue, {"scan": 100})
        lost = [replace(claim, token="lost") if number % 2 else claim for number, claim in enumerate(claims)]
        held = await asyncio.gather(*(queue.extend(claim, 30, 0.1, "on") for claim in lost))
        assert held == [number % 2 == 0 for number in range(10)]

    async def test_a_claim_asks_the_same_whatever_else_there_is(self, made, server):
        queue = made()

        async def asked(capacity: dict[str, int]) -> int:
            before = calls(server)
            claims = await claim_some(queue, capacity)
            count = calls(server) - before
            await queue.give_back(claims)
            return count

        await queue.put(jobs(20, "first"))
        await claim_some(queue, {"scan": 1})  # forgets for the first time
        few = await asked({"scan": 5})
        await queue.put([job(f"late{number}", hook="other") for number in range(2000)])
        await queue.put([job("long", event=f"e{number}", hook="line") for number in range(2000)])  # behind one another
        await queue.put(jobs(2000, "done"))
        await queue.finish(await claim_some(queue, {"scan": 1500}))
        assert await asked({"scan": 5}) <= few + 2
        assert await asked({"line": 5}) <= few

    async def test_who_waits_does_not_ask(self, made, server):
        queue = made()
        waiting = asyncio.create_task(claim_one(queue))
        await anyio.sleep(0.2)
        before = calls(server)
        await anyio.sleep(1)
        assert calls(server) - before <= 1  # our own question
        await queue.put([job()])
        assert (await waiting).job == job()

    async def test_who_waits_hears_at_once_what_another_put(self, made):
        queue, other = made(), made()
        waiting = asyncio.create_task(claim_one(queue))
        await anyio.sleep(0.2)
        start = time.monotonic()
        await other.put([job()])
        await waiting
        assert time.monotonic() - start < 0.3

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

    async def test_the_clocks_of_machines_do_not_matter(self, made, server, monkeypatch):
        ours, other = made(), made()
        await ours.put([job()])
        claim = await claim_one(ours)
        monkeypatch.setattr(time, "time", lambda: 1e9)
        assert await has_none(other)
        await ours.put_off(claim, 60, "no")
        assert await has_none(other)
        status = await other.find(job().key)
        redis_now = float(server.ask("TIME").split()[0])
        assert redis_now - 5 < status.changed_at < redis_now + 2
        assert status.due_at == pytest.approx(status.changed_at + 60)


class TestAtStart:
    async def test_a_redis_that_is_not_there_is_a_matter_of_configuration(self, made, server):
        server.kill()
        queue = made()
        with pytest.raises(ConfigError, match=rf"queue in redis://127\.0\.0\.1:{server.port}/0 cannot .* running, and"):
            await queue.start()

    @pytest.mark.parametrize("credentials", ["", ":wrong-word@"])
    async def test_a_wrong_password_is_said_and_not_shown(self, tmp_path, credentials):
        with redis_server(tmp_path, "requirepass hush") as server:
            queue = RedisQueue(parse(f"redis://{credentials}127.0.0.1:{server.port}"))
            with pytest.raises(ConfigError, match="does not take the user and password of the URL") as raised:
                await queue.start()
            assert "wrong-word" not in str(raised.value)
            await queue.aclose()

    async def test_a_user_who_may_not_do_enough_is_told_what_is_needed(self, tmp_path):
        with redis_server(tmp_path, "user poor on >word ~* +get +set +info") as server:
            queue = RedisQueue(parse(f"redis://poor:word@127.0.0.1:{server.port}"))
            with pytest.raises(ConfigError, match=r"the user needs the keys .* and the commands evalsha, script"):
                await queue.start()
            await queue.aclose()

    async def test_a_replica_is_refused(self, made, server):
        server.ask("REPLICAOF", "127.0.0.1", "1")
        with pytest.raises(ConfigError, match="a read-only replica"):
            await made().start()

    async def test_what_would_lose_jobs_one_day_is_said_once(self, made, server, caplog):
        server.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        queue = made()
        await queue.start()
        assert "maxmemory-policy allkeys-lru" in caplog.text
        assert "appendonly no" in caplog.text
        caplog.clear()
        server.ask("CLIENT", "KILL", "TYPE", "normal")
        await queue.put([job()])
        assert "JobsAtRisk" not in caplog.text

    async def test_a_redis_that_keeps_jobs_is_no_risk(self, tmp_path, caplog):
        with redis_server(tmp_path, "appendonly yes", "maxmemory-policy volatile-lru") as server:
            queue = RedisQueue(parse(server.url))
            await queue.start()
            await queue.aclose()
        assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


class TestTrouble:
    async def test_a_redis_that_is_gone_fails_at_once_and_is_used_when_it_is_back(self, made, server, caplog):
        queue = made()
        await queue.put([job()])
        server.kill()
        start = time.monotonic()
        for _ in range(3):
            with pytest.raises(BackendError, match="the queue of jobs cannot be used at the moment"):
                await queue.put([job()])
        assert time.monotonic() - start < 1
        assert len(re.findall("JobsFailed.*Redis cannot be reached", caplog.text)) == 1
        server.start()
        await queue.put([job("u2")])
        assert [(await claim_one(queue)).job.upload_id] == ["u2"]

    async def test_who_waits_for_jobs_while_it_is_away_hears_of_those_that_come_then(self, made, server):
        queue, other = made(), made()
        await queue.start()
        waiting = asyncio.create_task(claim_one(queue))
        await anyio.sleep(0.1)
        server.kill()
        server.start()
        await other.put([job()])
        assert (await waiting).job == job()

    async def test_one_that_hangs_fails_in_seconds(self, made, server):
        queue = made()
        await queue.put([job()])
        server.pause()
        start = time.monotonic()
        with pytest.raises(BackendError):
            await queue.counts()
        assert 1.5 < time.monotonic() - start < 3
        server.go_on()
        assert (await queue.counts())[JobState.WAITING] == 1

    async def test_a_pause_of_all_clients_is_waited_for_or_told(self, made, server, caplog):
        queue = made()
        await queue.put([job()])
        server.ask("CLIENT", "PAUSE", "300", "WRITE")
        await queue.put([job("u2")])
        server.ask("CLIENT", "PAUSE", "2500", "WRITE")
        with pytest.raises(BackendError):
            await queue.put([job("u3")])
        assert "Redis does not answer in time" in caplog.text
        server.ask("CLIENT", "UNPAUSE")
        await queue.put([job("u3")])
        assert len(await claim_some(queue, {"scan": 10})) == 3

    async def test_cut_connections_are_made_again_and_nobody_notices(self, made, server, caplog):
        losses: list[int] = []
        queue = made(on_loss=lambda: losses.append(1))
        await queue.put([job()])
        claim = await claim_one(queue)
        for _ in range(5):
            server.ask("CLIENT", "KILL", "TYPE", "normal")
            assert await queue.extend(claim, 30)
        assert not losses
        assert "JobsRedisChanged" not in caplog.text

    async def test_scripts_that_are_forgotten_are_told_again(self, made, server):
        queue = made()
        await queue.put([job()])
        server.ask("SCRIPT", "FLUSH")
        await queue.put([job("u2")])
        assert (await queue.counts())[JobState.WAITING] == 2

    async def test_one_without_memory_changes_nothing_and_says_so(self, made, server, caplog):
        queue = made()
        await queue.put(jobs(5))
        claims = await claim_some(queue, {"scan": 2})
        before = await queue.list(list(JobState), 10)
        server.ask("CONFIG", "SET", "maxmemory", "1")
        for call in (queue.put([job("more")]), queue.finish(claims), queue.bury(claims[0], "no")):
            with pytest.raises(BackendError):
                await call
        with pytest.raises(BackendError):
            await queue.claim({"scan": 1}, 0)
        assert await queue.list(list(JobState), 10) == before
        assert "Redis is out of memory" in caplog.text
        server.ask("CONFIG", "SET", "maxmemory", "0")
        assert await queue.finish(claims) == {"u0", "u1"}
        assert len(await claim_some(queue, {"scan": 10})) == 3

    async def test_another_kind_of_value_in_our_place_is_said(self, made, server, caplog):
        server.ask("SET", f"{START}jobs", "theirs")
        queue = made()
        with pytest.raises(BackendError):
            await queue.put([job()])
        assert "something else uses keys with this prefix" in caplog.text
        assert server.ask("GET", f"{START}jobs") == "theirs"
        server.ask("DEL", f"{START}jobs")
        await queue.put([job()])
        assert (await claim_one(queue)).job == job()

    async def test_it_spoils_only_what_needs_that_place(self, made, server):
        server.ask("SET", f"{START}upload:u3", "theirs")
        queue = made()
        await queue.start()
        results = await asyncio.gather(*(queue.put([each]) for each in jobs(6)), return_exceptions=True)
        assert [type(result) for result in results] == [type(None)] * 3 + [BackendError] + [type(None)] * 2
        assert len(await claim_some(queue, {"scan": 10})) == 5


class TestLoss:
    async def test_one_that_is_emptied_while_in_use_is_noticed_once_by_each(self, made, server, caplog):
        losses: list[str] = []
        ours, other = made(on_loss=lambda: losses.append("ours")), made(on_loss=lambda: losses.append("other's"))
        await ours.put([job("lost")])
        claim = await claim_one(ours)
        assert await has_none(other)
        server.ask("FLUSHALL")
        assert not await ours.extend(claim, 30)
        assert losses == ["ours"]
        assert "it was emptied" in caplog.text
        await other.put([job("new")])
        assert losses == ["ours", "other's"]
        assert await ours.finish([claim]) == set()
        assert (await claim_one(ours)).job.upload_id == "new"
        assert losses == ["ours", "other's"]

    async def test_who_does_nothing_notices_as_well(self, made, server, monkeypatch):
        monkeypatch.setattr(news, "_READ_SECONDS", 0.2)
        losses: list[int] = []
        queue = made(on_loss=lambda: losses.append(1))
        await queue.start()
        await made().put([job()])
        server.ask("FLUSHALL")
        await until(lambda: bool(losses), 3)
        assert losses == [1]

    async def test_one_that_is_emptied_again_and_again_while_many_use_it_goes_on(self, made, server):
        losses: list[int] = []
        queue = made(on_loss=lambda: losses.append(1))
        await queue.start()
        numbers = iter(range(1500))

        async def use() -> None:
            for number in numbers:
                await queue.put([job(f"u{number}")])
                for claim in await queue.claim({"scan": 3}, 0):
                    await queue.extend(claim, 30, 0.5)
                    await queue.finish([claim])

        async def empty() -> None:
            for _ in range(8):
                await asyncio.to_thread(server.ask, "FLUSHALL")
                await anyio.sleep(0.02)

        await asyncio.gather(empty(), *(use() for _ in range(8)))
        assert 1 <= len(losses) <= 8
        await queue.put([job("last")])
        assert await queue.find(job("last").key)

    async def test_what_was_acknowledged_is_there_after_a_kill_when_each_write_goes_to_the_disk(self, tmp_path):
        losses: list[int] = []
        with redis_server(tmp_path, "appendonly yes", "appendfsync always") as server:
            queue = RedisQueue(parse(server.url), on_loss=lambda: losses.append(1))
            await queue.start()
            acknowledged: list[str] = []

            async def put_until_it_fails(name: str) -> None:
                for number in range(1_000_000):
                    try:
                        await queue.put([job(f"{name}-{number}")])
                    except BackendError:
                        return
                    acknowledged.append(job(f"{name}-{number}").key)

            putting = [asyncio.create_task(put_until_it_fails(f"u{number}")) for number in range(16)]
            await until(lambda: len(acknowledged) > 1000, 20)
            server.kill()
            await asyncio.gather(*putting)
            server.start()
            await until(lambda: server.ask("PING") == "PONG")
            found = {status.job.key for status in await queue.list([JobState.WAITING], 1_000_000)}
            assert set(acknowledged) <= found
            assert len(found) <= len(acknowledged) + 16
            assert losses == [1]
            await queue.aclose()

    async def test_what_a_crash_took_of_the_log_is_put_again_by_who_hears_of_it(self, tmp_path):
        """As after a power cut with `appendfsync everysec`: the last second is not there."""
        losses: list[int] = []
        with redis_server(tmp_path, "appendonly yes", "appendfsync everysec") as server:
            queue = RedisQueue(parse(server.url), on_loss=lambda: losses.append(1))
            await queue.put(jobs(100, "early"))
            (log,) = (tmp_path / "appendonlydir").glob("*.incr.aof")
            size = log.stat().st_size
            await queue.put(jobs(100, "late"))
            claims = await claim_some(queue, {"scan": 30})
            server.kill()
            with log.open("r+b") as file:
                file.truncate(size + (log.stat().st_size - size) // 3)
            server.start()
            await until(lambda: server.ask("PING") == "PONG")
            found = {status.job.key for status in await queue.list([JobState.WAITING], 1000)}
            assert losses == [1]
            assert {each.key for each in jobs(100, "early")} <= found
            assert len(found) < 200
            await queue.finish(claims)  # which are claims of nobody now
            assert await queue.put_again(jobs(100, "early") + jobs(100, "late")) == set()
            assert len(await claim_some(queue, {"scan": 1000})) == 200
            await queue.aclose()
