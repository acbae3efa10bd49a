"""Uploads: create, append, inspect, finish, for one client at a time. Order, company and finals are elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import anyio
import pytest
from feeding import END, Feed, sha1
from hypothesis import given, settings
from hypothesis import strategies as st
from scene import Scene, refused

from tusd_py.core.body import unexpected_eof
from tusd_py.core.checksum import Checksum
from tusd_py.core.commands import Create
from tusd_py.core.rules import Rules
from tusd_py.core.upload import Metadata, State, UploadId, parse_id
from tusd_py.errors import BackendError

pytestmark = pytest.mark.anyio


@pytest.fixture
async def scene(anyio_backend: str) -> Iterator[Scene]:
    made = Scene()
    yield made
    assert made.is_quiet()


async def test_K8_C11_a_new_upload_is_empty_and_has_an_id_nobody_guesses(scene: Scene) -> None:
    metadata = Metadata("name YQ==", {"name": "a"})
    made = await scene.create(100, metadata=metadata)
    assert (made.length, made.offset, made.state, made.metadata) == (100, 0, State.RECEIVING, metadata)
    assert parse_id(made.id) == made.id
    assert len({(await scene.create(1)).id for _ in range(50)}) == 50
    assert len(made.id) >= 32
    assert await scene.uploads.inspect(made.id) == await scene.store.read(made.id)


async def test_K13_K17_appends_up_to_the_end(scene: Scene) -> None:
    made = await scene.create(11)
    assert (await scene.append(made.id, 0, b"hello", content_length=5)).offset == 5
    found = await scene.uploads.inspect(made.id)
    assert (found.offset, found.length, found.is_available) == (5, 11, False)
    done = await scene.append(made.id, 5, b" wor", b"ld", content_length=None)
    assert (done.offset, done.state) == (11, State.AVAILABLE)
    assert await scene.content(made.id) == b"hello world"
    assert scene.store.calls["finish"] == 1


async def test_K21_an_empty_append_changes_nothing(scene: Scene) -> None:
    made = await scene.create(5, b"he")
    assert (await scene.append(made.id, 2, content_length=0)).offset == 2
    assert not (await scene.uploads.inspect(made.id)).is_available


async def test_C7_an_upload_of_zero_bytes_is_finished_at_once_and_once(scene: Scene) -> None:
    for items in ((), (b"",)):
        scene.store.calls.clear()
        made = await scene.create(0, *items)
        assert (made.state, made.offset, made.length) == (State.AVAILABLE, 0, 0)
        assert await scene.content(made.id) == b""
        await scene.append(made.id, 0)
        await scene.uploads.inspect(made.id)
        assert scene.store.calls["finish"] == 1


async def test_W3_the_first_bytes_come_with_the_creation(scene: Scene) -> None:
    made = await scene.create(11, b"hel", b"lo")
    assert (made.offset, made.state) == (5, State.RECEIVING)
    assert (await scene.append(made.id, 5, b" world")).is_available
    assert await scene.content(made.id) == b"hello world"


async def test_W3_all_bytes_come_with_the_creation(scene: Scene) -> None:
    made = await scene.create(5, b"hello", content_length=5)
    assert (made.offset, made.state) == (5, State.AVAILABLE)
    assert await scene.content(made.id) == b"hello"
    assert scene.store.calls["finish"] == 1


async def test_W2_a_body_that_is_not_the_uploads_is_not_read(scene: Scene) -> None:
    feed = Feed(b"form=data", END)
    made = await scene.uploads.create(Create(length=5, has_body=False, content_length=9), scene.body(feed))
    assert made.offset == 0
    assert not feed.was_asked.is_set()


FAULTS = {
    "cut short": ((b"he", unexpected_eof()), {}, 400),
    "checksum": ((b"hello",), {"checksum": sha1(b"other")}, 460),
    "too long, chunked": ((b"hello world",), {}, 413),
    "store": ((b"hello",), {}, 500),
}


@pytest.mark.parametrize(("items", "fields", "status"), FAULTS.values(), ids=FAULTS)
async def test_W2_a_creation_that_fails_leaves_nothing(
    scene: Scene, items: tuple[bytes, ...], fields: dict[str, object], status: int
) -> None:
    if status == 500:
        scene.store.fail("finish", BackendError())
    with refused(status):
        await scene.create(5, *items, **fields)
    assert scene.ids() == set()


async def test_W2_a_creation_that_is_cancelled_leaves_nothing(scene: Scene) -> None:
    feed = Feed(b"he")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: scene.create(5, feed=feed))
        await feed.handed_over()
        assert len(scene.ids()) == 1
        tasks.cancel_scope.cancel()
    assert scene.ids() == set()


async def test_C5_a_deferred_length_is_unknown_until_it_is_declared(scene: Scene) -> None:
    made = await scene.create(None, b"hel")
    assert (made.length, made.offset, made.state) == (None, 3, State.RECEIVING)
    assert (await scene.append(made.id, 3, b"lo")).length is None
    done = await scene.append(made.id, 5, b" world", length=11)
    assert (done.length, done.state) == (11, State.AVAILABLE)
    assert await scene.content(made.id) == b"hello world"


async def test_C4_a_deferred_length_is_declared_by_an_empty_append(scene: Scene) -> None:
    made = await scene.create(None, b"hello")
    done = await scene.append(made.id, 5, length=5, content_length=0)
    assert (done.length, done.state) == (5, State.AVAILABLE)
    assert (scene.store.calls["declare_length"], scene.store.calls["finish"]) == (1, 1)


async def test_C4_a_length_never_changes(scene: Scene) -> None:
    made = await scene.create(None)
    await scene.append(made.id, 0, b"he", length=5)
    with refused(400):
        await scene.append(made.id, 2, b"llo", length=6)
    assert (await scene.append(made.id, 2, b"llo", length=5)).is_available
    assert scene.store.calls["declare_length"] == 1
    with refused(400):
        await scene.append(made.id, 5, length=4)


async def test_C4_a_declared_length_below_the_offset_is_400(scene: Scene) -> None:
    made = await scene.create(None, b"hello")
    with refused(400):
        await scene.append(made.id, 5, length=4)
    assert (await scene.uploads.inspect(made.id)).length is None


@pytest.mark.parametrize("extra", [1, 5])
async def test_F9_a_chunked_body_past_the_length_keeps_the_bytes_up_to_it(scene: Scene, extra: int) -> None:
    made = await scene.create(5, b"he")
    with refused(413, "ERR_UPLOAD_SIZE_EXCEEDED"):
        await scene.append(made.id, 2, b"llo" + b"!" * extra)
    assert (await scene.uploads.inspect(made.id)).is_available
    assert await scene.content(made.id) == b"hello"
    assert scene.store.calls["finish"] == 1


@pytest.mark.parametrize("length", [None, 20])
async def test_C10_no_body_goes_past_the_maximum(length: int | None, anyio_backend: str) -> None:
    scene = Scene(Rules(max_size_bytes=8))
    with refused(413, "ERR_MAX_SIZE_EXCEEDED"):
        await scene.create(length, b"123456789")
    if length is None:
        made = await scene.create(None, b"12345")
        with refused(413, "ERR_MAX_SIZE_EXCEEDED"):
            await scene.append(made.id, 5, b"6789")
        assert (await scene.uploads.inspect(made.id)).offset == 8
        with refused(413):
            await scene.append(made.id, 8, length=9)
        assert (await scene.append(made.id, 8, length=8)).is_available
        assert await scene.content(made.id) == b"12345678"


async def test_K20_a_body_cut_short_keeps_every_byte(scene: Scene) -> None:
    made = await scene.create(11)
    with refused(400, "ERR_UNEXPECTED_EOF"):
        await scene.append(made.id, 0, b"hel", b"lo", unexpected_eof())
    assert (await scene.uploads.inspect(made.id)).offset == 5
    await scene.append(made.id, 5, b" world")
    assert await scene.content(made.id) == b"hello world"


async def test_a_body_that_breaks_after_its_last_byte_finishes_the_upload(scene: Scene) -> None:
    made = await scene.create(5)
    with refused(400):
        await scene.append(made.id, 0, b"hello", unexpected_eof())
    assert (await scene.store.read(made.id)).is_available
    assert scene.store.calls["finish"] == 1


@pytest.mark.parametrize(
    ("items", "checksum", "status"),
    [((b"lo",), sha1(b"no"), 460), ((b"l", unexpected_eof()), sha1(b"l"), 400), ((b"lo!",), sha1(b"lo"), 413)],
)
async def test_S4_S9_a_checksummed_append_counts_whole_or_not_at_all(
    scene: Scene, items: tuple[bytes, ...], checksum: Checksum, status: int
) -> None:
    made = await scene.create(5, b"hel")
    with refused(status):
        await scene.append(made.id, 3, *items, checksum=checksum)
    found = await scene.uploads.inspect(made.id)
    assert (found.offset, found.is_available) == (3, False)
    assert (await scene.append(made.id, 3, b"lo", checksum=sha1(b"lo"))).is_available
    assert await scene.content(made.id) == b"hello"


async def test_F32_an_append_to_a_finished_upload_is_empty_or_413(scene: Scene, caplog: object) -> None:
    caplog.set_level(logging.INFO, "tusd_py.uploads")
    made = await scene.create(5, b"hello")
    for _ in range(3):
        assert (await scene.append(made.id, 5, content_length=0)).is_available
        assert (await scene.append(made.id, 5, content_length=None)).is_available
        with refused(413):
            await scene.append(made.id, 5, b"!", content_length=1)
        with refused(413):
            await scene.append(made.id, 5, b"!", content_length=None)
    await scene.uploads.inspect(made.id)
    assert scene.store.calls["finish"] == 1
    assert sum("UploadFinished" in line for line in caplog.messages) == 1
    assert await scene.content(made.id) == b"hello"


async def test_S2_S3_a_wrong_checksum_is_460_also_on_a_finished_upload(scene: Scene) -> None:
    made = await scene.create(5, b"hello")
    assert (await scene.append(made.id, 5, checksum=sha1(b""))).is_available
    with refused(460):
        await scene.append(made.id, 5, checksum=sha1(b"other"))


@pytest.mark.parametrize("way", ["inspect", "sweep", "append"])
async def test_F6_finishing_that_failed_is_driven_again(scene: Scene, way: str, caplog: object) -> None:
    caplog.set_level(logging.INFO, "tusd_py.uploads")
    made = await scene.create(5, b"he")
    scene.store.fail("finish", BackendError())
    with refused(500):
        await scene.append(made.id, 2, b"llo")
    assert not (await scene.store.read(made.id)).is_available
    if way == "inspect":
        await scene.uploads.inspect(made.id)
    elif way == "sweep":
        await scene.uploads.sweep()
    else:
        await scene.append(made.id, 5)
    assert (await scene.store.read(made.id)).is_available
    assert scene.store.calls["finish"] == 2
    assert sum("UploadFinished" in line for line in caplog.messages) == 1
    assert await scene.content(made.id) == b"hello"


async def test_a_store_that_fails_half_way_is_500_and_nothing_is_lost(scene: Scene) -> None:
    made = await scene.create(5, b"he")
    scene.store.fail("append", BackendError())
    with refused(500):
        await scene.append(made.id, 2, b"llo")
    assert (await scene.uploads.inspect(made.id)).offset == 2
    assert (await scene.append(made.id, 2, b"llo")).is_available


async def test_D2_D3_a_terminated_upload_is_gone(scene: Scene) -> None:
    for items in ((b"he",), (b"hello",)):
        made = await scene.create(5, *items)
        await scene.uploads.terminate(made.id)
        for verb in (scene.uploads.inspect, scene.uploads.terminate, scene.uploads.refuse_unknown):
            with refused(404):
                await verb(made.id)
        with refused(404):
            await scene.append(made.id, made.offset)
    assert scene.ids() == set()


async def test_K10_K18_an_unknown_upload_is_404(scene: Scene) -> None:
    nobody = UploadId("nobody")
    for verb in (scene.uploads.inspect, scene.uploads.terminate, scene.uploads.refuse_unknown):
        with refused(404, "ERR_UPLOAD_NOT_FOUND"):
            await verb(nobody)


@settings(deadline=None, max_examples=60)
@given(
    st.binary(min_size=1, max_size=60),
    st.lists(st.tuples(st.integers(0, 30), st.sampled_from(["end", "break", "wrong sum", "late"])), max_size=12),
)
def test_property_any_sequence_of_good_and_bad_appends_gives_the_same_bytes(
    data: bytes, steps: list[tuple[int, str]]
) -> None:
    async def run() -> None:
        scene = Scene()
        made = await scene.create(len(data))
        offset = 0
        for count, way in steps:
            piece = data[offset : min(offset + count, len(data) - 1)]  # one byte is left to finish with
            if way == "break":
                with refused(400):
                    await scene.append(made.id, offset, piece, unexpected_eof())
            elif way == "wrong sum":
                with refused(460):
                    await scene.append(made.id, offset, piece, checksum=sha1(piece + b"!"))
                piece = b""
            elif way == "late":
                with refused(409):
                    await scene.append(made.id, offset + 1, piece)
                piece = b""
            else:
                await scene.append(made.id, offset, piece)
            offset += len(piece)
            assert (await scene.uploads.inspect(made.id)).offset == offset
        await scene.append(made.id, offset, data[offset:])
        assert await scene.content(made.id) == data
        assert scene.store.calls["finish"] == 1
        assert scene.is_quiet()

    anyio.run(run)
