"""Records and what is remembered of them: always what stands in the file, never what stood there."""

from __future__ import annotations

import os
import types
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scenario import server

from tusd_py.core.body import Body
from tusd_py.core.commands import Append, Create
from tusd_py.core.upload import Metadata, State, Upload, UploadId, new_id
from tusd_py.errors import RequestError
from tusd_py.stores.disk import DiskStore, files
from tusd_py.stores.disk.record import Record, RecordCache

IDS = st.from_regex(r"\A[A-Za-z0-9_-]{1,128}\Z").map(UploadId)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=50)
UPLOADS = st.builds(
    Upload,
    id=IDS,
    length=st.none() | st.integers(0, 2**62),
    metadata=st.builds(Metadata, TEXTS, st.dictionaries(TEXTS, TEXTS, max_size=5)),
    offset=st.integers(0, 2**62),
    state=st.sampled_from(State),
    is_partial=st.booleans(),
    concat=st.none() | TEXTS,
    partials=st.lists(IDS, max_size=3).map(tuple),
    created_at=st.floats(0, 1e11),
    expire_after_seconds=st.none() | st.floats(0, 1e11),
)
RECORDS = st.builds(
    Record, UPLOADS, boot=st.none() | TEXTS, is_unverified=st.booleans(), finishes_by_size=st.booleans()
)


@given(RECORDS)
def test_a_record_comes_back_as_it_was(record: Record) -> None:
    text = record.encode("/some/where")
    assert Record.decode(text) == record
    assert Record.decode(text).encode("/some/where") == text


@given(RECORDS, st.integers(0, 2**62), st.booleans())
def test_only_a_trusted_size_finishes(record: Record, size: int, is_whole: bool) -> None:
    size = record.upload.length if is_whole and record.upload.length is not None else size
    seen = record.seen(size)
    if record.upload.is_available:
        assert seen == record
    elif seen.upload.is_available:
        assert (record.boot, record.is_unverified, record.finishes_by_size) == (None, False, True)
        assert seen.upload.offset == size == record.upload.length
    else:
        assert seen == record


def test_a_cached_record_is_that_of_the_text_and_no_other() -> None:
    cache = RecordCache()
    one = Record(Upload(new_id(), 5))
    two = replace(one, is_unverified=True)
    cache.keep(one.encode("/a"), one)
    assert cache.get(one.upload.id, one.encode("/a")) is one
    assert cache.get(one.upload.id, two.encode("/a")) is None
    assert cache.get(new_id(), one.encode("/a")) is None
    cache.keep(two.encode("/a"), two)
    assert cache.get(one.upload.id, one.encode("/a")) is None
    assert cache.get(one.upload.id, two.encode("/a")) is two


def test_the_cache_is_bounded_in_number_and_size() -> None:
    cache = RecordCache(100)
    for _ in range(1000):
        record = Record(Upload(new_id(), 5))
        cache.keep(record.encode("/a"), record)
        assert cache.get(record.upload.id, record.encode("/a")) is record
        assert len(cache._young) + len(cache._old) <= 100
    long = Record(Upload(new_id(), 5, Metadata("x" * 5000)))
    cache.keep(long.encode("/a"), long)
    assert cache.get(long.upload.id, long.encode("/a")) is None


def _store(path: Path) -> DiskStore:
    store = DiskStore(path, is_durable=False)
    store.prepare()
    return store


@pytest.mark.anyio
@pytest.mark.parametrize("size", [10, 3500, 4096, 20_000])
async def test_a_record_of_any_length_is_read_whole(tmp_path: Path, size: int) -> None:
    for length in range(size, size + 8):
        made = Upload(new_id(), 5, Metadata("x" * length, {"x": "y" * length}))
        await (await _store(tmp_path).create(made)).close()
        assert (await _store(tmp_path).read(made.id)).metadata == made.metadata


@pytest.mark.anyio
async def test_what_another_process_writes_is_read_at_once(tmp_path: Path) -> None:
    """Also when the cache knows the record well."""
    here, there = server(tmp_path, is_durable=False), server(tmp_path, is_durable=True)
    upload_id = (await here.create(Create(None), Body.__new__(Body))).id
    for offset in range(5):
        await there.append(Append(upload_id, offset), _body(b"x"))
        assert (await here.find(upload_id)).offset == offset + 1
    await there._store.declare_length(upload_id, 9)
    assert (await here.find(upload_id)).length == 9
    await there.terminate(upload_id)
    with pytest.raises(RequestError):
        await here.find(upload_id)


@pytest.mark.anyio
async def test_record_and_size_are_of_one_moment(tmp_path: Path) -> None:
    """Between reading the record and looking at the data, a body that may be refused begins and fills the file."""
    store = _store(tmp_path)
    made = Upload(new_id(), 5)
    await (await store.create(made)).close()
    own = store._disk.files
    stat, is_first = os.stat, True

    def interfere(path: str) -> os.stat_result:
        nonlocal is_first
        if is_first and path == f"{tmp_path}/{made.id}":
            is_first = False
            own.write_record(replace(own.read_own_record(made.id), is_unverified=True))
            (tmp_path / made.id).write_bytes(b"wrong")
        return stat(path)

    with mock.patch.object(files, "os", types.SimpleNamespace(**vars(os) | {"stat": interfere})):
        found = await store.read(made.id)
    assert not is_first
    assert (found.offset, found.is_available) == (0, False)


def _body(data: bytes) -> Body:
    from scenario import Bytes

    return Body(Bytes(data))
