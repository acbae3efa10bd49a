"""A process that goes on from what it left does not know that another one came between; it finds out by its write."""

from __future__ import annotations

import asyncio

import pytest
from s3scene import MIB, Scene, add, content, create, some

from tusd_py.errors import RequestError

pytestmark = pytest.mark.anyio


async def test_bytes_that_came_between_are_409_and_stay(scene: Scene) -> None:
    one, two = scene.store(), scene.store()
    upload_id = await create(one, 10)
    assert await add(two, upload_id, b"hello", 0) == 5
    with pytest.raises(RequestError) as error:
        await add(one, upload_id, b"HELL", 0)
    assert (error.value.status, error.value.headers) == (409, {"Upload-Offset": "5"})
    assert await add(one, upload_id, b"world", 5) == 10
    assert await content(two, upload_id) == b"helloworld"


async def test_an_upload_that_another_one_finished_is_409(scene: Scene) -> None:
    one, two = scene.store(), scene.store()
    upload_id = await create(one, 5)
    await add(two, upload_id, b"hello", 0)
    with pytest.raises(RequestError) as error:
        await add(one, upload_id, b"HELLO", 0)
    assert error.value.status == 409
    assert await content(one, upload_id) == b"hello"


async def test_an_upload_that_another_one_removed_is_404(scene: Scene) -> None:
    one, two = scene.store(), scene.store()
    upload_id = await create(one, 5)
    await two.terminate(upload_id)
    for data in (b"he", b"hello"):
        with pytest.raises(RequestError) as error:
            await add(one, upload_id, data, 0)
        assert error.value.status == 404
    assert [key for key in scene.objects() if key.endswith(".info")] == []


@pytest.mark.parametrize("data", [b"he", b"hello"], ids=["some", "all"])
async def test_a_length_that_came_between_holds(scene: Scene, data: bytes) -> None:
    one, two = scene.store(), scene.store()
    upload_id = await create(one, None)
    await two.declare_length(upload_id, 5)
    with pytest.raises(RequestError) as error:
        await add(one, upload_id, b"longer", 0)
    assert error.value.status == 413
    assert await add(one, upload_id, data, 0) == len(data)
    await add(two, upload_id, b"hello"[len(data) :])
    assert await content(one, upload_id) == b"hello"


async def test_two_lengths_are_one(scene: Scene) -> None:
    one, two = scene.store(), scene.store()
    upload_id = await create(one, None)
    await two.declare_length(upload_id, 5)
    with pytest.raises(RequestError) as error:
        await one.declare_length(upload_id, 6)
    assert error.value.status == 400
    await one.declare_length(upload_id, 5)
    assert (await two.read(upload_id)).length == 5


async def test_parts_that_came_between_are_not_mixed_in(scene: Scene) -> None:
    data = some(12 << 20)
    one, two = scene.store(), scene.store()
    upload_id = await create(one, len(data))
    await add(one, upload_id, data[:1000], 0)
    await add(two, upload_id, data[1000 : 6 << 20])
    with pytest.raises(RequestError) as error:
        await add(one, upload_id, some(7 << 20), 1000)
    assert error.value.status in (409, 423)
    offset = (await two.read(upload_id)).offset
    assert offset == 6 << 20
    await add(one, upload_id, data[offset:])
    assert await content(two, upload_id) == data


@pytest.mark.parametrize("first", [100, 6 * MIB], ids=["no-part", "a-part"])
@pytest.mark.parametrize("is_known", [True, False], ids=["known", "cold"])
@pytest.mark.parametrize("nth", [1, 3])
async def test_a_part_that_a_holder_has_sent_and_lost_replaces_none_of_who_goes_on(
    scene: Scene, nth: int, is_known: bool, first: int
) -> None:
    """failures F22: its request lands when the upload is nearly there; also where it was begun in between, by somebody
    who is gone, and the process that goes on knows the upload as it was before."""
    one, lost, data = scene.store(), scene.store(), some(26 * MIB)
    upload_id = await create(one, len(data))
    await add(one, upload_id, data[: 6 * MIB], 0)
    held = scene.proxy.inject("hold", "UploadPart", nth=nth)
    gone = asyncio.ensure_future(add(lost, upload_id, b"x" * (19 * MIB), 6 * MIB))
    call = await asyncio.to_thread(held.wait)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    store, at = one if is_known else scene.store(), 6 * MIB
    for end in (at + first, 12 * MIB + first, 18 * MIB + first):
        at = await add(store, upload_id, data[at:end], at)
        assert at == end
    held.release()
    await asyncio.to_thread(call.wait)
    assert call.upstream_status == 200
    await add(store, upload_id, data[at:], at)
    assert await content(scene.store(), upload_id) == data
