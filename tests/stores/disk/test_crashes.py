"""The process dies, or the disk fails, at every single file call of an upload (failures F1, F9, F11, F12).

After each: no acknowledged byte is lost, the upload goes on, the content is equal, nothing is left behind.
"""

from __future__ import annotations

import errno
import json
import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from unittest import mock

import anyio
import pytest
from scenario import Client, Crash, Fault, file_calls, leftovers, server

from tusd_py.core.body import Body
from tusd_py.core.commands import Append, Concatenate, Create
from tusd_py.core.upload import Metadata
from tusd_py.core.uploads import Uploads
from tusd_py.errors import BackendError, RequestError, TusError

pytestmark = pytest.mark.anyio

DATA = os.urandom(700_001)
CHUNK = 300_000
MODES = pytest.mark.parametrize("is_durable", [True, False], ids=["power", "process"])
CHECKSUMS = pytest.mark.parametrize("checksummed", [False, True], ids=["plain", "checksummed"])


async def _count_calls(path: Path, client: Client, *, is_durable: bool) -> int:
    fault = Fault(None, Crash())
    uploads = server(path, is_durable=is_durable)
    with file_calls(fault):
        await client.send(uploads)
    return fault.count


@MODES
@CHECKSUMS
async def test_F1_F11_F12_dying_at_any_call_loses_no_acknowledged_byte(
    tmp_path: Path, is_durable: bool, checksummed: bool
) -> None:
    calls = await _count_calls(tmp_path / "dry", Client(DATA, CHUNK, checksummed=checksummed), is_durable=is_durable)
    assert calls > 20
    for at in range(1, calls + 1):
        path = tmp_path / str(at)
        client = Client(DATA, CHUNK, checksummed=checksummed)
        fault = Fault(at, Crash())
        first = server(path, is_durable=is_durable)
        with file_calls(fault), pytest.raises(Crash):
            await client.send(first)
        second = server(path, is_durable=is_durable)
        await client.send(second)
        await client.verify(second)
        await second.sweep()
        assert leftovers(path) == []


@MODES
@CHECKSUMS
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
async def test_F1_a_disk_that_fails_once_at_any_call_does_no_harm(
    tmp_path: Path, is_durable: bool, checksummed: bool, number: int
) -> None:
    calls = await _count_calls(tmp_path / "dry", Client(DATA, CHUNK, checksummed=checksummed), is_durable=is_durable)
    for at in range(1, calls + 1):
        path = tmp_path / str(at)
        client = Client(DATA, CHUNK, checksummed=checksummed)
        uploads = server(path, is_durable=is_durable)
        with file_calls(Fault(at, OSError(number, os.strerror(number)))):
            try:
                await client.send(uploads)
            except BackendError as error:
                assert error.status == (507 if number == errno.ENOSPC else 500)
                assert str(path) not in error.message
        await client.send(uploads)
        await client.verify(uploads)
        await uploads.sweep()
        assert leftovers(path) == []


@MODES
async def test_F9_strays_after_the_committed_offset_are_cut(tmp_path: Path, is_durable: bool) -> None:
    uploads = server(tmp_path, is_durable=is_durable)
    client = Client(DATA, CHUNK, checksummed=True)
    with file_calls(Fault(None, Crash())) as _:
        pass
    created = await uploads.create(Create(len(DATA)), Body.__new__(Body))
    client.upload_id = created.id
    path = tmp_path / created.id
    path.write_bytes(DATA[:1000])
    second = server(tmp_path, is_durable=is_durable)
    assert (await second.inspect(created.id)).offset == 1000  # written in this boot: the page cache has it
    client.sent = 1000
    await client.send(second)
    await client.verify(second)


async def test_after_a_power_cut_only_committed_bytes_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uploads = server(tmp_path, is_durable=True)
    created = await uploads.create(Create(len(DATA)), Body.__new__(Body))
    client = Client(DATA, CHUNK)
    client.upload_id = created.id
    await uploads.append(Append(created.id, 0, content_length=CHUNK), _body(DATA[:CHUNK]))
    with (tmp_path / created.id).open("ab") as file:
        file.write(bytes(200_000))  # the size reached the disk, the bytes did not
    monkeypatch.setattr("tusd_py.stores.disk.store.boot_id", lambda: "another")
    monkeypatch.setattr("tusd_py.stores.disk.stored.boot_id", lambda: "another")
    rebooted = server(tmp_path, is_durable=True)
    assert (await rebooted.inspect(created.id)).offset == CHUNK
    client.sent = client.acknowledged = CHUNK
    await client.send(rebooted)
    await client.verify(rebooted)


