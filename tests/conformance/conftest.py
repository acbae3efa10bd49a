"""Every store that there is, behind one fixture. A new store joins by adding a factory here and passes everything."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from s3servers import S3Server
from s3unconditional import Fences, unconditional

from tusd_py.core.ports import Store
from tusd_py.core.upload import UploadId
from tusd_py.stores.disk import DiskStore
from tusd_py.stores.memory import MemoryStore
from tusd_py.stores.s3 import S3Store
from tusd_py.stores.s3.connecting import connect
from tusd_py.stores.s3.settings import S3Settings


def _disk(path: Path, **settings: bool) -> DiskStore:
    store = DiskStore(path / "uploads", **settings)
    store.prepare()
    return store


FENCED = "s3-fenced"
"""As over a storage without conditional writes."""

STORES: dict[str, Callable[[Path], Store]] = {
    "memory": lambda _path: MemoryStore(),
    "disk-power": lambda path: _disk(path, is_durable=True),
    "disk-process": lambda path: _disk(path, is_durable=False),
    "disk-process-by-record": lambda path: _disk(path, is_durable=False, finishes_by_size=False),
}

S3 = {"s3-minio": "minio", "s3-versitygw": "versitygw", FENCED: "versitygw"}
"""Stores over a real server, by the fixture that starts it."""


@pytest.fixture(params=[*STORES, *S3])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Store]:
    """What makes the store, as often as it is called: the same backend seen by another process."""
    if request.param in STORES:
        return lambda: STORES[request.param](tmp_path)
    server: S3Server = request.getfixturevalue(S3[request.param])
    settings = S3Settings(bucket=server.new_bucket(), endpoint=server.endpoint, prefix="pre/fix/")
    turns: dict[UploadId, tuple[int, Fences]] = {}

    def make() -> Store:
        store = connect(settings)
        return unconditional(store, Fences(turns)) if request.param == FENCED else store

    return make


@pytest.fixture
async def store(made: Callable[[], Store]) -> AsyncIterator[Store]:
    store = made()
    if isinstance(store, S3Store):
        await store.start()
    yield store
    await store.aclose()


@pytest.fixture
async def reopened(made: Callable[[], Store], store: Store) -> AsyncIterator[Store]:
    """The same backend seen by another process; the memory store has no other."""
    if isinstance(store, MemoryStore):
        yield store
        return
    other = made()
    if isinstance(other, S3Store):
        await other.start()
    yield other
    await other.aclose()
