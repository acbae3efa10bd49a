"""How many calls to S3 a request costs."""

from __future__ import annotations

import pytest
from s3scene import MIB, Scene, add, content, create, fill, new_upload, some

pytestmark = pytest.mark.anyio


async def test_a_small_upload_costs_three(scene: Scene) -> None:
    store, data = scene.store(), some(4096)
    upload_id = await create(store, len(data))
    await add(store, upload_id, data, 0)
    assert scene.calls() == {"PutObject": 3}
    assert await content(store, upload_id) == data


async def test_a_small_upload_made_with_its_bytes_costs_two(scene: Scene) -> None:
    store, data = scene.store(), some(4096)
    made = new_upload(len(data))
    await fill(await store.create(made, len(data)), data)
    assert scene.calls() == {"PutObject": 2}
    assert await content(store, made.id) == data


async def test_an_empty_upload_costs_two(scene: Scene) -> None:
    store = scene.store()
    made = new_upload(0)
    stored = await store.create(made, 0)
    await stored.finish()
    await stored.close()
    assert scene.calls() == {"PutObject": 2}


async def test_sixty_mib_in_little_patches(scene: Scene) -> None:
    store, data = scene.store(part_bytes=8 * MIB), some(60 * MIB)
    upload_id = await create(store, len(data))
    for offset in range(0, len(data), MIB):
        await add(store, upload_id, data[offset : offset + MIB], offset)
    calls = scene.calls()
    # A state for each PATCH, one for the creation and two for the end.
    assert calls == {
        "PutObject": 62,
        "UploadPart": 10,
        "CreateMultipartUpload": 1,
        "CompleteMultipartUpload": 1,
    }
    assert await content(store, upload_id) == data


async def test_asking_costs_one_or_two(scene: Scene) -> None:
    store, other = scene.store(), scene.store()
    upload_id = await create(store, 12 * MIB)
    scene.calls()
    await other.read(upload_id)
    assert scene.calls() == {"GetObject": 1}
    await add(store, upload_id, some(6 * MIB), 0)
    scene.calls()
    await other.read(upload_id)
    assert scene.calls() == {"GetObject": 1, "ListParts": 1}
    await add(store, upload_id, some(6 * MIB), 6 * MIB)
    scene.calls()
    assert (await other.read(upload_id)).is_available
    assert scene.calls() == {"GetObject": 1, "HeadObject": 1}


async def test_a_download_costs_two(scene: Scene) -> None:
    store, data = scene.store(), some(4096)
    upload_id = await create(store, len(data))
    await add(store, upload_id, data, 0)
    scene.calls()
    assert b"".join([bytes(piece) async for piece in store.read_range(upload_id, 1, 4000)]) == data[1:4000]
    assert scene.calls() == {"GetObject": 2}


async def test_another_process_goes_on_after_one_call(scene: Scene) -> None:
    data = some(12 * MIB)
    one, two = scene.store(), scene.store()
    upload_id = await create(one, len(data))
    await add(one, upload_id, data[: 6 * MIB], 0)
    scene.calls()
    stored = await two.open(upload_id, 6 * MIB)
    assert scene.calls() == {"GetObject": 1}
    await fill(stored, data[6 * MIB :])
    assert await content(one, upload_id) == data