async def test_bytes_that_vanished_are_reported_as_lost(tmp_path: Path) -> None:
    uploads = server(tmp_path, is_durable=True)
    created = await uploads.create(Create(len(DATA)), Body.__new__(Body))
    await uploads.append(Append(created.id, 0, content_length=CHUNK), _body(DATA[:CHUNK]))
    os.truncate(tmp_path / created.id, CHUNK - 1)
    for ask in (uploads.inspect(created.id), uploads.append(Append(created.id, CHUNK), _body(b""))):
        with pytest.raises(RequestError) as error:
            await ask
        assert error.value.status == 404


@MODES
async def test_F12_F16_dying_at_any_call_of_a_concatenation_repeats_it(tmp_path: Path, is_durable: bool) -> None:
    async def partials(uploads: Uploads) -> Concatenate:
        ids = []
        for piece in (DATA[:CHUNK], DATA[CHUNK:]):
            command = Create(len(piece), is_partial=True, concat="partial", has_body=True, content_length=len(piece))
            ids.append((await uploads.create(command, _body(piece))).id)
        return Concatenate(tuple(ids), "final;a b", Metadata("n YQ==", {"n": "a"}))

    fault = Fault(None, Crash())
    uploads = server(tmp_path / "dry", is_durable=is_durable)
    command = await partials(uploads)
    with file_calls(fault):
        await uploads.concatenate(command)
    for at in range(1, fault.count + 1):
        path = tmp_path / str(at)
        first = server(path, is_durable=is_durable)
        command = await partials(first)
        with file_calls(Fault(at, Crash())), pytest.raises((Crash, TusError)):
            await first.concatenate(command)
        second = server(path, is_durable=is_durable)
        final = await second.concatenate(command)  # a client that got no answer asks again
        assert final.is_available
        client = Client(DATA, CHUNK)
        client.upload_id = final.id
        await client.verify(second)
        await second.sweep()
        assert leftovers(path) == []


@MODES
async def test_F12_dying_at_any_call_of_the_last_partial_leaves_no_final_behind(
    tmp_path: Path, is_durable: bool
) -> None:
    async def waiting(uploads: Uploads) -> tuple[Client, Concatenate]:
        client = Client(DATA, len(DATA))
        client.upload_id = (await uploads.create(Create(len(DATA), is_partial=True, concat="partial"), _body(b""))).id
        command = Concatenate((client.upload_id,), "final;a")
        assert not (await uploads.concatenate(command)).is_available
        return client, command

    fault = Fault(None, Crash())
    uploads = server(tmp_path / "dry", is_durable=is_durable)
    client, _ = await waiting(uploads)
    with file_calls(fault):
        await client.send(uploads)
    for at in range(1, fault.count + 1):
        path = tmp_path / str(at)
        first = server(path, is_durable=is_durable)
        client, command = await waiting(first)
        with file_calls(Fault(at, Crash())), pytest.raises(Crash):
            await client.send(first)
        second = server(path, is_durable=is_durable)
        await client.send(second)
        await second.sweep()  # no request asks for the final: what is due is done all the same
        assert leftovers(path) == []
        client.upload_id = (await second.concatenate(command)).id
        await client.verify(second)


