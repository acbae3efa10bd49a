"""Uploads on both servers while Redis, which has their locks, is killed and comes back empty, or stays away: what is
answered meanwhile is true, and all come to their end (failures F21, F22)."""

from __future__ import annotations

import time

from faultserver import wait_for
from replicahistory import History, check_history
from replicaserver import LEASE_SECONDS, MIB, Pair
from replicawriters import Track, Writer, writing

LEASE_AND_ONE_SECONDS = LEASE_SECONDS + 1


def _writers(pair: Pair, history: History) -> list[Writer]:
    """Two on each server, of which two have the same uploads."""
    tracks = [Track([3 * MIB, 12 * MIB]), Track([3 * MIB, 12 * MIB]), Track([3 * MIB, 12 * MIB])]
    plan = [(pair.a, tracks[0]), (pair.b, tracks[1]), (pair.a, tracks[2]), (pair.b, tracks[2])]
    return [
        Writer(f"writer {number}", "takeover", replica.client, track, history)
        for number, (replica, track) in enumerate(plan)
    ]


def _has_each_finished_one(writers: list[Writer]) -> None:
    """One more from now on."""
    before = [writer.finished for writer in writers]
    wait_for(
        lambda: all(
            writer.error is not None or writer.finished > count for writer, count in zip(writers, before, strict=True)
        ),
        60,
    )


def test_uploads_on_both_servers_survive_a_redis_that_is_started_again(pair: Pair) -> None:
    """Each time without a key, so nobody holds anything any more."""
    history = History()
    with writing(_writers(pair, history)) as writers:
        for _ in range(2):
            _has_each_finished_one(writers)
            pair.redis.kill()
            pair.redis.start()
        _has_each_finished_one(writers)
    assert check_history(history) == []


def test_uploads_on_both_servers_survive_a_redis_that_is_gone(pair: Pair) -> None:
    """For longer than a lease: then there is no lock any more, so nothing is taken, and what is answered is true."""
    history = History()
    with writing(_writers(pair, history)) as writers:
        _has_each_finished_one(writers)
        pair.redis.kill()
        time.sleep(LEASE_AND_ONE_SECONDS)
        gone_at = time.monotonic()
        refused, finished = sum(writer.refused for writer in writers), sum(writer.finished for writer in writers)
        wait_for(lambda: sum(writer.refused for writer in writers) > refused + 20, 15)
        assert sum(writer.finished for writer in writers) == finished
        late = [event for event in history.events if event.invoked > gone_at]
        assert not [event for event in late if event.kind in ("PATCH", "POST") and event.status in (201, 204)]
        pair.redis.start()
        _has_each_finished_one(writers)
    assert check_history(history) == []
