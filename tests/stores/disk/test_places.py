"""Uploads whose id or place a hook chose: their bytes are where it wants them, and no crash leaves a stray."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from scenario import Crash, Fault, file_calls, leftovers, server

from tusd_py.core.body import Body, Sink, pour
from tusd_py.core.commands import Concatenate, Create
from tusd_py.core.upload import Upload, UploadId, new_id
from tusd_py.errors import RequestError
from tusd_py.stores.disk import DiskStore

pytestmark = pytest.mark.anyio

DATA = b"hello world"
MODES = pytest.mark.parametrize("is_durable", [True, False], ids=["power", "process"])


class Bytes:
    def __init__(self, data: bytes) -> None:
        self._data = data

    async def fill(self, sink: Sink) -> None:
        await pour(self._data, sink)


def opened(path: Path, *, is_durable: bool) -> DiskStore:
    store = DiskStore(path, is_durable=is_durable)
    store.prepare()
    return store


def upload(**fields: object) -> Upload:
    return replace(Upload(id=new_id(), length=len(DATA), created_at=time.time()), **fields)


async def fill(store: DiskStore, made: Upload, first_bytes: int | None = None) -> None:
    stored = await store.create(made, first_bytes)
    await stored.append(Body(Bytes(DATA)))
    await stored.finish()
    await stored.close()


async def content(store: DiskStore, upload_id: UploadId) -> bytes:
    return b"".join([bytes(each) async for each in store.read_range(upload_id, 0, len(DATA))])


@MODES
@pytest.mark.parametrize("first_bytes", [None, len(DATA)], ids=["later", "at-once"])
async def test_bytes_lie_where_a_hook_wants_them(tmp_path: Path, is_durable: bool, first_bytes: int | None) -> None:
    store = opened(tmp_path, is_durable=is_durable)
    made = store.placed(upload(), {"Path": "sets/2026/hello.txt"})
    await fill(store, made, first_bytes)
    file = tmp_path / "sets/2026/hello.txt"
    assert file.read_bytes() == DATA
    again = opened(tmp_path, is_durable=is_durable)
    assert await content(again, made.id) == DATA
    assert again.storage(await again.read(made.id)) == {
        "Type": "filestore", "Path": str(file), "InfoPath": str(tmp_path / f"{made.id}.info"),
    }  # fmt: skip
    assert not [each async for each in again.unfinished()]
    assert await again.terminate(made.id)
    assert not file.exists()
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("name", ["same-as-id", "dir/same-as-id"])
async def test_a_place_may_end_like_the_id(tmp_path: Path, name: str) -> None:
    store = opened(tmp_path, is_durable=True)
    made = store.placed(upload(id=UploadId("same-as-id"), is_named=True), {"Path": name})
    await fill(store, made)
    assert (tmp_path / name).read_bytes() == DATA
    assert await content(opened(tmp_path, is_durable=True), made.id) == DATA


@pytest.mark.parametrize(
    "place", ["..", "../x", "/etc/passwd", ".", "a/../../x", ".tusd-py/tmp/x", "x.info", "x/", "a/../.tusd-py/y"]
)
async def test_no_place_is_outside_or_the_servers_own(tmp_path: Path, place: str) -> None:
    store = opened(tmp_path, is_durable=True)
    with pytest.raises(ValueError, match="Path"):
        store.placed(upload(), {"Path": place})


async def test_a_place_behind_a_link_that_leads_outside_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/out").symlink_to(tmp_path)
    store = opened(tmp_path / "data", is_durable=True)
    made = store.placed(upload(), {"Path": "out/stolen"})
    with pytest.raises(RequestError):
        await store.create(made)
    assert not (tmp_path / "stolen").exists()


@MODES
async def test_a_place_that_is_taken_is_refused_and_unharmed(tmp_path: Path, is_durable: bool) -> None:
    store = opened(tmp_path, is_durable=is_durable)
    (tmp_path / "mine").write_text("somebody's")
    with pytest.raises(FileExistsError):
        await store.create(store.placed(upload(), {"Path": "mine"}))
    assert (tmp_path / "mine").read_text() == "somebody's"
    assert [each async for each in store.unfinished()] == []
    (tmp_path / "mine").unlink()
    assert leftovers(tmp_path) == []


async def test_a_final_upload_lies_where_a_hook_wants_it(tmp_path: Path) -> None:
    uploads = server(tmp_path, is_durable=True)
    store: DiskStore = uploads._store
    partials = []
    for _ in range(2):
        command = Create(len(DATA), is_partial=True, concat="partial", has_body=True, content_length=len(DATA))
        partials.append((await uploads.create(command, Body(Bytes(DATA)))).id)

    async def create(made: Upload, first_bytes: int | None = None) -> object:
        return await plain(store.placed(made, {"Path": "finals/one"}), first_bytes)

    plain = store.create
    store.create = create  # as a hook would have it
    final = await uploads.concatenate(Concatenate(tuple(partials), "final;x"))
    assert final.is_available
    assert (tmp_path / "finals/one").read_bytes() == DATA * 2
    assert leftovers(tmp_path) == [f"{final.id}.info"]  # whose bytes are not beside it


@MODES
@pytest.mark.parametrize("is_named", [False, True], ids=["drawn", "chosen"])
@pytest.mark.parametrize("place", [None, "sets/hello.txt"], ids=["beside", "elsewhere"])
@pytest.mark.parametrize("first_bytes", [None, len(DATA)], ids=["later", "at-once"])
async def test_dying_at_any_call_of_a_creation_leaves_nothing_that_stays(
    tmp_path: Path, is_durable: bool, is_named: bool, place: str | None, first_bytes: int | None
) -> None:
    async def create(store: DiskStore) -> UploadId:
        made = upload(id=UploadId("chosen") if is_named else new_id(), is_named=is_named, place=place)
        with suppress(Crash):
            await fill(store, made, first_bytes)
        return made.id

    fault = Fault(None, Crash())
    store = opened(tmp_path / "dry", is_durable=is_durable)
    with file_calls(fault):
        await create(store)
    assert fault.count > 5
    fates = set()
    for at in range(1, fault.count + 1):
        path = tmp_path / str(at)
        store = opened(path, is_durable=is_durable)
        with file_calls(Fault(at, Crash())):
            upload_id = await create(store)
        again = server(path, is_durable=is_durable)
        await again.sweep()
        try:
            await again.terminate(upload_id)
            fates.add("there")
        except RequestError as error:
            assert error.status == 404
            fates.add("gone")
        await again.sweep()
        assert leftovers(path) == []
        assert not place or not (path / place).exists()
        stored = again._store
        if is_named:  # the id can be had again
            await fill(stored, upload(id=upload_id, is_named=True, place=place), first_bytes)
            assert await content(stored, upload_id) == DATA
    assert fates == {"there", "gone"}
