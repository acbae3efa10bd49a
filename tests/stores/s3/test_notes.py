"""With a Redis that all servers share, asking for an upload costs no call to S3."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from s3scene import MIB, Scene, add, create, some

from tests.lockers.redisserver import redis_server
from tusd_py.core.body import Wish
from tusd_py.core.upload import Metadata, UploadId
from tusd_py.errors import RequestError
from tusd_py.lockers.redis import RedisLocker, notes
from tusd_py.stores.s3 import S3Store

pytestmark = pytest.mark.anyio


class Process:
    """A store and its locker; what it changes, it changes under the lock."""

    def __init__(self, store: S3Store, locker: RedisLocker) -> None:
        self.locker = locker
        self.store = S3Store(replace(store.bucket, shared=locker))

    async def add(self, upload_id: UploadId, data: bytes, offset: int) -> None:
        async with self.locker.hold(upload_id, _busy):
            await add(self.store, upload_id, data, offset)


async def _busy(_wish: Wish) -> bool:
    return False


@pytest.fixture
async def processes(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Process, Process]]:
    monkeypatch.setattr(notes.Notes, "_is_believable", lambda _self: True)  # as some seconds after the start
    with redis_server(tmp_path / "redis") as server:
        async with RedisLocker(server.url) as one, RedisLocker(server.url) as two:
            yield Process(scene.store(), one), Process(scene.store(), two)


async def test_asking_costs_nothing(scene: Scene, processes: tuple[Process, Process]) -> None:
    one, two = processes
    metadata = Metadata.of({"filename": "Größe \x80"})
    upload_id = await create(one.store, 12 * MIB, metadata=metadata)
    await one.add(upload_id, some(6 * MIB), 0)
    cold = await two.store.read(upload_id)
    scene.calls()
    for each in processes:
        found = await each.store.read(upload_id)
        assert (found.offset, found.metadata) == (6 * MIB, metadata)
        assert found == (await S3Store(replace(each.store.bucket, shared=None)).read(upload_id))
    assert cold.offset == 6 * MIB
    await two.add(upload_id, some(1000), 6 * MIB)
    scene.calls()
    assert [(await each.store.read(upload_id)).offset for each in processes] == [6 * MIB + 1000] * 2
    assert scene.calls() == {}
    await one.add(upload_id, some(6 * MIB - 1000), 6 * MIB + 1000)
    scene.calls()
    assert (await two.store.read(upload_id)).is_available
    assert scene.calls() == {}


async def test_what_is_being_changed_is_not_known(scene: Scene, processes: tuple[Process, Process]) -> None:
    one, two = processes
    upload_id = await create(one.store, 3000)
    await one.add(upload_id, some(1000), 0)
    async with one.locker.hold(upload_id, _busy):
        scene.calls()
        await two.store.read(upload_id)
        assert scene.calls() == {"GetObject": 1}
        await one.store.terminate(upload_id)
    with pytest.raises(RequestError):
        await two.store.read(upload_id)


async def test_a_note_that_is_none_is_not_believed(processes: tuple[Process, Process]) -> None:
    one, two = processes
    upload_id = await create(one.store, 3000)
    async with one.locker.hold(upload_id, _busy):
        one.locker.leave_note(upload_id, '{"ID": 1}')
    assert (await two.store.read(upload_id)).length == 3000
