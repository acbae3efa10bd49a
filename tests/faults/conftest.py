"""Servers to be hurt: shared ones for faults that they must survive unharmed, own ones for those that they may not."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# The folder has no package, so that it can be run by itself; its modules are found here.
sys.path.insert(0, str(Path(__file__).parent))

from faultserver import Duo, Server

Launch = Callable[..., Server]

ONE_AND_TWO = pytest.mark.parametrize(
    ("count", "durability"), [(1, "power"), (2, "process")], ids=["one-power", "two-process"]
)
"""Each number of servers and each durability once: for tests that cost seconds."""

SHARED_ONE_AND_TWO = pytest.mark.parametrize(
    "duo", [(1, "power"), (2, "process")], ids=["one-power", "two-process"], indirect=True
)
"""The same for tests that share their servers."""


@pytest.fixture(
    scope="session",
    params=[(count, durability) for count in (1, 2) for durability in ("power", "process")],
    ids=lambda param: f"{'one' if param[0] == 1 else 'two'}-{param[1]}",
)
def duo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Duo]:
    """One server, or two on one directory, for all tests: who uses them leaves them whole."""
    count, durability = request.param
    folder = tmp_path_factory.mktemp("duo")
    servers = tuple(Server(folder / "uploads", folder / f"{n}.log", ("--durability", durability)) for n in range(count))
    try:
        for server in servers:
            server.start()
        yield Duo(folder / "uploads", servers)
        for server in servers:
            assert server.process.poll() is None, f"died meanwhile: {server.log[-4000:]}"
            assert "Traceback" not in server.log, server.log[-8000:]
    finally:
        for server in servers:
            server.end()


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """launch(*flags, directory=..., wrapper=...) starts a server that ends with the test."""
    servers: list[Server] = []
    numbers = itertools.count()

    def launch_one(*flags: str, directory: Path | None = None, wrapper: tuple[str, ...] = ()) -> Server:
        log_path = tmp_path / f"server-{next(numbers)}.log"
        server = Server(directory or tmp_path / "uploads", log_path, flags, wrapper)
        servers.append(server)
        server.start()
        return server

    try:
        yield launch_one
        for server in servers:
            assert "Traceback" not in server.log, server.log[-8000:]
    finally:
        for server in servers:
            server.end()


@pytest.fixture(params=["power", "process"])
def durability(request: pytest.FixtureRequest) -> str:
    return str(request.param)
