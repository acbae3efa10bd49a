"""The state of an upload as bytes and back."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tusd_py.core.upload import Metadata, State, Upload, UploadId
from tusd_py.stores.s3.record import FINISHED_MULTIPLE, Record

texts = st.text(st.characters(codec="utf-8"), max_size=20)
runs = st.lists(st.integers(1, 9_999), max_size=20, unique=True).map(sorted)


@st.composite
def records(draw: st.DrawFn) -> Record:
    state = draw(st.sampled_from(State))
    tail_start, tail_bytes = draw(st.integers(0, 1 << 50)), draw(st.integers(0, 1 << 23))
    if state is State.AVAILABLE:
        tail_bytes = 0
    metadata = draw(st.dictionaries(texts, texts, max_size=3))
    upload = Upload(
        id=UploadId("abc"),
        length=draw(st.none() | st.integers(0, 1 << 50)),
        metadata=Metadata(draw(st.text(st.characters(max_codepoint=255), max_size=20)), metadata),
        offset=tail_start + tail_bytes,
        state=state,
        is_partial=draw(st.booleans()),
        concat=draw(st.none() | texts),
        partials=tuple(draw(st.lists(st.sampled_from([UploadId("p1"), UploadId("p2")]), max_size=3))),
        created_at=draw(st.floats(0, 4e9)),
        touched_at=draw(st.floats(0, 4e9)),
        expire_after_seconds=draw(st.none() | st.floats(0, 1e9)),
        is_named=draw(st.booleans()),
        place=draw(texts),
        is_heard=draw(st.booleans()),
    )
    empty = Record(upload, upload.place)
    return replace(
        empty,
        token=draw(texts),
        sequence=draw(st.integers(0, 1 << 40)),
        multipart=draw(st.none() | texts),
        parts=empty.with_parts(draw(runs)),
        next_number=draw(st.integers(1, 10_001)),
        window=draw(st.integers(0, 16)),
        tail_start=tail_start,
        tail_bytes=tail_bytes,
        crc=draw(st.none() | st.integers(0, (1 << 64) - 1)),
        is_terminated=draw(st.booleans()),
        is_owing=draw(st.booleans()),
    )


@given(records())
def test_a_record_reads_back_as_it_was_written(record: Record) -> None:
    line = record.encode("bucket")
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert Record.decode(line[:-1]) == record


@given(records())
def test_its_size_tells_whether_anything_is_left_to_do_about_the_upload(record: Record) -> None:
    size = len(record.encode("bucket")) + record.tail_bytes
    assert (size % FINISHED_MULTIPLE == 0) == (record.upload.is_available and not record.is_owing)


@given(runs)
def test_runs_are_the_numbers_in_short(numbers: list[int]) -> None:
    empty = Record(Upload(UploadId("a"), 1), "a")
    record = replace(empty, parts=empty.with_parts(numbers))
    assert record.numbers == numbers
    assert all(a <= b < c - 1 for (a, b), (c, _) in zip(record.parts, record.parts[1:], strict=False))


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b"null", b'{"ID":"a"}', b"\xff", b'{"ID":"../a","TusdPy":{}}'])
def test_what_is_no_record_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        Record.decode(text)


def test_a_damaged_list_of_parts_is_refused() -> None:
    line = replace(Record(Upload(UploadId("a"), 1), "a"), parts=((1, 3),)).encode("b")
    with pytest.raises(ValueError, match="numbers of parts"):
        Record.decode(line.replace(b'"1-3"', b'"1-x"'))
