"""A storage without conditional writes: the fences of the locker keep two servers apart (failures F22, F23)."""

from __future__ import annotations

import asyncio
import re

import pytest
from s3scene import FENCED, MIB, Scene, add, content, create, some
from s3unconditional import Fences, unconditional

from tusd_py.core.upload import UploadId
from tusd_py.errors import ConfigError, RequestError
from tusd_py.stores.s3 import S3Store, fenced, sweeping
from tusd_py.stores.s3.chain import Superseded
from tusd_py.stores.s3.record import Record
from tusd_py.stores.s3.wire import NOTHING

pytestmark = pytest.mark.anyio

without_conditions = pytest.mark.parametrize("scene", [FENCED], indirect=True)


def states(scene: Scene, upload_id: UploadId) -> list[str]:
    return scene.objects(f"{upload_id}.info")


async def test_the_start_finds_out(scene: Scene) -> None:
    store = unconditional(scene.store(), Fences({}))
    await store.start()
    assert not store.bucket.chain.is_conditional
    assert scene.objects() == []
    with pytest.raises(ConfigError, match="no conditional writes: uploads are safe with --locker redis only"):
        await unconditional(scene.store(), None).start()
    plain = scene.store()
    await plain.start()
    assert plain.bucket.chain.is_conditional


@without_conditions
async def test_one_state_is_kept_and_the_others_go(scene: Scene) -> None:
    one, two, data = scene.store(), scene.store(), some(12 * MIB)
    upload_id = await create(one, len(data))
    for number, offset in enumerate(range(0, len(data), 3 * MIB)):
        await add((one, two)[number // 2], upload_id, data[offset : offset + 3 * MIB], offset)
        assert len(states(scene, upload_id)) == 1
    assert await content(one, upload_id) == data
    assert re.fullmatch(rf"{upload_id}\.info\.[0-9a-f]{{16}}\.[0-9a-f]{{8}}", states(scene, upload_id)[0])


@without_conditions
async def test_what_lands_late_was_never_told_and_never_counts(scene: Scene) -> None:
    one, two, data = scene.store(), scene.store(), some(3000)
    upload_id = await create(one, len(data))
    held = scene.proxy.inject("hold", "PutObject")
    late = asyncio.ensure_future(add(one, upload_id, b"x" * 2000, 0))
    await asyncio.to_thread(held.wait)
    await add(two, upload_id, data[:1000], 0)
    held.release()
    with pytest.raises(RequestError) as error:
        await late
    assert error.value.status == 409
    assert (await scene.store().read(upload_id)).offset == 1000
    await add(two, upload_id, data[1000:], 1000)
    assert await content(one, upload_id) == data


@without_conditions
async def test_who_has_lost_the_lock_is_not_told_that_it_wrote(scene: Scene) -> None:
    """The write came first, and the other holder has seen nothing of it."""
    one, two, data = scene.store(), scene.store(), some(3000)
    upload_id = await create(one, len(data))
    opened = await two.open(upload_id)
    held = scene.proxy.inject("hold", "PutObject", carried_out=True)
    late = asyncio.ensure_future(add(one, upload_id, data[:2000], 0))
    await asyncio.to_thread(held.wait)
    two._fences.fence(upload_id)  # type: ignore[union-attr]  # it has the lock from now on
    held.release()
    with pytest.raises(RequestError):
        await late
    await opened.close()


@without_conditions
async def test_what_is_known_of_an_earlier_turn_is_looked_at_again(scene: Scene) -> None:
    one, two, data = scene.store(), scene.store(), some(3000)
    upload_id = await create(one, len(data))
    await add(one, upload_id, data[:1000], 0)
    await add(two, upload_id, data[1000:2000], 1000)
    with pytest.raises(RequestError) as error:
        await add(one, upload_id, b"x" * 500, 1000)
    assert error.value.status == 409
    await add(one, upload_id, data[2000:], 2000)
    assert await content(two, upload_id) == data


@without_conditions
async def test_a_removed_upload_does_not_come_back(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = scene.store(), scene.store()
    upload_id = await create(one, 3000)
    held = scene.proxy.inject("hold", "PutObject")
    late = asyncio.ensure_future(add(one, upload_id, b"x" * 2000, 0))
    await asyncio.to_thread(held.wait)
    await two.terminate(upload_id)
    held.release()
    with pytest.raises(RequestError):
        await late
    assert states(scene, upload_id)
    await _is_gone(two, upload_id)
    monkeypatch.setattr(sweeping, "LATE_SECONDS", -10.0)
    monkeypatch.setattr(fenced, "LATE_SECONDS", -10.0)
    assert await two.sweep_leftovers(_free) == 2
    assert states(scene, upload_id) == []
    await _is_gone(two, upload_id)


@without_conditions
async def test_the_sweep_sees_each_upload_once(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    store = scene.store()
    upload_ids = {await create(store, 10) for _ in range(3)}
    one = min(upload_ids)
    newest = states(scene, one)[0]
    older = fenced.fenced_key(f"{one}.info", 0, 1)
    scene.s3.copy_object(Bucket=scene.bucket, Key=older, CopySource={"Bucket": scene.bucket, "Key": newest})
    assert sorted([each.id async for each in store.unfinished()]) == sorted(upload_ids)
    assert await store.sweep_leftovers(_free) == 0
    monkeypatch.setattr(sweeping, "LATE_SECONDS", -10.0)
    assert await store.sweep_leftovers(_free) == 1
    assert states(scene, one) == [newest]


@without_conditions
async def test_who_has_no_lock_writes_nothing(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    store = scene.store()
    upload_id = await create(store, 10)
    link = await store.bucket.chain.read(f"{upload_id}.info")
    assert link is not None
    monkeypatch.setattr(Fences, "fence", lambda *_: None)
    with pytest.raises(Superseded):
        await store.bucket.chain.append(f"{upload_id}.info", Record(link.record.upload, upload_id), NOTHING, link)
    assert states(scene, upload_id) == [link.version]


async def _is_gone(store: S3Store, upload_id: UploadId) -> None:
    with pytest.raises(RequestError) as error:
        await store.read(upload_id)
    assert error.value.status == 404


class _free:  # noqa: N801  (a context, as a locker's)
    def __init__(self, _upload_id: UploadId) -> None: ...

    async def __aenter__(self) -> None: ...

    async def __aexit__(self, *_: object) -> None: ...
