"""A bucket on a real server, behind a proxy that counts calls and lets them go wrong."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from s3proxy import FaultProxy
from s3servers import S3Server

# The folder has no package; its modules are found here.
sys.path.insert(0, str(Path(__file__).parent))

from s3scene import FENCED, Scene


@pytest.fixture(scope="session")
def s3_proxy(versitygw: S3Server) -> Iterator[FaultProxy]:
    with FaultProxy(versitygw.host, versitygw.port) as proxy:
        yield proxy


@pytest.fixture
async def scene(request: pytest.FixtureRequest, versitygw: S3Server, s3_proxy: FaultProxy) -> AsyncIterator[Scene]:
    """With the parameter `FENCED`, as over a storage without conditional writes."""
    scene = Scene(versitygw, s3_proxy, is_conditional=getattr(request, "param", None) != FENCED)
    yield scene
    await scene.aclose()
    s3_proxy.heal()
    s3_proxy.clear()
