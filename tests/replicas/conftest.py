"""Two servers on one bucket: shared ones for tests that leave them whole, own ones for those that do not."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from s3servers import S3Server

# The folders have no packages; their modules are found here.
sys.path.extend(str(Path(__file__).parent.parent / name) for name in ("replicas", "faults", "e2e"))

from replicaserver import LEASE_SECONDS, Pair, pair_on


@pytest.fixture(scope="session", params=["versitygw", "minio"])
def each_pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Shared, on either storage."""
    storage: S3Server = request.getfixturevalue(request.param)
    with pair_on(storage, tmp_path_factory.mktemp("pair")) as pair:
        yield pair


@pytest.fixture(scope="session")
def shared_pair(versitygw: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Whoever uses it leaves it whole."""
    with pair_on(versitygw, tmp_path_factory.mktemp("pair")) as pair:
        yield pair


@pytest.fixture(scope="session")
def hurt_pair(versitygw: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    flags = ("--redis-lease", f"{LEASE_SECONDS:g}s")
    with pair_on(versitygw, tmp_path_factory.mktemp("pair"), *flags) as pair:
        yield pair


@pytest.fixture
def pair(hurt_pair: Pair) -> Pair:
    """To be hurt; with a short lease, and whole in the beginning."""
    hurt_pair.make_whole()
    return hurt_pair
