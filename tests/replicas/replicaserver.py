"""Two servers on one bucket, each with ways of its own to S3 and to Redis, and a balancer in front of both.

What goes wrong on those ways is told to `Replica.s3` and `Replica.redis`; a server itself is killed and frozen as in
`faultserver`.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from faultclient import Client
from faultserver import Server, wait_for
from replicalink import Link
from s3proxy import FaultProxy
from s3servers import S3Server

from tests.lockers.redisserver import RedisServer, redis_server

MIB = 1 << 20
PART_BYTES = 5 * MIB
LEASE_SECONDS = 2.0
"""Of locks in tests that let it pass: short."""

LOCK_SECONDS = 10.0
"""What a server lets a request wait for a lock: less than our client waits for an answer."""

CHANNEL = "tusd-py:everybody"
"""That each server listens to in Redis."""


class Replica(Server):
    """One of them."""

    def __init__(self, bucket: str, s3: S3Server, redis: RedisServer, log_path: Path, flags: tuple[str, ...]) -> None:
        self.s3 = FaultProxy(s3.host, s3.port)
        self.redis = Link(redis.port)
        storing = ("--s3-bucket", bucket, "--s3-endpoint", self.s3.endpoint, "--s3-part-size", str(PART_BYTES))
        locking = ("--locker", "redis", "--redis-url", f"redis://127.0.0.1:{self.redis.port}/0")
        waiting = ("--acquire-lock-timeout", f"{LOCK_SECONDS:g}s")
        super().__init__(log_path.with_suffix(""), log_path, (*storing, *locking, *waiting, *flags))

    def heal(self) -> None:
        self.s3.heal()
        self.redis.heal()

    def end(self) -> None:
        with ExitStack() as stack:
            stack.callback(self.redis.close)
            stack.callback(self.s3.close)
            self.heal()
            super().end()


@dataclass(frozen=True)
class Pair:
    a: Replica
    b: Replica
    redis: RedisServer
    storage: S3Server
    bucket: str
    balancer: Link

    @property
    def replicas(self) -> tuple[Replica, Replica]:
        return self.a, self.b

    @property
    def client(self) -> Client:
        """By way of the balancer."""
        return Client(self.balancer.port)

    def make_whole(self) -> None:
        """Whatever a test has left: both servers are there, and each hears what the other one wants of it."""
        if self.redis._process is None:
            self.redis.start()
        for replica in self.replicas:
            replica.heal()
            if replica.process.poll() is not None:
                replica.start()
        wait_for(lambda: self.redis.ask("PUBSUB", "NUMSUB", CHANNEL).split()[-1] == "2", 15)

    def objects_of(self, path: str) -> list[str]:
        """Everything in the bucket that bears the upload's id, unfinished multipart uploads, too."""
        s3, upload_id = self.storage.client(), path.rpartition("/")[2]
        objects = s3.list_objects_v2(Bucket=self.bucket).get("Contents", ())
        begun = s3.list_multipart_uploads(Bucket=self.bucket).get("Uploads", ())
        return sorted(each["Key"] for each in (*objects, *begun) if upload_id in each["Key"])


@contextmanager
def pair_on(storage: S3Server, folder: Path, *flags: str) -> Iterator[Pair]:
    with ExitStack() as stack:
        redis = stack.enter_context(redis_server(folder / "redis"))
        bucket = storage.new_bucket()
        replicas = []
        for name in ("a", "b"):
            replica = Replica(bucket, storage, redis, folder / f"{name}.log", flags)
            stack.callback(replica.end)
            replicas.append(replica)
        with ThreadPoolExecutor(2) as threads:
            list(threads.map(Replica.start, replicas))
        a, b = replicas
        balancer = stack.enter_context(Link(a.port, b.port))
        yield Pair(a, b, redis, storage, bucket, balancer)
        for replica in replicas:
            assert "Traceback" not in replica.log, replica.log[-8000:]
