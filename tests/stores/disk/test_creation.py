"""How an upload comes into being: what a crash or a full disk leaves of it, and what may be swept of that."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from scenario import Bytes, Crash, Fault, file_calls, leftovers, marked, server

from tusd_py.core.body import Body
from tusd_py.core.commands import Append, Create
from tusd_py.core.upload import State, Upload, UploadId, new_id
from tusd_py.core.uploads import Uploads
from tusd_py.errors import BackendError, RequestError, upload_locked
from tusd_py.stores.disk import DiskStore

pytestmark = pytest.mark.anyio

DATA = os.urandom(4096)
MODES = pytest.mark.parametrize("is_durable", [True, False], ids=["power", "process"])
TORN = pytest.mark.parametrize("text", ["", "{", '{"ID":"', "\0" * 300], ids=["empty", "brace", "cut", "zeros"])


def body(data: bytes) -> Body:
    return Body(Bytes(data))


@asynccontextmanager
async def held(_upload_id: UploadId) -> AsyncIterator[None]:
    raise upload_locked()
    yield


async def _create(uploads: Uploads) -> Upload:
    return await uploads.create(Create(len(DATA)), body(b""))


@MODES
async def test_F12_dying_at_any_call_of_a_creation_leaves_what_the_sweep_removes(
    tmp_path: Path, is_durable: bool
) -> None:
    fault = Fault(None, Crash())
    uploads = server(tmp_path / "dry", is_durable=is_durable)
    await _create(uploads)
    with file_calls(fault):
        await _create(uploads)
    assert fault.count >= 7
    for at in range(1, fault.count + 1):
        path = tmp_path / str(at)
        first = server(path, is_durable=is_durable)
        await _create(first)
        with file_calls(Fault(at, Crash())), pytest.raises(Crash):
            await _create(first)
        second = server(path, is_durable=is_durable)
        await second.sweep()
        assert leftovers(path) == []
        records = [*path.glob("*.info")]
        assert len(records) in (1, 2)  # whole, unknown to its client: it expires
        for each in records:
            assert (await second.inspect(UploadId(each.stem))).offset == 0


@MODES
@pytest.mark.parametrize("length", [len(DATA), 9999], ids=["all", "some"])
async def test_F12_dying_at_any_call_of_a_creation_with_upload_leaves_all_or_nothing(
    tmp_path: Path, is_durable: bool, length: int
) -> None:
    async def create(uploads: Uploads) -> Upload:
        return await uploads.create(Create(length, has_body=True, content_length=len(DATA)), body(DATA))

    fault = Fault(None, Crash())
    uploads = server(tmp_path / "dry", is_durable=is_durable)
    with file_calls(fault):
        await create(uploads)
    offsets = set()
    for at in range(1, fault.count + 1):
        path = tmp_path / str(at)
        first = server(path, is_durable=is_durable)
        with file_calls(Fault(at, Crash())), suppress(Crash):
            await create(first)
        second = server(path, is_durable=is_durable)
        await second.sweep()
        assert leftovers(path) == []
        for each in path.glob("*.info"):
            offsets.add((await second.inspect(UploadId(each.stem))).offset)
    assert offsets <= {0, len(DATA)}
    assert len(DATA) in offsets


@MODES
async def test_F12_a_record_torn_in_its_making_goes_with_its_empty_data(tmp_path: Path, is_durable: bool) -> None:
    uploads = server(tmp_path, is_durable=is_durable)
    for text in (b"", b"{", b'{"ID":"', b"\0" * 300):
        for has_data in (True, False):
            torn, whole = await _create(uploads), await _create(uploads)
            record = tmp_path / f"{torn.id}.info"
            record.write_bytes(text)
            if not has_data:
                (tmp_path / torn.id).unlink()
            assert await uploads._store.sweep_leftovers(held) == 0
            assert record.exists()
            assert await uploads.sweep() == 1
            assert not record.exists()
            assert leftovers(tmp_path) == []
            assert (await uploads.inspect(whole.id)).offset == 0
            assert await uploads.sweep() == 0


@MODES
@TORN
async def test_F12_a_record_that_cannot_be_read_beside_data_is_kept_and_stops_no_sweep(
    tmp_path: Path, is_durable: bool, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    uploads = server(tmp_path, is_durable=is_durable)
    spoilt = [await _create(uploads) for _ in range(3)]
    for each in spoilt:
        await uploads.append(Append(each.id, 0), body(DATA[:10]))
        (tmp_path / f"{each.id}.info").write_text(text)
    expired = await _create(uploads)
    record = tmp_path / f"{expired.id}.info"
    record.write_text(record.read_text().replace('"ExpireAfterSeconds":3600', '"ExpireAfterSeconds":-1e9'))
    assert await uploads.sweep() == 1
    assert not record.exists()
    for each in spoilt:
        assert (tmp_path / each.id).read_bytes() == DATA[:10]
        with pytest.raises(BackendError):
            await uploads.inspect(each.id)
    assert await uploads.sweep() == 0
    assert sum("restore it" in each.message for each in caplog.records) == 1


async def test_F12_nobody_may_take_a_record_in_the_making_for_a_failure(tmp_path: Path) -> None:
    """The sweep of another process comes by between the record's making and its text."""
    uploads, other = (server(tmp_path, is_durable=False) for _ in range(2))
    made = await _create(uploads)
    text = (tmp_path / f"{made.id}.info").read_bytes()
    (tmp_path / f"{made.id}.info").write_bytes(b"")
    assert [each async for each in other._store.unfinished()] == []
    assert await other._store.sweep_leftovers(held) == 0
    (tmp_path / f"{made.id}.info").write_bytes(text)
    assert [each.id async for each in other._store.unfinished()] == [made.id]


