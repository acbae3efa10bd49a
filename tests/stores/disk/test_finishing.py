"""An upload that its size finishes: available with its last byte, said once, and in no crash too early."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
from pathlib import Path
from unittest import mock

import anyio
import pytest
from scenario import Bytes, Crash, Fault, Paused, file_calls, leftovers, marked, server

from tusd_py.core.body import Body
from tusd_py.core.checksum import Checksum
from tusd_py.core.commands import Append, Create
from tusd_py.core.upload import State, UploadId
from tusd_py.core.uploads import Uploads
from tusd_py.errors import BackendError, RequestError

pytestmark = pytest.mark.anyio

DATA = os.urandom(600_000)
WRONG = Checksum("sha1", hashlib.sha1(b"no").digest())
RIGHT = Checksum("sha1", hashlib.sha1(DATA).digest())


def body(data: bytes) -> Body:
    return Body(Bytes(data))


def record_of(path: Path, upload_id: UploadId) -> dict[str, object]:
    return json.loads((path / f"{upload_id}.info").read_bytes())["TusdPy"]


async def _create(uploads: Uploads, length: int | None = len(DATA)) -> UploadId:
    return (await uploads.create(Create(length), body(b""))).id


async def _append_only(uploads: Uploads, upload_id: UploadId, a_body: Body) -> None:
    """As a process that dies before it can finish."""
    stored = await uploads._store.open(upload_id)
    await stored.append(a_body)
    await stored.close()


async def test_finishing_writes_no_record(tmp_path: Path) -> None:
    uploads, other = server(tmp_path, is_durable=False), server(tmp_path, is_durable=True)
    upload_id = await _create(uploads)
    before = (tmp_path / f"{upload_id}.info").stat()
    for start, end in ((0, 200_000), (200_000, 599_999)):
        found = await uploads.append(Append(upload_id, start), body(DATA[start:end]))
        assert (found.offset, found.is_available) == (end, False)
        assert not (await other.find(upload_id)).is_available
    stored = await uploads._store.open(upload_id)
    await stored.append(body(DATA[-1:]))
    assert stored.upload.has_all_bytes
    assert not stored.upload.is_available  # nobody has said so here
    assert (await other.find(upload_id)).is_available
    await stored.finish()
    assert stored.upload.is_available
    await stored.close()
    after = (tmp_path / f"{upload_id}.info").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert marked(tmp_path) == set()
    assert b"".join([bytes(piece) async for piece in other.read_range(upload_id, 0, len(DATA))]) == DATA


async def test_others_see_only_what_is_true_while_it_is_written(tmp_path: Path) -> None:
    uploads, other = server(tmp_path, is_durable=False), server(tmp_path, is_durable=False)
    upload_id = await _create(uploads)
    source = Paused(DATA[:-1])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(uploads.append, Append(upload_id, 0), Body(source))
        await source.is_over.wait()
        found = await other.find(upload_id)
        assert found.state is State.RECEIVING
        assert 0 < found.offset < len(DATA)
        assert found.is_settled
        source.go_on.set()
    source = Paused(DATA[-1:])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(uploads.append, Append(upload_id, len(DATA) - 1), Body(source))
        await source.is_over.wait()
        assert (await other.find(upload_id)).offset == len(DATA) - 1  # gathered, not written
        source.go_on.set()
    assert (await other.find(upload_id)).is_available


def finished_said(caplog: pytest.LogCaptureFixture, upload_id: UploadId) -> int:
    return sum(f"UploadFinished id={upload_id}" in each.getMessage() for each in caplog.records)


async def test_F32_finished_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tusd_py.uploads")
    uploads, other = server(tmp_path, is_durable=False), server(tmp_path, is_durable=False)
    upload_id = await _create(uploads)
    await uploads.append(Append(upload_id, 0), body(DATA[:-1]))
    assert finished_said(caplog, upload_id) == 0
    assert (await uploads.append(Append(upload_id, len(DATA) - 1), body(DATA[-1:]))).is_available
    for each in (uploads, other):
        assert (await each.inspect(upload_id)).is_available
        assert (await each.append(Append(upload_id, len(DATA)), body(b""))).is_available
        await each.sweep()
    assert finished_said(caplog, upload_id) == 1
    whole = await uploads.create(Create(3, has_body=True, content_length=3), body(b"abc"))
    empty = await uploads.create(Create(0), body(b""))
    for each in (whole, empty):
        assert each.is_available
        assert (await other.inspect(each.id)).is_available
        assert finished_said(caplog, each.id) == 1
    await uploads.sweep()
    assert leftovers(tmp_path) == []


async def test_F1_all_bytes_written_and_nothing_said_is_available_after_the_crash(tmp_path: Path) -> None:
    uploads = server(tmp_path, is_durable=False)
    upload_id = await _create(uploads)
    await _append_only(uploads, upload_id, body(DATA))
    assert marked(tmp_path) == {upload_id}
    second = server(tmp_path, is_durable=False)
    assert (await second.inspect(upload_id)).is_available
    assert (await second.append(Append(upload_id, len(DATA)), body(b""))).is_available
    assert await second.sweep() == 0
    assert marked(tmp_path) == set()
    assert (await second.inspect(upload_id)).is_available


@pytest.mark.parametrize("is_trailing", [False, True], ids=["checksum", "trailer"])
async def test_F11_the_last_bytes_of_a_body_that_may_be_discarded_finish_nothing(
    tmp_path: Path, is_trailing: bool
) -> None:
    uploads, other = server(tmp_path, is_durable=False), server(tmp_path, is_durable=False)
    upload_id = await _create(uploads)
    source = Paused(DATA, WRONG if is_trailing else None)
    async with anyio.create_task_group() as tasks:

        async def append() -> None:
            a_body = Body(source, may_trail=True) if is_trailing else Body(source, checksum=WRONG)
            with pytest.raises(RequestError):
                await uploads.append(Append(upload_id, 0), a_body)

        tasks.start_soon(append)
        await source.is_over.wait()
        (tmp_path / upload_id).write_bytes(DATA)  # as if nothing were gathered
        for each in (other, server(tmp_path, is_durable=True)):
            found = await each.find(upload_id)
            assert (found.offset, found.is_available) == (0, False)
        source.go_on.set()
    found = await other.inspect(upload_id)
    assert (found.offset, found.is_available) == (0, False)
    assert (await other.append(Append(upload_id, 0), body(DATA))).is_available


@pytest.mark.parametrize("is_durable", [True, False], ids=["power", "process"])
async def test_F11_dying_at_any_call_of_a_refused_last_body_makes_nothing_available(
    tmp_path: Path, is_durable: bool
) -> None:
    """It fills the file; the crash may leave those bytes there, unverified."""
    for at in range(1, 40):
        path = tmp_path / str(at)
        first = server(path, is_durable=False)
        upload_id = await _create(first)
        await first.append(Append(upload_id, 0), body(DATA[:10]))
        is_over = False
        with file_calls(Fault(at, Crash())):
            try:
                await first.append(Append(upload_id, 10), Body(Bytes(DATA[10:]), checksum=WRONG))
            except Crash:
                pass
            except RequestError:
                is_over = True
        for each in (server(path, is_durable=is_durable), server(path, is_durable=not is_durable)):
            found = await each.find(upload_id)
            assert (found.offset, found.is_available) == (10, False)
            found = await each.inspect(upload_id)
            assert (found.offset, found.is_available) == (10, False)
        uploads = server(path, is_durable=is_durable)
        assert (await uploads.append(Append(upload_id, 10), body(DATA[10:]))).is_available
        assert (path / upload_id).read_bytes() == DATA
        if is_over:
            return
    pytest.fail("there were more calls")


async def test_after_a_verified_body_the_size_finishes_again(tmp_path: Path) -> None:
    uploads = server(tmp_path, is_durable=False)
    upload_id = await _create(uploads)
    piece = DATA[:1000]
    checksum = Checksum("sha1", hashlib.sha1(piece).digest())
    await uploads.append(Append(upload_id, 0), Body(Bytes(piece), checksum=checksum))
    before = (tmp_path / f"{upload_id}.info").stat().st_ino
    assert (await uploads.append(Append(upload_id, 1000), body(DATA[1000:]))).is_available
    assert (tmp_path / f"{upload_id}.info").stat().st_ino == before
    assert (await server(tmp_path, is_durable=False).inspect(upload_id)).is_available


async def test_a_last_body_with_a_checksum_is_finished_by_its_record(tmp_path: Path) -> None:
    uploads = server(tmp_path, is_durable=False)
    upload_id = await _create(uploads)
    assert (await uploads.append(Append(upload_id, 0), Body(Bytes(DATA), checksum=RIGHT))).is_available
    assert record_of(tmp_path, upload_id)["State"] == "available"


@pytest.mark.parametrize("is_first_durable", [True, False], ids=["power-first", "process-first"])
@pytest.mark.parametrize("is_crashed", [True, False], ids=["crashed", "orderly"])
async def test_between_durabilities_nothing_is_available_that_power_did_not_finish(
    tmp_path: Path, is_first_durable: bool, is_crashed: bool
) -> None:
    upload_id = await _create(server(tmp_path, is_durable=is_first_durable))
    process, power = server(tmp_path, is_durable=False), server(tmp_path, is_durable=True)
    await process.append(Append(upload_id, 0), body(DATA[:1000]))
    await power.append(Append(upload_id, 1000), body(DATA[1000:2000]))
    if is_crashed:
        await _append_only(power, upload_id, body(DATA[2000:]))
        for each in (process, power):
            assert not (await each.find(upload_id)).is_available
        assert (await power.inspect(upload_id)).is_available
    else:
        assert (await power.append(Append(upload_id, 2000), body(DATA[2000:]))).is_available
    assert record_of(tmp_path, upload_id)["State"] == "available"
    for each in (process, power):
        assert (await each.inspect(upload_id)).is_available
        await each.sweep()
    assert leftovers(tmp_path) == []


async def test_process_goes_on_by_size_where_power_left_off(tmp_path: Path) -> None:
    upload_id = await _create(server(tmp_path, is_durable=False))
    await server(tmp_path, is_durable=True).append(Append(upload_id, 0), body(DATA[:1000]))
    process = server(tmp_path, is_durable=False)
    await process.append(Append(upload_id, 1000), body(DATA[1000:2000]))
    before = (tmp_path / f"{upload_id}.info").stat().st_ino
    assert (await process.append(Append(upload_id, 2000), body(DATA[2000:]))).is_available
    assert (tmp_path / f"{upload_id}.info").stat().st_ino == before


async def test_who_wants_a_say_finishes_by_a_record(tmp_path: Path) -> None:
    uploads = server(tmp_path, is_durable=False, finishes_by_size=False)
    upload_id = await _create(uploads)
    await _append_only(uploads, upload_id, body(DATA))
    for each in (uploads, server(tmp_path, is_durable=False), server(tmp_path, is_durable=True)):
        assert not (await each.find(upload_id)).is_available
    assert (await uploads.inspect(upload_id)).is_available
    assert record_of(tmp_path, upload_id)["State"] == "available"


async def test_who_wants_a_say_has_it_in_uploads_begun_before(tmp_path: Path) -> None:
    upload_id = await _create(server(tmp_path, is_durable=False))
    uploads = server(tmp_path, is_durable=False, finishes_by_size=False)
    await _append_only(uploads, upload_id, body(DATA))
    for each in (uploads, server(tmp_path, is_durable=False)):
        assert not (await each.find(upload_id)).is_available
    assert (await uploads.inspect(upload_id)).is_available
    assert record_of(tmp_path, upload_id)["State"] == "available"


async def test_a_deferred_upload_is_finished_by_its_record(tmp_path: Path) -> None:
    uploads = server(tmp_path, is_durable=False)
    upload_id = await _create(uploads, None)
    await uploads.append(Append(upload_id, 0), body(DATA))
    await uploads._store.declare_length(upload_id, len(DATA))
    assert not (await uploads.find(upload_id)).is_available
    assert (await uploads.inspect(upload_id)).is_available
    assert record_of(tmp_path, upload_id)["State"] == "available"


async def test_an_upload_that_tusd_goes_on_with_is_available_when_it_is_whole(tmp_path: Path) -> None:
    """tusd writes the bytes and no record; or one of its own, which knows nothing of ours."""
    uploads = server(tmp_path, is_durable=False)
    for is_rewritten in (False, True):
        upload_id = await _create(uploads)
        await uploads.append(Append(upload_id, 0), body(DATA[:1000]))
        path = tmp_path / f"{upload_id}.info"
        if is_rewritten:
            record = json.loads(path.read_text())
            del record["TusdPy"]
            path.write_text(json.dumps(record))
        with (tmp_path / upload_id).open("ab") as file:
            file.write(DATA[1000:])
        assert (await uploads.inspect(upload_id)).is_available
        await uploads.sweep()
        assert marked(tmp_path) == set()


async def test_E2_what_waits_for_its_last_byte_expires_and_what_has_it_does_not(tmp_path: Path) -> None:
    uploads = server(tmp_path, is_durable=False)
    whole, part = await _create(uploads), await _create(uploads)
    await uploads.append(Append(whole, 0), body(DATA))
    await uploads.append(Append(part, 0), body(DATA[:-1]))
    for upload_id in (whole, part):
        path = tmp_path / f"{upload_id}.info"
        path.write_text(path.read_text().replace('"ExpireAfterSeconds":3600', '"ExpireAfterSeconds":-1e9'))
    assert await uploads.sweep() == 1
    assert (await uploads.inspect(whole)).expires_at is None
    with pytest.raises(RequestError):
        await uploads.inspect(part)
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("is_creation", [True, False], ids=["creation", "append"])
async def test_last_bytes_that_the_disk_refuses_never_count(tmp_path: Path, is_creation: bool) -> None:
    """The kernel tells of an fsync that failed only once, so what it was for is cut, not trusted later."""
    uploads = server(tmp_path, is_durable=True)
    refused = mock.Mock(side_effect=OSError(errno.EIO, "broken"))
    if is_creation:
        with mock.patch("os.fdatasync", refused), pytest.raises(BackendError):
            await uploads.create(Create(len(DATA), has_body=True, content_length=len(DATA)), body(DATA))
    else:
        upload_id = await _create(uploads)
        await uploads.append(Append(upload_id, 0), body(DATA[:4]))
        with mock.patch("os.fdatasync", refused), pytest.raises(BackendError):
            await uploads.append(Append(upload_id, 4), body(DATA[4:]))
        assert (tmp_path / upload_id).read_bytes() == DATA[:4]
        assert (await server(tmp_path, is_durable=True).inspect(upload_id)).offset == 4
        assert (await uploads.append(Append(upload_id, 4), body(DATA[4:]))).is_available
        assert (tmp_path / upload_id).read_bytes() == DATA
    assert refused.called
    assert leftovers(tmp_path) == []
