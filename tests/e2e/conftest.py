"""A server, a bad network, Node clients and a browser for each test that asks for them."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# The folder has no package, so that big_file.py can be run by itself; its modules are found here.
sys.path.insert(0, str(Path(__file__).parent))

from chromium_client import Chromium, MissingBrowser, bundle, running_chromium
from cutting_proxy import CuttingProxy
from node_client import FOLDERS, MissingNode, NodeClient, Release, installed_node_client
from upload_server import UploadServer

JAVA_FOLDER = Path(__file__).parent / "java"
FETCH_SECONDS = 180


@pytest.fixture
def server(tmp_path: Path) -> Iterator[UploadServer]:
    with UploadServer(tmp_path / "uploads") as server:
        yield server


@pytest.fixture
def proxy(server: UploadServer) -> Iterator[CuttingProxy]:
    with CuttingProxy(server.port) as proxy:
        yield proxy


@pytest.fixture(scope="session", params=FOLDERS)
def node(request: pytest.FixtureRequest) -> NodeClient:
    """tus-js-client and Uppy of their newest major version, and then of the previous one."""
    try:
        return installed_node_client(request.param)
    except MissingNode as error:
        pytest.skip(f"missing: {error}")


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `Chromium.open` opens: each client of both major versions."""
    folder = tmp_path_factory.mktemp("pages")
    try:
        bundle(folder)
    except MissingNode as error:
        pytest.skip(f"missing: {error}")
    return folder


@pytest.fixture(scope="module")
def chromium(pages: Path) -> Iterator[Chromium]:
    """Of a module, not of the session: while Playwright runs, other tests cannot start an event loop."""
    try:
        with running_chromium(pages) as chromium:
            yield chromium
    except MissingBrowser as error:
        pytest.skip(f"missing: {error}")


@pytest.fixture(scope="session")
def java() -> list[str]:
    """The command that runs a Java program with tus-java-client, which Maven fetches once."""
    for tool in ("java", "javac", "mvn"):
        if shutil.which(tool) is None:
            pytest.skip(f"missing: {tool}")
    fetch = ["mvn", "-q", "-B", "dependency:copy-dependencies"]
    done = subprocess.run(fetch, cwd=JAVA_FOLDER, capture_output=True, text=True, timeout=FETCH_SECONDS, check=False)
    if done.returncode:
        pytest.skip(f"missing: tus-java-client: {done.stdout[-1000:]}")
    return ["java", "-Dfile.encoding=UTF-8", "-cp", f"{JAVA_FOLDER}/build/*"]


@pytest.fixture(params=FOLDERS)
def release(request: pytest.FixtureRequest) -> Release:
    return request.param


@pytest.fixture
def content() -> bytes:
    """Bytes in which a shifted, lost or repeated stretch shows; of no round length."""
    return random.Random(7).randbytes((8 << 20) + 12_345)


@pytest.fixture
def source(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "source.bin"
    path.write_bytes(content)
    return path
