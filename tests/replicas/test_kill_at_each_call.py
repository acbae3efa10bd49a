"""kill -9 at every call to the storage, before it is carried out and after; another server goes on (failures F1 to F6).

The two servers take turns: one is killed, and while it is started again the client goes on with the other one, which
is killed next.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count

import pytest
from faultclient import Client, LostError
from faultserver import wait_for
from replicascenario import SCENARIOS, Scenario
from replicaserver import Pair, Replica, pair_on
from s3calls import Call
from s3servers import S3Server

EVERY = 4
"""Of the points, where it is not to take long."""

RESTART_SECONDS = 30.0


@pytest.fixture(scope="module")
def pair(versitygw: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """With the shortest lease: each point costs one."""
    with pair_on(versitygw, tmp_path_factory.mktemp("pair"), "--redis-lease", "1s") as pair:
        yield pair


class Turns:
    """Which server is killed next, and whether the other one is there again."""

    def __init__(self, pair: Pair, threads: ThreadPoolExecutor) -> None:
        self.victim, self.other = pair.replicas
        self._threads = threads
        self._restart: Future[None] | None = None

    def kill(self) -> Replica:
        """Answers who is to go on."""
        self.victim.kill()
        self.victim.s3.heal()
        self.settle()
        self._restart = self._threads.submit(self.victim.start)
        self.victim, self.other = self.other, self.victim
        return self.victim

    def settle(self) -> None:
        if self._restart is not None:
            self._restart.result(RESTART_SECONDS)


def _is_ours(call: Call) -> bool:
    """Not of the sweep, which every server thinks of when it starts."""
    return not call.key.endswith(".tusd-py/sweep")


def _count(replica: Replica, scenario: Scenario) -> int:
    """The calls where nothing goes wrong."""
    replica.s3.clear()
    scenario.run(replica.client)
    return len([call for call in replica.s3.calls if _is_ours(call)])


def _until_lost(scenario: Scenario, client: Client) -> bool:
    try:
        scenario.run(client)
    except LostError:
        return True
    return False


def _killed_at(turns: Turns, threads: ThreadPoolExecutor, scenario: Scenario, nth: int, *, carried_out: bool) -> bool:
    """False: there is no such call any more."""
    fault = turns.victim.s3.inject("hang", nth=nth, carried_out=carried_out, where=_is_ours)
    running = threads.submit(_until_lost, scenario, turns.victim.client)
    wait_for(lambda: bool(fault.hits) or running.done(), 30)
    if not fault.hits:
        assert running.result() is False
        turns.victim.s3.heal()
        return False
    heir = turns.kill()
    assert running.result(30)
    scenario.run(heir.client)
    scenario.check(heir.client)
    return True


@pytest.mark.parametrize("is_long", [False, pytest.param(True, marks=pytest.mark.long)], ids=["some", "all"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_F1_F2_F6_a_server_is_killed_at_a_call(pair: Pair, name: str, *, is_long: bool) -> None:
    points = 0
    done: list[Scenario] = []
    with ThreadPoolExecutor(2) as threads:
        turns = Turns(pair, threads)
        expected = _count(turns.victim, SCENARIOS[name]())
        for place in count(0 if is_long else len(name) % EVERY, 1 if is_long else EVERY):
            scenario = SCENARIOS[name]()
            if not _killed_at(turns, threads, scenario, place // 2 + 1, carried_out=bool(place % 2)):
                break
            done.append(scenario)
            points += 1
        turns.settle()
    for scenario in done:
        for replica in pair.replicas:
            scenario.check(replica.client)
    print(f"{name}: {expected} calls, killed at {points} points")
    assert points * (1 if is_long else EVERY) > 2 * expected - 2 * EVERY
