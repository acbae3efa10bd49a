"""The queue in Redis by way of TLS, a Unix socket, Sentinels with a failover, and a Cluster."""

from __future__ import annotations

import asyncio
import re
from contextlib import ExitStack
from pathlib import Path

import anyio
import pytest

from tests.jobs.owed import claim_one, claim_some, job, until
from tests.lockers.redisserver import RedisServer, free_port, redis_server, sentinel_servers
from tests.lockers.test_redis_forms import cluster_node, make_cluster
from tests.server.certificates import make_certificate
from tusd_py.core.jobs import JobState
from tusd_py.errors import BackendError
from tusd_py.jobs.redis import RedisQueue
from tusd_py.lockers.redis.address import parse

pytestmark = pytest.mark.anyio


async def works(url: str, prefix: str = "works:") -> None:
    """Also who waits is woken, which takes a connection of its own."""
    one, other = RedisQueue(parse(url), prefix), RedisQueue(parse(url), prefix)
    await one.start()
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(_finish_one, other)
            await anyio.sleep(0.1)
            await one.put([job("first")])
    await one.put([job(f"u{number}", payload=bytes(range(256))) for number in range(20)])
    claims = await claim_some(other, {"scan": 100})
    assert await one.finish(claims) == {f"u{number}" for number in range(20)}
    await one.aclose()
    await other.aclose()


def has_replicated(primary: RedisServer) -> bool:
    """Whether the replica says that it has all."""
    info = primary.ask("INFO", "replication")
    (written,) = re.findall(r"master_repl_offset:(\d+)", info)
    return f",offset={written},state=online" in info or f"state=online,offset={written}," in info


async def _finish_one(queue: RedisQueue) -> None:
    await queue.finish([await claim_one(queue)])


async def test_a_certificate_that_is_known(tmp_path: Path) -> None:
    make_certificate(tmp_path / "redis.crt", tmp_path / "redis.key")
    port = free_port()
    options = [
        f"tls-port {port}",
        f"tls-cert-file {tmp_path}/redis.crt",
        f"tls-key-file {tmp_path}/redis.key",
        "tls-auth-clients no",
        "port 0",
    ]
    with redis_server(tmp_path, *options):
        await works(f"rediss://localhost:{port}/0?ssl_ca_certs={tmp_path}/redis.crt")


async def test_a_socket_and_a_database_with_a_number(tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    with redis_server(tmp_path, f"unixsocket {path}") as server:
        await works(f"unix://{path}?db=3")
        assert server.names() == []
        assert "db3:keys=" in server.ask("INFO", "keyspace")


class TestCluster:
    async def test_all_keys_are_at_the_node_of_their_slot(self, tmp_path):
        with ExitStack() as stack:
            bus = free_port()
            one = stack.enter_context(cluster_node(tmp_path / "one"))
            two = stack.enter_context(cluster_node(tmp_path / "two", bus))
            one.ask("CLUSTER", "ADDSLOTSRANGE", "0", "8191")
            two.ask("CLUSTER", "ADDSLOTSRANGE", "8192", "16383")
            two.ask("CLUSTER", "SET-CONFIG-EPOCH", "2")
            one.ask("CLUSTER", "MEET", "127.0.0.1", str(two.port), str(bus))
            for server in (one, two):
                await until(lambda server=server: "cluster_state:ok" in server.ask("CLUSTER", "INFO"), 10)
                await until(lambda server=server: "cluster_known_nodes:2" in server.ask("CLUSTER", "INFO"), 10)
            for number, server in enumerate((one, two)):
                await works(f"redis+cluster://127.0.0.1:{server.port}", f"works{number}:")
            assert sorted(map(bool, (one.names(), two.names()))) == [False, True]

    async def test_gone_and_back(self, tmp_path):
        losses: list[int] = []
        with cluster_node(tmp_path) as server:
            await make_cluster(server)
            url = f"redis+cluster://127.0.0.1:{server.port}"
            queue = RedisQueue(parse(url), on_loss=lambda: losses.append(1))
            await queue.put([job()])
            server.kill()
            with anyio.fail_after(3), pytest.raises(BackendError):
                await queue.put([job("u2")])
            server.start()
            await until(lambda: "cluster_state:ok" in server.ask("CLUSTER", "INFO"), 10)
            await queue.put([job("u3")])
            assert losses == [1]
            assert (await claim_one(queue)).job.upload_id == "u3"
            await queue.aclose()

    async def test_it_is_closed_at_any_moment_of_connecting(self, tmp_path):
        """Also where redis-py does not hear that it is to end."""
        with cluster_node(tmp_path) as server:
            await make_cluster(server)
            for turns in range(60):
                queue = RedisQueue(parse(f"redis+cluster://127.0.0.1:{server.port}"))
                waiting = asyncio.create_task(queue.claim({"scan": 1}, 5))
                for _ in range(turns):
                    await asyncio.sleep(0)
                waiting.cancel()
                with anyio.fail_after(3):
                    await asyncio.wait([waiting])
                    await queue.aclose()


async def test_a_failover_loses_nothing_that_the_replica_had_and_tells_that_it_may_have(tmp_path: Path) -> None:
    losses: list[int] = []
    with sentinel_servers(tmp_path, "jobs", 1000) as (primary, replica, url):
        await works(url)
        queue = RedisQueue(parse(url), on_loss=lambda: losses.append(1))
        await queue.put([job("u1"), job("u2")])
        claim = await claim_one(queue)
        await until(lambda: has_replicated(primary), 5)
        primary.kill()
        await until(replica.is_primary, 15)
        with anyio.fail_after(15):
            while True:
                try:
                    assert await queue.extend(claim, 30)
                    break
                except BackendError:
                    await anyio.sleep(0.1)  # Sentinel is about to tell of the new one
        assert losses == [1]
        await queue.finish([claim])
        assert (await claim_one(queue)).job.upload_id == "u2"
        assert (await queue.counts())[JobState.DONE] == 1
        await queue.aclose()
