"""Uploads: concatenation (tus N1 to N12; failures F6, F16)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from feeding import Feed
from scene import Scene, refused

from tusd_py.core.commands import Concatenate
from tusd_py.core.rules import Rules
from tusd_py.core.upload import Metadata, State, UploadId, final_id, parse_id
from tusd_py.errors import BackendError, upload_not_found

pytestmark = pytest.mark.anyio


@pytest.fixture
async def scene(anyio_backend: str) -> Iterator[Scene]:
    made = Scene(Rules(max_size_bytes=1000))
    yield made
    assert made.is_quiet()


async def two(scene: Scene) -> tuple[UploadId, UploadId]:
    """Two finished partials."""
    return (await scene.partial(6, b"hello ")).id, (await scene.partial(5, b"world")).id


async def test_N3_finished_partials_are_joined_in_the_listed_order(scene: Scene) -> None:
    one, other = await two(scene)
    made = await scene.final(one, other)
    assert (made.offset, made.length, made.state, made.partials) == (11, 11, State.AVAILABLE, (one, other))
    assert await scene.content(made.id) == b"hello world"
    back = await scene.final(other, one)
    assert back.id != made.id
    assert await scene.content(back.id) == b"worldhello "
    assert parse_id(made.id) == made.id


async def test_N5_partials_stay_and_may_be_used_again_and_again(scene: Scene) -> None:
    one, other = await two(scene)
    made = await scene.final(one, other, one, one)
    assert await scene.content(made.id) == b"hello worldhello hello "
    assert [await scene.content(each) for each in (one, other)] == [b"hello ", b"world"]
    await scene.uploads.terminate(one)
    assert await scene.content(made.id) == b"hello worldhello hello "


async def test_N3_empty_partials_are_partials(scene: Scene) -> None:
    empty = (await scene.partial(0)).id
    made = await scene.final(empty, empty)
    assert (made.length, made.state) == (0, State.AVAILABLE)
    assert await scene.content(made.id) == b""


async def test_N4_N10_metadata_and_concat_are_the_finals_own(scene: Scene) -> None:
    partial = await scene.create(2, b"ab", is_partial=True, concat="partial", metadata=Metadata("p YQ==", {"p": "a"}))
    concat = f"final;  http://h/files/{partial.id}/"
    made = await scene.uploads.concatenate(Concatenate((partial.id,), concat, Metadata("f Yg==", {"f": "b"})))
    found = await scene.uploads.inspect(made.id)
    assert (found.concat, found.metadata.raw, found.is_partial) == (concat, "f Yg==", False)
    found = await scene.uploads.inspect(partial.id)
    assert (found.concat, found.metadata.raw, found.is_partial) == ("partial", "p YQ==", True)


async def test_N6_a_final_is_never_changed(scene: Scene) -> None:
    one, other = await two(scene)
    for made in (await scene.final(one, other), await scene.final((await scene.partial(5)).id)):
        for offset in (0, made.offset):
            with refused(403, "ERR_MODIFY_FINAL"):
                await scene.append(made.id, offset, b"x")
    assert await scene.content(one) == b"hello "


async def test_N12_only_partials_are_joined(scene: Scene) -> None:
    one, other = await two(scene)
    final = await scene.final(one, other)
    plain = await scene.create(5, b"plain")
    ids = scene.ids()
    for each in (final.id, plain.id, UploadId("unknown")):
        with refused(400, "ERR_INVALID_CONCAT"):
            await scene.final(one, each)
    assert scene.ids() == ids
    assert await scene.store.waiting_for(one) == []


async def test_C10_a_final_over_the_maximum_is_413_and_leaves_nothing(scene: Scene) -> None:
    one = (await scene.partial(1000)).id
    ids = scene.ids()
    with refused(413, "ERR_MAX_SIZE_EXCEEDED"):
        await scene.final(one, one)
    assert scene.ids() == ids
    assert (await scene.final(one)).length == 1000


async def test_C10_a_final_of_deferred_partials_does_not_get_over_the_maximum(scene: Scene) -> None:
    one = (await scene.partial(None)).id
    made = await scene.final(one, one)
    await scene.append(one, 0, b"x" * 600, length=600)
    assert not (await scene.store.read(made.id)).is_available, "1200 bytes where 1000 are allowed"


async def test_F16_the_same_question_gives_the_same_upload(scene: Scene) -> None:
    one, other = await two(scene)
    made = await scene.final(one, other, raw="a YQ==")
    again = await scene.final(one, other, raw="a YQ==")
    assert again == made
    assert scene.store.calls["concatenate"] == 1
    assert len({made.id, (await scene.final(one, other)).id, (await scene.final(other, one, raw="a YQ==")).id}) == 3


async def test_F16_the_same_question_while_partials_are_missing(scene: Scene) -> None:
    one, other = (await scene.partial(6, b"hello ")).id, (await scene.partial(5)).id
    made, again = await scene.final(one, other), await scene.final(one, other)
    assert made.id == again.id
    await scene.append(other, 0, b"world")
    assert (await scene.final(one, other)).is_available
    assert scene.store.calls["concatenate"] == 1


async def test_F16_the_same_question_twice_at_once(scene: Scene) -> None:
    one, other = await two(scene)
    made = await asyncio.gather(*(scene.final(one, other) for _ in range(5)))
    assert len({each.id for each in made}) == 1
    assert all(each.is_available for each in made)
    assert scene.store.calls["concatenate"] == 1


def test_F16_ids_of_finals_depend_on_every_partial_their_order_and_the_metadata() -> None:
    a, b, ab = UploadId("a"), UploadId("b"), UploadId("ab")
    asked = [((a, b), ""), ((b, a), ""), ((ab,), ""), ((a,), ""), ((a, a), ""), ((a, b), "x"), ((a,), "b"), ((), "a")]
    assert len({final_id(partials, raw) for partials, raw in asked}) == len(asked)


async def test_N1_N7_N9_a_final_waits_for_its_partials_and_is_assembled_when_the_last_one_ends(scene: Scene) -> None:
    one, other = (await scene.partial(6)).id, (await scene.partial(5)).id
    made = await scene.final(one, other, one)
    assert (made.state, made.length, made.offset) == (State.ASSEMBLING, 17, 0)
    await scene.append(other, 0, b"world")
    assert not (await scene.uploads.inspect(made.id)).is_available
    await scene.append(one, 0, b"hello ")
    found = await scene.store.read(made.id)  # nobody had to ask
    assert (found.state, found.length, found.offset) == (State.AVAILABLE, 17, 17)
    assert await scene.content(made.id) == b"hello worldhello "


async def test_N9_the_length_is_known_as_soon_as_every_partials_is(scene: Scene) -> None:
    one, other = (await scene.partial(6)).id, (await scene.partial(None)).id
    made = await scene.final(one, other)
    assert made.length is None
    assert (await scene.uploads.inspect(made.id)).length is None
    await scene.append(other, 0, b"wo", length=5)
    assert (await scene.uploads.inspect(made.id)).length == 11
    await scene.append(other, 2, b"rld")
    await scene.append(one, 0, b"hello ")
    assert await scene.content(made.id) == b"hello world"


async def test_several_finals_wait_for_one_partial(scene: Scene) -> None:
    one = (await scene.partial(2)).id
    finals = [await scene.final(one, raw=raw) for raw in ("", "a", "b")]
    await scene.append(one, 0, b"ab")
    assert [await scene.content(each.id) for each in finals] == [b"ab"] * 3


async def test_N2_a_partial_nobody_joins_is_only_kept(scene: Scene) -> None:
    await scene.partial(2, b"ab")
    await scene.uploads.sweep()
    assert scene.store.changes == {"create": 1, "append": 1, "finish": 1}


async def test_a_partial_that_breaks_after_its_last_byte_drives_its_final_on(scene: Scene) -> None:
    one = (await scene.partial(2)).id
    made = await scene.final(one)
    with refused(413):
        await scene.append(one, 0, b"abc")
    assert await scene.content(made.id) == b"ab"


@pytest.mark.parametrize("verb", ["concatenate", "finish"])
@pytest.mark.parametrize("way", ["inspect", "sweep", "again"])
async def test_F6_an_assembly_that_failed_is_driven_again(scene: Scene, verb: str, way: str) -> None:
    one, other = (await scene.partial(6, b"hello ")).id, (await scene.partial(5)).id
    made = await scene.final(one, other)
    if verb == "finish":  # the next one is the partial's own, the one after that the final's

        async def fail_the_next() -> None:
            scene.store.fail("finish", BackendError())

        scene.store.before("finish", fail_the_next)
    else:
        scene.store.fail("concatenate", BackendError())
    assert (await scene.append(other, 0, b"world")).is_available  # the partial is complete all the same
    assert not (await scene.store.read(made.id)).is_available
    if way == "inspect":
        assert (await scene.uploads.inspect(made.id)).is_available
    elif way == "sweep":
        await scene.uploads.sweep()
    else:
        assert (await scene.final(one, other)).is_available
    assert await scene.content(made.id) == b"hello world"


@pytest.mark.parametrize("way", ["inspect", "sweep"])
async def test_F6_a_crash_before_the_final_was_driven_on_is_made_good(scene: Scene, way: str) -> None:
    one, other = (await scene.partial(6, b"hello ")).id, (await scene.partial(5)).id
    made = await scene.final(one, other)
    stored = await scene.store.open(other)  # the partial ended, and the process with it
    await stored.append(scene.body(Feed(b"world", None)))
    await stored.finish()
    await stored.close()
    assert not (await scene.store.read(made.id)).is_available
    await (scene.uploads.inspect(made.id) if way == "inspect" else scene.uploads.sweep())
    assert await scene.content(made.id) == b"hello world"


async def test_F6_a_creation_that_fails_half_way_is_made_good_by_the_retry(scene: Scene) -> None:
    one, other = await two(scene)
    for verb in ("note_waiting", "create", "concatenate", "finish"):
        scene.store.fail(verb, BackendError())
        with refused(500):
            await scene.final(one, other)
    assert await scene.content((await scene.final(one, other)).id) == b"hello world"


async def test_F8_a_final_whose_partial_is_gone_is_404(scene: Scene) -> None:
    one, other = (await scene.partial(6, b"hello ")).id, (await scene.partial(5)).id
    made = await scene.final(one, other)
    await scene.uploads.terminate(one)
    with refused(404):
        await scene.uploads.inspect(made.id)
    assert (await scene.append(other, 0, b"world")).is_available
    await scene.uploads.sweep()
    assert made.id not in scene.ids()  # nothing can come of it


async def test_D2_a_waiting_final_can_be_terminated(scene: Scene) -> None:
    one = (await scene.partial(5)).id
    made = await scene.final(one)
    await scene.uploads.terminate(made.id)
    assert (await scene.append(one, 0, b"world")).is_available
    with refused(404):
        await scene.uploads.inspect(made.id)


async def test_F16_a_final_asked_for_again_when_its_partials_are_gone_is_the_same(scene: Scene) -> None:
    one = (await scene.partial(5, b"hello")).id
    made = await scene.final(one)
    await scene.uploads.terminate(one)
    assert (await scene.final(one)).id == made.id
    assert await scene.content(made.id) == b"hello"


async def test_F16_a_partial_removed_while_it_is_joined_is_400_and_leaves_no_final(scene: Scene) -> None:
    one = (await scene.partial(5, b"hello")).id
    scene.store.fail("concatenate", upload_not_found())
    before = scene.ids()
    with refused(400):
        await scene.final(one)
    assert scene.ids() == before
