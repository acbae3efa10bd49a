"""Starts the servers under test, or takes the one of --url, and skips the cases of what it does not announce.

Every case runs on our own server and on each of `asgi_servers`, but for what the latter are known to do differently.
"""

from __future__ import annotations

import os
import re
import selectors
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

# The folder has no package, so that it can be run by itself; its modules are found here.
sys.path.insert(0, str(Path(__file__).parent))

from asgi_servers import COMMANDS, difference, run_asgi_server
from s3servers import S3Server
from target import Target

MAX_SIZE_BYTES = 1 << 30
START_SECONDS = 20.0
OURS = "tusd-py"
OURS_ON_S3 = "tusd-py-s3"
SERVERS = [OURS, OURS_ON_S3, *COMMANDS]
DESELECTED = pytest.StashKey[Counter[tuple[str, str]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    # A plain `pytest` reads this file too late for options, and then runs all servers. --url and --max-size are in
    # tests/conftest.py.
    parser.addoption(
        "--server", action="append", choices=SERVERS, help="run tests/wire on this server only; may be repeated"
    )
    parser.addoption(
        "--differences", action="store_true", help="run only the cases that are known to fail on other servers"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(*names): skip unless the server announces these tus extensions")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "target" in metafunc.fixturenames and not metafunc.config.getoption("--url", default=None):
        servers = metafunc.config.getoption("--server", default=None) or SERVERS
        metafunc.parametrize("target", servers, indirect=True, scope="session")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    reasons = {item: _difference(item) for item in items if item.path.parent == Path(__file__).parent}
    wants_differences = bool(config.getoption("--differences", default=False))
    deselected = [item for item, why in reasons.items() if (why is None) == wants_differences]
    if deselected:
        config.hook.pytest_deselected(items=deselected)
        items[:] = [item for item in items if item not in set(deselected)]
    config.stash[DESELECTED] = Counter((_server(item), why) for item in deselected if (why := reasons[item]))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for (server, why), count in sorted(config.stash.get(DESELECTED, Counter()).items()):
        terminalreporter.write_line(f"DESELECTED [{count}] {server}: {why}")


def _server(item: pytest.Item) -> str:
    """One of SERVERS, or nothing with --url."""
    callspec = getattr(item, "callspec", None)
    return str(callspec.params.get("target", "")) if callspec else ""


def _difference(item: pytest.Item) -> str | None:
    assert isinstance(item, pytest.Function)
    if not (server := _server(item)):
        return None
    parameters = item.callspec.id.removeprefix(server).removeprefix("-")
    return difference(server, item.originalname + (f"[{parameters}]" if parameters else ""))


@pytest.fixture(scope="session")
def target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    if url := request.config.getoption("--url", default=None):
        yield _foreign_target(url, request.config.getoption("--max-size", default=None))
    elif request.param == OURS:
        with own_server(request.config.rootpath, "--upload-dir", str(tmp_path_factory.mktemp("uploads"))) as url:
            yield Target(url, MAX_SIZE_BYTES)
    elif request.param == OURS_ON_S3:
        storage: S3Server = request.getfixturevalue("versitygw")
        place = ("--s3-bucket", storage.new_bucket(), "--s3-endpoint", storage.endpoint, "--s3-object-prefix", "up/")
        with own_server(request.config.rootpath, *place) as url:
            yield Target(url, MAX_SIZE_BYTES)
    else:
        with run_asgi_server(request.param, tmp_path_factory.mktemp(request.param)) as server:
            yield Target(f"{server.origin}/files/", MAX_SIZE_BYTES)


def _foreign_target(url: str, max_size: int | None) -> Target:
    """Ends the run with one sentence if there is no tus server: a thousand failures would say it worse."""
    try:
        target = Target(url, max_size or 0)
        answer = target.announced
    except (ValueError, OSError, AssertionError) as error:
        pytest.exit(f"--url {url}: no tus server answers there ({error})", returncode=2)
    if not answer.header("Tus-Version"):
        pytest.exit(f"--url {url}: OPTIONS has no Tus-Version, so this is not a tus creation URL", returncode=2)
    if max_size is None:
        target.max_size = int(answer.header("Tus-Max-Size") or 0)
    return target


@pytest.fixture(autouse=True)
def only_what_is_announced(request: pytest.FixtureRequest, target: Target) -> None:
    for marker in request.node.iter_markers("needs"):
        for name in marker.args:
            if name == "max-size":
                if not target.max_size:
                    pytest.skip("the server announces no Tus-Max-Size")
            elif name == "download":
                if not target.serves_downloads:
                    pytest.skip("the server does not serve uploads by GET")
            elif name not in target.extensions:
                pytest.skip(f"the server does not announce {name}")


@contextmanager
def own_server(root: Path, *flags: str) -> Iterator[str]:
    """Our server in a process of its own; yields its creation URL. The only place that knows how it is started."""
    command = [sys.executable, "-m", "tusd_py", "--port", "0", "--max-size", "1GiB", *flags]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TUSD_PY_")}
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.PIPE, stderr=errors) as process,
    ):
        assert process.stdout is not None
        try:
            url = announced_url(process.stdout.fileno())
            if url is None:
                errors.seek(0)
                pytest.fail(f"the server did not print its URL; it wrote: {errors.read()[-4000:]}", pytrace=False)
            # What else it prints must not fill the pipe and stop it.
            rest = threading.Thread(target=process.stdout.read, daemon=True)
            rest.start()
            yield url
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
        rest.join()
        errors.seek(0)
        log = errors.read()
    # No request may get as far as an exception that nobody expected.
    assert "Traceback" not in log, log[log.index("Traceback") - 500 :][:5000]
    assert process.returncode == 0, log[-4000:]


def announced_url(descriptor: int) -> str | None:
    """Read until a whole line has a URL; None if the output ends or START_SECONDS pass before."""
    deadline = time.monotonic() + START_SECONDS
    printed = b""
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while selector.select(max(0, deadline - time.monotonic())):
            if not (data := os.read(descriptor, 4096)):
                return None
            printed += data
            if found := re.search(rb"https?://\S+(?=\s)", printed):
                return found[0].decode()
    return None
