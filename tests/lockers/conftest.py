"""A Redis of each test's own, and lockers that share it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lockers.redisserver import RedisServer, redis_server
from tusd_py.lockers.redis import RedisLocker

PREFIX = "test:"
LEASE = 1.0  # seconds; short, so that tests can let it pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path / "redis") as made:
        yield made


@pytest.fixture
def locker(server: RedisServer) -> Callable[..., RedisLocker]:
    """Makes one."""

    def make(timeout_seconds: float = 5.0, lease_seconds: float = LEASE) -> RedisLocker:
        return RedisLocker(server.url, PREFIX, timeout_seconds, lease_seconds)

    return make
