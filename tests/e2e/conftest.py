"""A server, a bad network and a Node client for each test that asks for them."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# The folder has no package, so that big_file.py can be run by itself; its modules are found here.
sys.path.insert(0, str(Path(__file__).parent))

from cutting_proxy import CuttingProxy
from node_client import MissingNode, NodeClient, installed_node_client
from upload_server import UploadServer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[UploadServer]:
    with UploadServer(tmp_path / "uploads") as server:
        yield server


@pytest.fixture
def proxy(server: UploadServer) -> Iterator[CuttingProxy]:
    with CuttingProxy(server.port) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def node() -> NodeClient:
    try:
        return installed_node_client()
    except MissingNode as error:
        pytest.skip(f"missing: {error}")


@pytest.fixture
def content() -> bytes:
    """Bytes in which a shifted, lost or repeated stretch shows; of no round length."""
    return random.Random(7).randbytes((8 << 20) + 12_345)


@pytest.fixture
def source(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "source.bin"
    path.write_bytes(content)
    return path
