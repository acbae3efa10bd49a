"""RedisLocker by way of TLS, a Unix socket, Sentinels with a failover, and a Cluster."""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import anyio
import pytest

from tests.lockers.conftest import LEASE, PREFIX
from tests.lockers.redisserver import RedisServer, free_port, redis_server, sentinel_servers
from tests.lockers.test_redis import ID, Ear, busy, take, timed, until
from tests.server.certificates import make_certificate
from tusd_py.core.body import Wish
from tusd_py.core.upload import UploadId
from tusd_py.errors import BackendError, RequestError
from tusd_py.lockers.redis import RedisLocker

pytestmark = pytest.mark.anyio


async def works(url: str) -> None:
    async with RedisLocker(url, PREFIX, 5, LEASE) as ours, RedisLocker(url, PREFIX, 5, LEASE) as theirs:
        for number in range(20):
            await take_one(ours, number)
        ear = Ear()
        async with ours.hold(ID, ear):
            with pytest.raises(RequestError):
                await take(theirs, None)
            assert await theirs.settle(ID) is True
            waiting = asyncio.create_task(take(theirs))
            await until(lambda: Wish.WHEN_STALLED in ear.asked)
            await anyio.sleep(1.2 * LEASE)
            assert not waiting.done()
        assert await timed(waiting) < 0.3


async def take_one(locker: RedisLocker, number: int) -> None:
    async with locker.hold(UploadId(f"upload-{number}"), busy):
        pass


class TestTls:
    async def test_certificate_that_is_known(self, tmp_path, caplog):
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
            with pytest.raises(BackendError):
                await RedisLocker(f"rediss://localhost:{port}/0").start()
            assert "TLS failed" in caplog.text


class TestUnixSocket:
    async def test_path(self, tmp_path):
        path = tmp_path / "redis.sock"
        with redis_server(tmp_path, f"unixsocket {path}"):
            await works(f"unix://{path}?db=3")


class TestCluster:
    async def test_one_node(self, tmp_path):
        with cluster_node(tmp_path) as server:
            await make_cluster(server)
            await works(f"redis+cluster://127.0.0.1:{server.port}")

    async def test_two_nodes(self, tmp_path):
        """Locks are in both, and each process listens at one of them."""
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
            url = f"redis+cluster://127.0.0.1:{one.port},127.0.0.1:{two.port}"
            for _ in range(3):
                await works(url)
            assert one.names()
            assert two.names()
            async with RedisLocker(url, PREFIX, 5, 3) as ours:
                here = [n for n in range(20) if int(one.ask("CLUSTER", "KEYSLOT", f"upload-{n}")) <= 8191]
                turn = ours.hold(UploadId(f"upload-{here[0]}"), busy)
                async with turn:
                    two.pause()
                    others = [n for n in range(20) if n != here[0]]
                    outcomes = await asyncio.gather(*(take_one(ours, n) for n in others), return_exceptions=True)
                    assert {type(each) for each in outcomes} == {type(None), BackendError}
                    assert [n for n, each in zip(others, outcomes, strict=True) if each is None] == here[1:]
                    await anyio.sleep(3.5)
                    assert not turn.is_lost
                    two.go_on()
                for number in range(20):
                    await take_one(ours, number)

    async def test_gone_and_back(self, tmp_path):
        with cluster_node(tmp_path) as server:
            await make_cluster(server)
            async with RedisLocker(f"redis+cluster://127.0.0.1:{server.port}", PREFIX) as ours:
                await take(ours)
                server.kill()
                with anyio.fail_after(2.5), pytest.raises(BackendError):
                    await take(ours)
                server.start()
                await until(lambda: "cluster_state:ok" in server.ask("CLUSTER", "INFO"), 10)
                await take(ours)


def cluster_node(path: Path, bus_port: int = 0) -> AbstractContextManager[RedisServer]:
    # The bus is else at the port plus 10,000, which may be none.
    return redis_server(path, "cluster-enabled yes", f"cluster-port {bus_port or free_port()}")


async def make_cluster(server: RedisServer) -> None:
    server.ask("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
    await until(lambda: "cluster_state:ok" in server.ask("CLUSTER", "INFO"), 10)


class TestSentinel:
    async def test_failover(self, tmp_path):
        with sentinel_servers(tmp_path, "locks", 300) as (primary, replica, url):
            await works(url)
            async with RedisLocker(url, PREFIX, 5, 8) as ours, RedisLocker(url, PREFIX, 5, 8) as theirs:
                turn = ours.hold(ID, Ear())
                async with turn:
                    primary.kill()
                    await until(replica.is_primary, 15)
                    await until(ours._fleet.requests.is_listening.is_set, 10)
                    await until(theirs._fleet.requests.is_listening.is_set, 10)
                    with pytest.raises(RequestError):
                        await take(theirs, None)
                    assert not turn.is_lost
                    await take_one(theirs, 1)
                    waiting = asyncio.create_task(take(theirs))
                    await until(lambda: ours._fleet.requests.askers)
                assert await timed(waiting) < 0.3
