"""Every store that there is, behind one fixture. A new store joins by adding a factory here and passes everything."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tusd_py.core.ports import Store
from tusd_py.stores.disk import DiskStore
from tusd_py.stores.memory import MemoryStore


def _disk(path: Path, **settings: bool) -> DiskStore:
    store = DiskStore(path / "uploads", **settings)
    store.prepare()
    return store


STORES: dict[str, Callable[[Path], Store]] = {
    "memory": lambda _path: MemoryStore(),
    "disk-power": lambda path: _disk(path, is_durable=True),
    "disk-process": lambda path: _disk(path, is_durable=False),
    "disk-process-by-record": lambda path: _disk(path, is_durable=False, finishes_by_size=False),
}


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    made = STORES[request.param](tmp_path)
    yield made
    made.close()


@pytest.fixture
def reopened(request: pytest.FixtureRequest, tmp_path: Path, store: Store) -> Iterator[Store]:
    """The same backend seen by another process; the memory store has no other."""
    if isinstance(store, MemoryStore):
        yield store
        return
    made = STORES[request.node.callspec.params["store"]](tmp_path)
    yield made
    made.close()
