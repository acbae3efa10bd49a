"""A real server, proxies that spoil what passes, and the command in this process."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

# Those folders have no packages; their modules are found here.
sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "e2e"))
sys.path.insert(0, str(Path(__file__).parents[1] / "server"))

from cutting_proxy import CuttingProxy
from spoilingproxy import SpoilingProxy, Spoils
from upload_server import UploadServer

from tusd_py.cli import main
from tusd_py.client import bodies, site

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _nothing_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in list(os.environ):
        if variable.startswith("TUSD_PY_") or variable.lower().endswith("_proxy"):
            monkeypatch.delenv(variable)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture(scope="module")
def lasting_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[UploadServer]:
    """For tests that leave nothing behind."""
    with UploadServer(
        tmp_path_factory.mktemp("server") / "uploads", "--behind-proxy", "--durability", "process"
    ) as server:
        yield server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[UploadServer]:
    with UploadServer(tmp_path / "uploads") as server:
        yield server


@pytest.fixture
def proxy(server: UploadServer) -> Iterator[CuttingProxy]:
    with CuttingProxy(server.port) as proxy:
        yield proxy


@pytest.fixture
def spoiling(lasting_server: UploadServer) -> Iterator[Callable[[Spoils], SpoilingProxy]]:
    """Starts a proxy before the server."""
    with ExitStack() as proxies:
        yield lambda spoils: proxies.enter_context(SpoilingProxy(lasting_server.port, spoils))


@pytest.fixture
def content() -> bytes:
    """Bytes in which a shifted, lost or repeated stretch shows; of no round length."""
    return random.Random(7).randbytes((8 << 20) + 12_345)


@pytest.fixture
def source(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "source data.csv"
    path.write_bytes(content)
    return path


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for bytes that will not come waits shorter."""
    monkeypatch.setattr(bodies, "COUNT_SECONDS", 1.0)
    monkeypatch.setattr(bodies, "EARLY_SECONDS", 0.5)
    monkeypatch.setattr(bodies, "SETTLE_SECONDS", 0.05)
    monkeypatch.setattr(bodies, "TAKEOVER_SECONDS", 1.5)
    monkeypatch.setattr(bodies, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(site, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(site, "BUSY_SECONDS", 0.5)


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs it; answers the exit code, and what it printed."""

    def run(*argv: str) -> tuple[int, str, str]:
        code = main(argv)
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.bin"
    path.write_bytes(b"q" * 1000)
    return path
