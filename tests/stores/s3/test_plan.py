"""Where parts end: every byte is in one of them, and all keep to the limits of the provider."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tusd_py.errors import RequestError
from tusd_py.stores.s3.plan import EQUAL_BYTES, GIB, MIB, Limits, Plan, joined

AMAZON = Limits()


@given(length=st.integers(1, AMAZON.max_object_bytes), preferred=st.integers(5 * MIB, 64 * MIB))
def test_an_upload_of_known_length_fits_into_the_numbers_there_are(length: int, preferred: int) -> None:
    plan = Plan(AMAZON, preferred)
    start, number = 0, 1
    while start < length:
        size = plan.part_bytes(start, number, length)
        assert AMAZON.min_part_bytes <= size <= AMAZON.max_part_bytes
        step = min(max((length - start) // size, 1), 97)  # so many of one size, to be quick
        start, number = start + step * size, number + step
    assert number - 1 <= AMAZON.max_parts


@pytest.mark.parametrize("length", [1, 8 * MIB, 23 * GIB])
def test_parts_have_the_preferred_size_as_long_as_that_will_do(length: int) -> None:
    assert Plan().part_bytes(0, 1, length) == 8 * MIB


def test_numbers_are_kept_in_reserve_for_attempts_that_fail() -> None:
    size = Plan().part_bytes(0, 1, 5_000 * GIB)
    assert 5_000 * GIB / size <= 3_000


def test_parts_of_an_unknown_length_grow() -> None:
    plan = Plan()
    sizes = [plan.part_bytes(0, number, None) for number in (1, 1_000, 1_001, 9_001)]
    assert sizes == [8 * MIB, 8 * MIB, 16 * MIB, 4096 * MIB]
    assert sum(plan.part_bytes(0, number, None) for number in range(1, 10_001)) > 5_000 * GIB


@pytest.mark.parametrize("length", [None, 100 * MIB, 5_000 * GIB])
def test_a_part_is_twice_as_large_where_the_storage_is_outpaced(length: int | None) -> None:
    plan = Plan()
    assert plan.part_bytes(0, 1, length, is_outpaced=True) == 2 * plan.part_bytes(0, 1, length)


def test_a_part_is_not_larger_than_may_be_where_the_storage_is_outpaced() -> None:
    assert Plan(AMAZON, 3 * GIB).part_bytes(0, 1, GIB, is_outpaced=True) == AMAZON.max_part_bytes
    equal = Plan(replace(AMAZON, wants_equal_parts=True))
    assert equal.part_bytes(0, 1, GIB, is_outpaced=True) == 8 * MIB
    assert equal.part_bytes(8 * MIB, 2, GIB, 8 * MIB, is_outpaced=True) == 8 * MIB


@given(length=st.integers(1, 300 * GIB), known_at=st.integers(0, 300 * GIB))
def test_where_all_parts_are_to_be_equal_the_first_decides(length: int, known_at: int) -> None:
    plan = Plan(replace(AMAZON, wants_equal_parts=True), 32 * MIB)
    start, number, sizes = 0, 1, {0}
    while start < length:
        size = plan.part_bytes(start, number, length if start >= known_at else None, max(sizes))
        sizes.add(size)
        start, number = start + size, number + 1
    assert len(sizes) <= 2


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(RequestError) as error:
        Plan().part_bytes(0, 10_000, 6 * GIB)
    assert error.value.status == 413
    with pytest.raises(RequestError):
        Plan().part_bytes(0, 10_001, None)
    with pytest.raises(RequestError):
        Plan().check(AMAZON.max_object_bytes + 1)
    Plan().check(AMAZON.max_object_bytes)
    Plan().check(None)


small = Limits(min_part_bytes=5, max_part_bytes=50)


@given(st.lists(st.integers(0, 200), min_size=1, max_size=60))
def test_the_parts_of_a_whole_have_every_byte_of_its_sources_once_and_in_order(sizes: list[int]) -> None:
    parts = list(joined(sizes, small))
    ranges = [each for part in parts for each in part]
    assert all(start < end for _, start, end in ranges)
    expected = [(index, byte) for index, size in enumerate(sizes) for byte in range(size)]
    assert [(index, byte) for index, start, end in ranges for byte in range(start, end)] == expected
    lengths = [sum(end - start for _, start, end in part) for part in parts]
    assert all(small.min_part_bytes <= length <= small.max_part_bytes for length in lengths[:-1])
    assert all(length <= small.max_part_bytes for length in lengths)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=30))
def test_a_whole_of_equal_parts(sizes: list[int]) -> None:
    parts = list(joined([size * MIB for size in sizes], replace(AMAZON, wants_equal_parts=True)))
    lengths = [sum(end - start for _, start, end in part) for part in parts]
    assert sum(lengths) == sum(sizes) * MIB
    assert set(lengths[:-1]) <= {EQUAL_BYTES}
    assert all(length <= EQUAL_BYTES for length in lengths[-1:])


def test_long_sources_are_copied_piece_by_piece() -> None:
    assert list(joined([2 * GIB + 1], AMAZON)) == [[(0, 0, GIB)], [(0, GIB, 2 * GIB)], [(0, 2 * GIB, 2 * GIB + 1)]]
    assert len(list(joined([12 * GIB], AMAZON))) == 12


@pytest.mark.parametrize("size", [10_001 * GIB, AMAZON.max_object_bytes])
def test_the_pieces_are_longer_where_the_numbers_would_not_suffice(size: int) -> None:
    ranges = [each for part in joined([size], AMAZON) for each in part]
    assert len(ranges) <= AMAZON.max_parts
    assert max(end - start for _, start, end in ranges) <= AMAZON.max_part_bytes


def test_ten_thousand_short_sources_fit() -> None:
    assert len(list(joined([MIB] * 60_000, AMAZON))) <= AMAZON.max_parts