@MODES
@pytest.mark.parametrize("size", [len(DATA), 10], ids=["finished", "unfinished"])
@pytest.mark.parametrize("is_elsewhere", [False, True], ids=["beside", "elsewhere"])
async def test_dying_at_any_call_of_a_termination_leaves_all_or_nothing(
    tmp_path: Path, is_durable: bool, size: int, is_elsewhere: bool
) -> None:
    """`elsewhere`: where tusd was told to put the bytes, which only the record says."""

    async def made(path: Path) -> tuple[Uploads, Client, Path]:
        uploads = server(path, is_durable=is_durable, finishes_by_size=False)
        client = Client(DATA[:size], CHUNK)
        client.upload_id = (await uploads.create(Create(len(DATA)), _body(b""))).id
        await uploads.append(Append(client.upload_id, 0, content_length=size), _body(DATA[:size]))
        data = path / client.upload_id
        if is_elsewhere:
            data, files = data.rename(path / "elsewhere"), uploads._store._disk.files
            record = files.read_own_record(client.upload_id)
            record = replace(record, upload=replace(record.upload, place=str(data)))
            await anyio.to_thread.run_sync(files.write_record, record)
        return uploads, client, data

    fault = Fault(None, Crash())
    uploads, client, _ = await made(tmp_path / "dry")
    with file_calls(fault):
        await uploads.terminate(client.upload_id)
    assert leftovers(tmp_path / "dry") == []
    fates = set()
    for at in range(1, fault.count + 1):
        path = tmp_path / str(at)
        first, client, data = await made(path)
        with file_calls(Fault(at, Crash())), suppress(Crash):
            await first.terminate(client.upload_id)
        second = server(path, is_durable=is_durable)
        try:
            assert (await second.inspect(client.upload_id)).offset == size
            fates.add("there")
        except RequestError as error:
            assert error.status == 404
            await second.sweep()
            assert leftovers(path) == []
            assert not data.exists()
            fates.add("gone")
    assert fates == {"there", "gone"}


@MODES
async def test_nothing_that_a_client_sent_says_what_the_sweep_removes(tmp_path: Path, is_durable: bool) -> None:
    """A final died while it was copied, its partial went, and its bytes read like a record that was put aside."""
    uploads = server(tmp_path, is_durable=is_durable)
    victim = await uploads.create(Create(3, has_body=True, content_length=3), _body(b"abc"))
    for number, target in enumerate((tmp_path / victim.id, tmp_path / ".tusd-py", tmp_path / f"{victim.id}.info")):
        final_id = f"{number:032x}"
        text = json.dumps({"ID": final_id, "Size": 1, "MetaData": {}, "Storage": {"Path": str(target)}})
        (tmp_path / f".tusd-py/tmp/{final_id}.00000000").write_text(text)
    await uploads.sweep()
    assert leftovers(tmp_path) == []
    assert (await uploads.inspect(victim.id)).is_available
    assert (tmp_path / victim.id).read_bytes() == b"abc"


async def test_a_leftover_that_cannot_be_removed_keeps_no_other(tmp_path: Path) -> None:
    uploads = server(tmp_path, is_durable=True)
    folder = tmp_path / f".tusd-py/tmp/{0:032x}.00000000"
    folder.mkdir()
    for number in range(1, 9):
        (tmp_path / f".tusd-py/tmp/{number:032x}.00000000").touch()
    assert await uploads.sweep() == 8
    folder.rmdir()
    assert leftovers(tmp_path) == []


async def test_bytes_that_a_repair_cannot_sync_never_count(tmp_path: Path) -> None:
    uploads = server(tmp_path, is_durable=True)
    made = await uploads.create(Create(len(DATA)), _body(b""))
    (tmp_path / made.id).write_bytes(DATA[:1000])  # and the writer was killed
    refused = mock.Mock(side_effect=OSError(errno.EIO, "broken"))
    second = server(tmp_path, is_durable=True)
    with mock.patch("os.fdatasync", refused), pytest.raises(BackendError):
        await second.append(Append(made.id, 1000), _body(DATA[1000:]))
    assert refused.called
    assert (await second.inspect(made.id)).offset == 0
    assert (await second.append(Append(made.id, 0), _body(DATA))).is_available
    assert (tmp_path / made.id).read_bytes() == DATA


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EXDEV])
async def test_what_cannot_be_put_aside_is_removed_all_the_same(tmp_path: Path, number: int) -> None:
    uploads = server(tmp_path, is_durable=True)
    made = await uploads.create(Create(3, has_body=True, content_length=3), _body(b"abc"))
    rename = mock.Mock(side_effect=OSError(number, "no"))
    with mock.patch("tusd_py.stores.disk.files.os.rename", rename):
        await uploads.terminate(made.id)
    assert rename.called
    assert leftovers(tmp_path) == []
    assert not list(tmp_path.glob("*.info"))


def _body(data: bytes) -> Body:
    from scenario import Bytes

    return Body(Bytes(data))
