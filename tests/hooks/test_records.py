"""Uploads and requests as hooks see them, and what hooks may make of an upload."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tusd_py.core.events import Caller, Reply
from tusd_py.core.upload import Metadata, Upload, UploadId
from tusd_py.hooks import records
from tusd_py.hooks.contract import Change, HookError, Response
from tusd_py.stores.memory import MemoryStore

STORE = MemoryStore()
MADE = Upload(
    UploadId("drawn"), 10, Metadata("a Yg==", {"a": "b"}), offset=4, digest="sha256:00", created_at=5.0, is_partial=True
)


def test_a_stored_upload_is_told_whole() -> None:
    told = records.describe(MADE, {"Type": "memory"})
    assert (told.id, told.length, told.offset, told.metadata) == ("drawn", 10, 4, {"a": "b"})
    assert (told.storage, told.digest, told.created_at, told.is_partial) == ({"Type": "memory"}, "sha256:00", 5.0, True)


def test_what_a_hook_writes_into_its_upload_is_not_in_ours() -> None:
    for told in (records.describe(MADE, {}), records.describe_new(MADE)):
        told.metadata["a"] = "changed"  # type: ignore[index]  # types do not keep it from that
    assert MADE.metadata.values == {"a": "b"}


@pytest.mark.parametrize("text", ["\ud800", "a\udcff"])
def test_half_a_character_is_refused(text: str) -> None:
    with pytest.raises(HookError, match=r"HTTPResponse\.Body: .* half a character"):
        records.reply_of(Response(body=text))
    with pytest.raises(HookError, match=r"MetaData, name: .* half a character"):
        records.changed(MADE, Change(metadata={"name": text}), STORE)


def test_a_new_upload_has_no_id_yet() -> None:
    told = records.describe_new(MADE)
    assert (told.id, told.offset, told.length, told.storage) == ("", 0, 10, {})


def test_a_request_is_told_in_tusds_form() -> None:
    caller = Caller("PATCH", "/files/x?a=b", "[::1]:5", [(b"host", b"h"), (b"upload-offset", b"4")])
    told = records.describe_request(caller)
    assert (told.method, told.uri, told.remote_address) == ("PATCH", "/files/x?a=b", "[::1]:5")
    assert told.headers == {"Host": ("h",), "Upload-Offset": ("4",)}
    assert told.header("UPLOAD-offset") == "4"
    assert told.header("cookie") is None


def test_keys_tell_uploads_of_one_id_apart() -> None:
    assert records.key_of(MADE, "post-finish", "h") == "drawn:post-finish:h"
    first = replace(MADE, is_named=True)
    assert records.key_of(first, "post-finish", "h") != records.key_of(
        replace(first, created_at=6.0), "post-finish", "h"
    )


def test_what_a_hook_changes_is_changed_and_nothing_else() -> None:
    changed = records.changed(MADE, Change(id="mine", metadata={"c": "d"}), STORE)
    assert changed == replace(MADE, id="mine", is_named=True, metadata=Metadata("c ZA==", {"c": "d"}))
    assert records.changed(MADE, Change(), STORE) == MADE
    assert records.changed(MADE, Change(metadata={}), STORE).metadata == Metadata()


@pytest.mark.parametrize(
    "change",
    [
        Change(id="a/b"), Change(id="../x"), Change(id="a.info"), Change(id="x" * 129), Change(id="é"),
        Change(metadata={"a b": "c"}), Change(metadata={"": "c"}), Change(metadata={"a,b": "c"}),
        Change(metadata={"é": "c"}), Change(storage={"Path": "x"}),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(change: Change) -> None:
    with pytest.raises(HookError, match="ChangeFileInfo"):
        records.changed(MADE, change, STORE)


def test_a_reply_is_what_the_hook_said() -> None:
    assert records.reply_of(None) is None
    assert records.reply_of(Response(418, {"X-A": "b"}, "tea")) == Reply(418, {"X-A": "b"}, "tea")


@pytest.mark.parametrize(
    "headers",
    [{"X-A": "b\r\nSet-Cookie: c"}, {"X A": "b"}, {"": "b"}, {"X-A": "\N{SNOWMAN}"}, {"Content-Length": "5"},
     {"transfer-encoding": "chunked"}, {"Connection": "close"}],
)  # fmt: skip
def test_a_header_that_would_break_the_answer_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(HookError, match="Header"):
        records.reply_of(Response(headers=headers))
