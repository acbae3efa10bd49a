"""Two servers, pauses, kills, lost locks, bad networks, all at random; what the clients saw must be possible.

The moments and the choices come from a seed, which a failing test prints; REPLICAS_SEED runs it again as far as timing
allows.
"""

from __future__ import annotations

import os
import random
import secrets
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from replicahistory import History, check_history
from replicaserver import LEASE_SECONDS, Pair, Replica, pair_on
from replicawriters import Track, Writer, writing
from s3servers import S3Server

SECONDS = 12.0
MANY_SECONDS = 60.0
SEEDS = ("seven", "eleven")
Undo = Callable[[], object]


class Chaos:
    """What goes wrong. A server that is harmed is so for a while, and is not harmed again meanwhile; mishaps pass."""

    def __init__(self, pair: Pair, seed: str) -> None:
        self.counts: Counter[str] = Counter()
        self._pair = pair
        self._rng = random.Random(seed)
        self._undo: list[tuple[float, Undo]] = []
        self._hurt: set[int] = set()
        self._harms: dict[str, Callable[[Replica], Undo]] = {
            "kill": self._kill,
            "freeze": self._freeze,
            "cut off from Redis": self._cut,
            "silence Redis": self._silence,
        }
        self._mishaps: dict[str, Callable[[Replica], object]] = {
            "lose all locks": self._forget,
            "cut clients": self._cut_clients,
            "slow calls": self._slow,
            "errors of S3": self._fail,
            "lost answers of S3": self._lose,
        }

    def run(self, seconds: float, writers: list[Writer]) -> None:
        """For so long, or until a client fails. In the end all is whole again."""
        end = time.monotonic() + seconds
        try:
            while time.monotonic() < end and all(writer.error is None for writer in writers):
                self._act()
                time.sleep(10 ** self._rng.uniform(-1.5, -0.2))  # the pace of what goes wrong
                self._make_good(time.monotonic())
        finally:
            self._make_good(float("inf"))
            for replica in self._pair.replicas:
                replica.heal()

    def _act(self) -> None:
        name = self._rng.choice(sorted(self._harms | self._mishaps))
        replica = self._rng.choice(self._pair.replicas)
        if name in self._mishaps:
            self._mishaps[name](replica)
        elif replica.port not in self._hurt:
            self._harm(replica, self._harms[name])
        else:
            return
        self.counts[name] += 1

    def _harm(self, replica: Replica, act: Callable[[Replica], Undo]) -> None:
        undo = act(replica)
        self._hurt.add(replica.port)
        lasts = self._rng.choice([0.1, 0.5, 1.5 * LEASE_SECONDS])

        def make_good() -> None:
            undo()
            self._hurt.discard(replica.port)

        self._undo.append((time.monotonic() + lasts, make_good))

    def _make_good(self, now: float) -> None:
        due = [undo for at, undo in self._undo if at <= now]
        self._undo = [(at, undo) for at, undo in self._undo if at > now]
        for undo in due:
            undo()

    def _kill(self, replica: Replica) -> Undo:
        replica.kill()

        def start() -> None:
            replica.heal()  # or it would say what is wrong, and end
            replica.start()

        return start

    def _freeze(self, replica: Replica) -> Undo:
        frozen = replica.frozen()
        frozen.__enter__()
        return lambda: frozen.__exit__(None, None, None)

    def _cut(self, replica: Replica) -> Undo:
        replica.redis.cut()
        return replica.redis.heal

    def _silence(self, replica: Replica) -> Undo:
        replica.redis.silence()
        return replica.redis.heal

    def _forget(self, _all: Replica) -> None:
        self._pair.redis.ask("FLUSHALL")

    def _cut_clients(self, _all: Replica) -> None:
        self._pair.balancer.reset_connections()

    def _slow(self, replica: Replica) -> None:
        for nth in range(1, self._rng.randrange(2, 8)):
            replica.s3.inject("delay", nth=nth, seconds=self._rng.uniform(0.1, LEASE_SECONDS))

    def _fail(self, replica: Replica) -> None:
        for nth in range(1, self._rng.randrange(2, 12)):
            replica.s3.inject("error500", nth=nth, carried_out=self._rng.random() < 0.5)

    def _lose(self, replica: Replica) -> None:
        for nth in range(1, self._rng.randrange(2, 6)):
            replica.s3.inject(self._rng.choice(["after", "before"]), nth=nth)


def _writers(pair: Pair, seed: str, history: History) -> list[Writer]:
    """Six: two pairs that write different bytes to the same uploads, and two for themselves."""
    rng = random.Random(seed)
    tracks = [Track([int(10 ** rng.uniform(3, 7.1)) for _ in range(20)]) for _ in range(4)]
    plan = (0, 0, 1, 1, 2, 3)
    return [Writer(f"writer {each}", seed, pair.client, tracks[track], history) for each, track in enumerate(plan)]


def _run(versitygw: S3Server, folder: Path, seed: str, seconds: float) -> None:
    print(f"run again with REPLICAS_SEED={seed}")
    flags = ("--redis-lease", f"{LEASE_SECONDS:g}s", "--acquire-lock-timeout", "3s")
    with pair_on(versitygw, folder, *flags) as pair:
        history, chaos = History(), Chaos(pair, seed)
        with writing(_writers(pair, seed, history)) as writers:
            chaos.run(seconds, writers)
        assert check_history(history) == []
        answers = Counter(f"{event.kind} {event.status}" for event in history.events)
        print(dict(chaos.counts), dict(answers), f"{sum(writer.finished for writer in writers)} finished")
        assert len(chaos.counts) > 4
        assert answers["PATCH 204"] > len(writers)
        assert sum(answers[f"PATCH {status}"] for status in (409, 423, 503, None)) > len(writers)


@pytest.mark.parametrize("seed", SEEDS)
def test_what_clients_see_in_all_this_is_possible(versitygw: S3Server, tmp_path: Path, seed: str) -> None:
    _run(versitygw, tmp_path, os.environ.get("REPLICAS_SEED") or seed, SECONDS)


@pytest.mark.long
@pytest.mark.parametrize("_number", range(5))
def test_what_clients_see_in_much_of_this_is_possible(versitygw: S3Server, tmp_path: Path, _number: int) -> None:
    _run(versitygw, tmp_path, os.environ.get("REPLICAS_SEED") or secrets.token_hex(4), MANY_SECONDS)
