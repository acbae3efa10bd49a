"""An answered offset never goes down: not in a body that may be discarded, not when the durability is changed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import anyio
import pytest
from scenario import Bytes, Paused, server

from tusd_py.core.body import Body
from tusd_py.core.checksum import Checksum
from tusd_py.core.commands import Append, Concatenate, Create
from tusd_py.core.upload import UploadId
from tusd_py.errors import BackendError, RequestError

pytestmark = pytest.mark.anyio

DATA = os.urandom(1_000_000)
MODES = pytest.mark.parametrize("is_durable", [True, False], ids=["power", "process"])


def body(data: bytes) -> Body:
    return Body(Bytes(data))


@MODES
async def test_S4_nobody_is_told_an_offset_inside_a_body_that_a_trailer_may_spoil(
    tmp_path: Path, is_durable: bool
) -> None:
    uploads, other = server(tmp_path, is_durable=is_durable), server(tmp_path, is_durable=is_durable)
    upload_id = (await uploads.create(Create(len(DATA)), body(b""))).id
    source = Paused(DATA[:600_000], Checksum("sha1", hashlib.sha1(b"no").digest()))
    async with anyio.create_task_group() as tasks:

        async def append() -> None:
            with pytest.raises(RequestError):
                await uploads.append(Append(upload_id, 0), Body(source, may_trail=True))

        tasks.start_soon(append)
        await source.is_over.wait()
        assert (await other.find(upload_id)).offset == 0
        source.go_on.set()
    assert (await other.inspect(upload_id)).offset == 0
    assert (await uploads.append(Append(upload_id, 0), Body(Bytes(DATA), may_trail=True))).is_available


@pytest.mark.parametrize("first", [True, False], ids=["power-first", "process-first"])
async def test_changing_the_durability_loses_no_answered_offset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: bool
) -> None:
    upload_id: UploadId | None = None
    answered = 0
    for number in range(4):
        uploads = server(tmp_path, is_durable=first == (number % 2 == 0))
        if upload_id is None:
            upload_id = (await uploads.create(Create(len(DATA)), body(b""))).id
        assert (await uploads.find(upload_id)).offset >= answered
        piece = DATA[answered : answered + 100_000]
        answered = (await uploads.append(Append(upload_id, answered), body(piece))).offset
        others = [server(tmp_path, is_durable=each) for each in (True, False)]
        assert [(await each.find(upload_id)).offset for each in others] == [answered, answered]
    for module in ("store", "stored"):
        monkeypatch.setattr(f"tusd_py.stores.disk.{module}.boot_id", lambda: "another")  # an orderly reboot
    uploads = server(tmp_path, is_durable=True)
    assert upload_id is not None
    assert (await uploads.inspect(upload_id)).offset == answered
    assert (await uploads.append(Append(upload_id, answered), body(DATA[answered:]))).is_available


async def test_F16_a_work_folder_that_is_gone_is_a_failure_and_removes_no_final(tmp_path: Path) -> None:
    """Only a partial that is gone ends a final for good."""
    uploads = server(tmp_path, is_durable=True)
    part = Create(5, is_partial=True, concat="partial", has_body=True, content_length=5)
    one = (await uploads.create(part, body(b"hello"))).id
    two = (await uploads.create(Create(5, is_partial=True, concat="partial"), body(b""))).id
    final = (await uploads.concatenate(Concatenate((one, two), "final;a b"))).id
    stored = await uploads._store.open(two)
    await stored.append(body(b"world"))
    await stored.finish()
    await stored.close()
    temporary = tmp_path / ".tusd-py/tmp"
    temporary.rename(tmp_path / "aside")
    with pytest.raises(BackendError):
        await uploads.inspect(final)
    (tmp_path / "aside").rename(temporary)
    assert (await uploads.inspect(final)).is_available


@MODES
async def test_E2_an_upload_in_use_does_not_expire_by_its_age(tmp_path: Path, is_durable: bool) -> None:
    uploads = server(tmp_path, is_durable=is_durable)
    made = await uploads.create(Create(len(DATA)), body(b""))
    record = tmp_path / f"{made.id}.info"
    record.write_text(record.read_text().replace(f'"CreatedAt":{made.created_at}', '"CreatedAt":1.0'))
    after = await uploads.append(Append(made.id, 0), body(DATA[:10]))
    assert after.expires_at is not None
    assert after.expires_at > made.created_at + 3500
    assert await uploads.sweep() == 0
