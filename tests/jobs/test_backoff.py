"""When failed jobs are tried again."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tusd_py.jobs import backoff
from tusd_py.jobs.backoff import DELAYS_SECONDS, Outage, delay_seconds

HOUR = 3600
LAST = len(DELAYS_SECONDS)


def test_a_restart_at_the_other_end_costs_seconds_and_a_weekend_loses_nothing() -> None:
    assert DELAYS_SECONDS[0] <= 1
    assert sum(DELAYS_SECONDS[:4]) < 120
    assert 64 * HOUR < sum(DELAYS_SECONDS) < 80 * HOUR  # from Friday 17:00 to Monday 9:00
    assert all(one <= next_one for one, next_one in pairwise(DELAYS_SECONDS))


def test_after_the_last_delay_there_is_none() -> None:
    assert delay_seconds(LAST, None, 0) == 24 * HOUR
    assert delay_seconds(LAST + 1, None, 0) is None
    assert delay_seconds(LAST + 1, 5.0, 0) is None
    assert delay_seconds(1, None, 0, []) is None


@pytest.mark.parametrize(("asked", "seconds"), [(None, 300), (0.0, 300), (299.0, 300), (900.0, 900), (1e9, 24 * HOUR)])
def test_what_a_hook_asks_for_counts_where_it_is_longer_but_not_for_ever(asked, seconds) -> None:
    assert delay_seconds(5, asked, 0) == seconds


@given(attempt=st.integers(1, LAST), asked=st.none() | st.floats(-10, 1e7), chance=st.floats(0, 1))
def test_chance_makes_it_longer_by_a_bounded_share_and_never_shorter(attempt, asked, chance) -> None:
    least = delay_seconds(attempt, asked, 0)
    assert least is not None
    assert least >= DELAYS_SECONDS[attempt - 1]
    assert least <= delay_seconds(attempt, asked, chance) <= least * (1 + backoff.JITTER) + 1e-6


def test_a_queue_that_is_down_is_asked_every_few_seconds_at_last() -> None:
    outage = Outage(draw=lambda: 0.0)
    waits = [outage.next_seconds() for _ in range(10)]
    assert waits[:4] == [0.1, 0.2, 0.4, 0.8]
    assert waits[-1] == 5.0
