"""What the file calls of a small upload are: nothing is removed or renamed, since that makes creations slow for seconds
(ext4 avoids the inodes of what was deleted lately), and nothing is looked at twice.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from scenario import Bytes, Crash, Fault, file_calls, server

from tusd_py.core.body import Body
from tusd_py.core.commands import Append, Create
from tusd_py.core.upload import UploadId
from tusd_py.core.uploads import Uploads

pytestmark = pytest.mark.anyio

DATA = b"x" * 4096
CREATION = ["stat", "write", "open", "open", "pwrite", "close"]
"""The journal is looked for and written, then data and record."""


def body(data: bytes) -> Body:
    return Body(Bytes(data))


async def _create(uploads: Uploads, *, has_body: bool) -> UploadId:
    command = Create(len(DATA), has_body=has_body, content_length=len(DATA) if has_body else None)
    return (await uploads.create(command, body(DATA if has_body else b""))).id


@pytest.fixture
async def uploads(tmp_path: Path) -> Uploads:
    made = server(tmp_path, is_durable=False)
    await _create(made, has_body=True)  # begins the journal
    return made


async def test_the_calls_of_a_creation(uploads: Uploads) -> None:
    fault = Fault(None, Crash())
    with file_calls(fault):
        await _create(uploads, has_body=False)
    assert fault.calls == [*CREATION, "close"]


async def test_the_calls_of_a_creation_with_the_upload(uploads: Uploads) -> None:
    fault = Fault(None, Crash())
    with file_calls(fault):
        await _create(uploads, has_body=True)
    assert fault.calls == [*CREATION, "pwrite", "write", "close"]


async def test_the_calls_of_an_append_that_completes(uploads: Uploads) -> None:
    upload_id = await _create(uploads, has_body=False)
    fault = Fault(None, Crash())
    with file_calls(fault):
        await uploads.append(Append(upload_id, 0), body(DATA))
    assert fault.calls == ["open", "pread", "close", "open", "fstat", "pwrite", "write", "close"]


async def test_the_calls_of_a_look(uploads: Uploads) -> None:
    upload_id = await _create(uploads, has_body=False)
    fault = Fault(None, Crash())
    with file_calls(fault):
        await uploads.find(upload_id)
    assert fault.calls == ["open", "pread", "stat", "stat", "fstat", "close"]


async def test_what_a_power_cut_must_not_take_is_synced_in_order_and_once(tmp_path: Path) -> None:
    """The journal before data that only it tells of, data before the record that counts it, the record before its name,
    names before the answer."""
    made = server(tmp_path, is_durable=True)
    await _create(made, has_body=True)
    with file_calls(fault := Fault(None, Crash())):
        await _create(made, has_body=True)
    record = ["open", "pwrite", "fsync", "rename", "close"]
    names, notes = ["open", "fsync", "close"], ["fdatasync"]
    mark = ["write"]
    expected = [*mark, "open", *notes, "pwrite", "fdatasync", *record, *names, *mark, "close"]
    assert _without_looks(fault.calls) == expected
    upload_id = await _create(made, has_body=False)
    with file_calls(fault := Fault(None, Crash())):
        await made.append(Append(upload_id, 0), body(DATA))
    expected = ["open", "pread", "close", "open", "pwrite", "fdatasync", *record, *names, *mark, "close"]
    assert _without_looks(fault.calls) == expected


def _without_looks(calls: list[str]) -> list[str]:
    return [each for each in calls if each not in ("stat", "fstat")]


@pytest.mark.parametrize("is_durable", [True, False], ids=["power", "process"])
async def test_a_finished_upload_costs_the_sweep_nothing(tmp_path: Path, is_durable: bool) -> None:
    counts = []
    for finished in (1, 30):
        path = tmp_path / str(finished)
        uploads = server(path, is_durable=is_durable)
        await _create(uploads, has_body=False)
        for _ in range(finished):
            await _create(uploads, has_body=True)
        fault = Fault(None, Crash())
        with file_calls(fault):
            await uploads.sweep()
        counts.append(fault.count)
    assert counts[0] == counts[1]
