"""What all tests share: which services and options there are, and the rule that nothing blocks the event loop."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Generator, Iterator

import pytest
from blockbuster import BlockBuster, blockbuster_ctx
from s3fixtures import running
from s3servers import SERVERS, MinIO, S3Server, Versitygw


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="also run the tests that take minutes")
    parser.addoption("--url", help="run tests/wire against this tus server")
    parser.addoption(
        "--max-size", type=int, help="the limit of the server at --url, if it does not announce it; 0: none"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--long"):
        for item in items:
            if "long" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="takes minutes; run with --long"))


@pytest.fixture(autouse=True, scope="module")
def _the_collector_sees_little() -> None:
    """Thousands of tests, their reports and boto3 live as long as the run. Out of the collector's sight, they delay no
    test by a third of a second now and then, and what a test leaves in cycles is collected soon."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, object, object]:
    """A missing service skips with a reason at home, and fails where services are required (REQUIRE_SERVICES=1)."""
    report = yield
    reason = str(report.longrepr[2]) if report.skipped and isinstance(report.longrepr, tuple) else ""
    if os.environ.get("REQUIRE_SERVICES") and "missing: " in reason:
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} is not to be skipped here: {reason}"
    return report


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _nothing_blocks_the_loop(request: pytest.FixtureRequest) -> Iterator[None]:
    """A blocking call in a coroutine fails the test, but for those the disk store makes on purpose (`Pace`)."""
    if "anyio_backend" not in request.fixturenames or sys.gettrace() is not None:
        yield
        return
    with blockbuster_ctx("tusd_py") as blockbuster:
        _allow_paced_calls(blockbuster)
        yield


@pytest.fixture(autouse=True)
def _connections_end_with_their_test() -> Iterator[None]:
    """Those of boto3 to servers that live on: a thousand of them, and `select` gives up."""
    yield
    for server in S3Server.running:
        server.close_clients()


def _allow_paced_calls(blockbuster: BlockBuster) -> None:
    for function in blockbuster.functions.values():
        function.can_block_in("stores/disk/pace.py", {"run_inline"})
        function.can_block_in("stores/disk/stored.py", {"close"})
        function.can_block_in("stores/disk/store.py", {"prepare", "close"})  # at start and stop
        function.can_block_in("stores/s3/connecting.py", {"connect"})  # at start
        function.can_block_in("tusd_py/bundled.py", {"bundled"})  # at start
        function.can_block_in("web/page.py", {"read"})  # at start
        function.can_block_in("lockers/file/folder.py", {"open", "publish", "withdraw", "others", "call", "sweep"})


@pytest.fixture(scope="session")
def minio() -> Iterator[S3Server]:
    yield from running(MinIO)


@pytest.fixture(scope="session")
def versitygw() -> Iterator[S3Server]:
    yield from running(Versitygw)


@pytest.fixture(scope="session", params=SERVERS, ids=lambda server: server.name)
def s3(request: pytest.FixtureRequest) -> Iterator[S3Server]:
    yield from running(request.param)
