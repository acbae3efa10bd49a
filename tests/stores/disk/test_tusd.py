"""A directory that tusd wrote is served, and its unfinished uploads go on (records as tusd 2.x writes them)."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from scenario import Bytes, server

from tusd_py.core.body import Body
from tusd_py.core.commands import Append
from tusd_py.core.upload import State, UploadId
from tusd_py.errors import BackendError, RequestError

pytestmark = pytest.mark.anyio

ONE = UploadId("0123456789abcdef0123456789abcdef")
MODES = pytest.mark.parametrize("is_durable", [True, False], ids=["power", "process"])


def write_as_tusd(path: Path, data: bytes, **fields: object) -> None:
    record = {
        "ID": ONE,
        "Size": 10,
        "SizeIsDeferred": False,
        "Offset": 0,
        "MetaData": {"filename": "tést.txt", "empty": ""},
        "IsPartial": False,
        "IsFinal": False,
        "PartialUploads": None,
        "Storage": {"InfoPath": f"elsewhere/{ONE}.info", "Path": f"elsewhere/{ONE}", "Type": "filestore"},
    }
    path.mkdir(exist_ok=True)
    (path / ONE).write_bytes(data)
    (path / f"{ONE}.info").write_text(json.dumps(record | fields))


@MODES
async def test_an_unfinished_upload_of_tusd_goes_on(tmp_path: Path, is_durable: bool) -> None:
    write_as_tusd(tmp_path, b"01234")
    uploads = server(tmp_path, is_durable=is_durable)
    found = await uploads.inspect(ONE)
    assert (found.offset, found.length, found.state) == (5, 10, State.RECEIVING)
    assert found.metadata.raw == "filename dMOpc3QudHh0,empty"
    assert found.expires_at is None
    done = await uploads.append(Append(ONE, 5, content_length=5), Body(Bytes(b"56789")))
    assert done.is_available
    assert (tmp_path / ONE).read_bytes() == b"0123456789"
    record = json.loads((tmp_path / f"{ONE}.info").read_text())
    assert (record["ID"], record["Size"], record["SizeIsDeferred"]) == (ONE, 10, False)  # and tusd reads it again
    assert record["MetaData"] == {"filename": "tést.txt", "empty": ""}


@MODES
async def test_a_finished_upload_of_tusd_is_served_and_not_rewritten(tmp_path: Path, is_durable: bool) -> None:
    write_as_tusd(tmp_path, b"0123456789", PartialUploads=["a", "b"], IsFinal=True)
    before = (tmp_path / f"{ONE}.info").read_bytes()
    uploads = server(tmp_path, is_durable=is_durable)
    found = await uploads.inspect(ONE)
    assert found.is_available
    assert found.is_final
    assert b"".join([bytes(piece) async for piece in uploads.read_range(ONE, 2, 5)]) == b"234"
    await uploads.sweep()
    assert (tmp_path / f"{ONE}.info").read_bytes() == before


async def test_a_deferred_upload_of_tusd_goes_on(tmp_path: Path) -> None:
    write_as_tusd(tmp_path, b"abc", Size=0, SizeIsDeferred=True)
    uploads = server(tmp_path, is_durable=True)
    assert (await uploads.inspect(ONE)).length is None
    done = await uploads.append(Append(ONE, 3, length=3, content_length=0), Body(Bytes(b"")))
    assert done.is_available


@MODES
async def test_sweeping_never_removes_what_tusd_wrote(tmp_path: Path, is_durable: bool) -> None:
    write_as_tusd(tmp_path, b"abc")
    for name in (ONE, f"{ONE}.info"):
        os.utime(tmp_path / name, (1, 1))
    uploads = server(tmp_path, is_durable=is_durable)
    assert await uploads.sweep() == 0
    assert (await uploads.inspect(ONE)).offset == 3


async def test_bytes_where_a_hook_of_tusd_put_them_are_found_inside_the_directory_only(tmp_path: Path) -> None:
    path = tmp_path / "data"
    write_as_tusd(path, b"", Storage={"Type": "filestore", "Path": f"{path}/project/file.bin"})
    (path / ONE).unlink()
    (path / "project").mkdir()
    (path / "project/file.bin").write_bytes(b"0123456789")
    uploads = server(path, is_durable=True)
    assert (await uploads.inspect(ONE)).is_available
    assert b"".join([bytes(piece) async for piece in uploads.read_range(ONE, 0, 3)]) == b"012"
    (tmp_path / "outside.bin").write_bytes(b"0123456789")
    write_as_tusd(path, b"", Storage={"Type": "filestore", "Path": f"{path}/../outside.bin"})
    with pytest.raises(RequestError) as error:
        await uploads.inspect(ONE)
    assert error.value.status == 404


async def test_metadata_keys_of_any_script_come_back_as_their_bytes(tmp_path: Path) -> None:
    write_as_tusd(tmp_path, b"01234", MetaData={"имя": "x", "a b": "dropped", "c\r\nd": "dropped"})
    found = await server(tmp_path, is_durable=True).inspect(ONE)
    assert found.metadata.raw.encode("latin-1").decode() == "имя eA=="


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"ID": "../x"}', '{"ID": 5}', '{"ID":"a","TusdPy":{}}'])
async def test_a_record_that_is_none_is_a_failure_with_a_fixed_text(tmp_path: Path, text: str) -> None:
    write_as_tusd(tmp_path, b"abc")
    (tmp_path / f"{ONE}.info").write_text(text)
    with pytest.raises(BackendError) as error:
        await server(tmp_path, is_durable=True).inspect(ONE)
    assert str(tmp_path) not in error.value.message
