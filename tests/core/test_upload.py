"""The record: ids that can be file names, keys and URL segments, states, and when an upload expires."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tusd_py.core.rules import total_length
from tusd_py.core.upload import State, Upload, UploadId, new_id, parse_id

UPLOAD = Upload(id=UploadId("a"), length=10)
PARTIAL = replace(UPLOAD, is_partial=True)

NO_IDS = {
    "empty": "",
    "129 characters": "a" * 129,
    "dot": "a.info",
    "dots": "..",
    "slash": "a/b",
    "backslash": "a\\b",
    "blank": "a b",
    "line end": "a\n",
    "NUL": "a\x00",
    "percent": "%61",
    "plus": "a+b",
    "colon": "a:b",
    "umlaut": "\xe4",
    "full-width": "\uff41",
    "arabic-indic digit": "\u0665",
}


@pytest.mark.parametrize("text", ["a", "A-_9", "-", "_", "a" * 128, "0" * 32])
def test_F35_ids(text: str) -> None:
    assert parse_id(text) == text


@pytest.mark.parametrize("text", NO_IDS.values(), ids=NO_IDS)
def test_F35_everything_else_is_no_id(text: str) -> None:
    assert parse_id(text) is None


@given(st.text())
def test_F35_property_an_id_is_a_name_without_meaning_to_any_backend(text: str) -> None:
    allowed = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")
    assert (parse_id(text) is not None) == (0 < len(text) <= 128 and set(text) <= allowed)


def test_new_ids_are_ids_and_differ() -> None:
    ids = [new_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert all(parse_id(each) == each and len(each) == 32 for each in ids)


@pytest.mark.parametrize(
    ("touched_at", "now", "is_expired"),
    [(0.0, 109.9, False), (0.0, 110.0, True), (50.0, 149.9, False), (50.0, 150.0, True)],
)
def test_E1_an_upload_expires_so_long_after_it_was_last_touched(
    touched_at: float, now: float, is_expired: bool
) -> None:
    upload = replace(UPLOAD, created_at=10.0, touched_at=touched_at, expire_after_seconds=100.0)
    assert upload.is_expired(now) is is_expired


@pytest.mark.parametrize(
    "upload",
    [
        replace(UPLOAD, expire_after_seconds=None),
        replace(UPLOAD, expire_after_seconds=1.0, state=State.AVAILABLE),
    ],
)
def test_E1_finished_uploads_and_those_kept_for_ever_do_not_expire(upload: Upload) -> None:
    assert upload.expires_at is None
    assert not upload.is_expired(1e12)


def test_E1_all_bytes_in_is_not_finished() -> None:
    assert replace(UPLOAD, offset=10, expire_after_seconds=1.0).is_expired(1e12)


def test_C5_a_deferred_upload_never_has_all_bytes() -> None:
    assert not replace(UPLOAD, length=None, offset=0).has_all_bytes
    assert replace(UPLOAD, length=0, offset=0).has_all_bytes
    assert not replace(UPLOAD, offset=9).has_all_bytes


@pytest.mark.parametrize(
    ("lengths", "total"), [([], 0), ([0], 0), ([1, 2, 3], 6), ([1, None], None), ([None, 1], None), ([0, 0], 0)]
)
def test_N3_N9_the_length_of_a_final_is_the_sum_if_it_can_be_computed(lengths: list[int | None], total: int) -> None:
    assert total_length([replace(PARTIAL, length=length) for length in lengths]) == total