@MODES
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
async def test_a_creation_that_fails_at_any_call_leaves_nothing(tmp_path: Path, is_durable: bool, number: int) -> None:
    fault = Fault(None, Crash())
    uploads = server(tmp_path / "dry", is_durable=is_durable)
    with file_calls(fault):
        await _create(uploads)
    for at in range(1, fault.count + 1):
        path = tmp_path / str(at)
        uploads = server(path, is_durable=is_durable)
        made = 0
        with file_calls(Fault(at, OSError(number, os.strerror(number)))), suppress(BackendError):
            await _create(uploads)
            made = 1
        assert made == (at == fault.count)  # giving back what was open
        assert len([*path.glob("*.info")]) == made
        await uploads.sweep()
        assert leftovers(path) == []


def _upload(upload_id: UploadId, **fields: object) -> Upload:
    return Upload(id=upload_id, length=len(DATA), created_at=time.time(), **fields)


@MODES
async def test_an_id_whose_data_was_lost_is_taken_and_stays_lost(tmp_path: Path, is_durable: bool) -> None:
    store = DiskStore(tmp_path, is_durable=is_durable)
    store.prepare()
    made = _upload(new_id())
    await (await store.create(made)).close()
    (tmp_path / made.id).unlink()
    before = (tmp_path / f"{made.id}.info").read_bytes()
    with pytest.raises(FileExistsError):
        await store.create(made)
    assert not (tmp_path / made.id).exists()
    assert (tmp_path / f"{made.id}.info").read_bytes() == before
    with pytest.raises(RequestError):
        await store.read(made.id)


@MODES
async def test_data_without_a_record_is_nobodys_to_overwrite(tmp_path: Path, is_durable: bool) -> None:
    """It may be a file that has nothing to do with uploads."""
    store = DiskStore(tmp_path, is_durable=is_durable)
    store.prepare()
    made = _upload(new_id())
    (tmp_path / made.id).write_bytes(b"somebody's")
    with pytest.raises(FileExistsError):
        await store.create(made)
    assert (tmp_path / made.id).read_bytes() == b"somebody's"
    assert not (tmp_path / f"{made.id}.info").exists()


@MODES
async def test_F16_a_final_may_come_again_after_it_went_and_expires_all_the_same(
    tmp_path: Path, is_durable: bool
) -> None:
    """Its id is the same each time; so what was noted of the first must not hide the second."""
    store = DiskStore(tmp_path, is_durable=is_durable)
    store.prepare()
    final = _upload(new_id(), partials=(new_id(),), state=State.ASSEMBLING)
    for _ in range(3):
        await (await store.create(final)).close()
        with pytest.raises(FileExistsError):
            await store.create(final)
        assert marked(tmp_path) == {final.id}
        assert [each.id async for each in store.unfinished()] == [final.id]
        await store.terminate(final.id)
        assert marked(tmp_path) == set()
        assert leftovers(tmp_path) == []


async def test_marks_of_an_earlier_version_stay_valid(tmp_path: Path) -> None:
    uploads = server(tmp_path, is_durable=False)
    made = await _create(uploads)
    for each in (tmp_path / ".tusd-py/journals").iterdir():
        each.unlink()
    mark = tmp_path / ".tusd-py/unfinished" / made.id
    mark.touch()
    later = server(tmp_path, is_durable=False)
    assert [each.id async for each in later._store.unfinished()] == [made.id]
    assert (await later.append(Append(made.id, 0), body(DATA))).is_available
    await later.sweep()
    assert not mark.exists()


@MODES
async def test_an_addition_that_cannot_be_noted_makes_nothing(tmp_path: Path, is_durable: bool) -> None:
    uploads = server(tmp_path, is_durable=is_durable)
    journals = tmp_path / ".tusd-py/journals"
    journals.rename(tmp_path / "aside")
    with pytest.raises(BackendError):
        await _create(uploads)
    (tmp_path / "aside").rename(journals)
    assert [*tmp_path.glob("*.info")] == []
    await _create(uploads)
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("is_replaced", [False, True], ids=["gone", "unmounted"])
async def test_nothing_is_made_beside_a_directory_that_is_gone(tmp_path: Path, is_replaced: bool) -> None:
    uploads = server(tmp_path / "uploads", is_durable=False)
    made = await _create(uploads)
    (tmp_path / "uploads").rename(tmp_path / "away")
    if is_replaced:
        (tmp_path / "uploads").mkdir()
    with pytest.raises(BackendError):
        await _create(uploads)
    with pytest.raises(BackendError):
        await uploads.sweep()
    if is_replaced:
        assert [*(tmp_path / "uploads").iterdir()] == []
        (tmp_path / "uploads").rmdir()
    (tmp_path / "away").rename(tmp_path / "uploads")
    await _create(uploads)
    assert (await uploads.append(Append(made.id, 0), body(DATA))).is_available
    await uploads.sweep()
    assert leftovers(tmp_path / "uploads") == []


@MODES
async def test_F26_F27_dying_at_any_call_of_a_removal_leaves_what_the_sweep_removes(
    tmp_path: Path, is_durable: bool
) -> None:
    for is_finished in (True, False):
        for at in range(1, 15):
            path = tmp_path / f"{is_finished}-{at}"
            first = server(path, is_durable=is_durable)
            made = await _create(first)
            await first.append(Append(made.id, 0), body(DATA if is_finished else DATA[:10]))
            with file_calls(Fault(at, Crash())):
                try:
                    await first.terminate(made.id)
                except Crash:
                    pass
                else:
                    assert at > 8
            second = server(path, is_durable=is_durable)
            await second.sweep()
            assert leftovers(path) == []
