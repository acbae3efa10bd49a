"""A proxy in front of a server for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from rawupstream import RawUpstream
from s3proxy import FaultProxy
from s3servers import S3Server


@pytest.fixture
def proxy(versitygw: S3Server) -> Iterator[FaultProxy]:
    with FaultProxy(versitygw.host, versitygw.port) as running:
        yield running


@pytest.fixture
def raw() -> Iterator[RawUpstream]:
    upstream = RawUpstream()
    try:
        yield upstream
    finally:
        upstream.close()
