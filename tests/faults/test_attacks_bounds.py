"""Attacks on what a server may have or use, each against a server that has little of it: connections, requests,
descriptors, a fast disk. Who is in already, or asks for little, goes on (failures F25, F37).
"""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest
from attackcrowd import Crowd
from attackhooks import SLOW
from attackscene import Make, Scene
from attackwords import DATA, HEAD, HEAP_MIB, create, patch
from faultclient import BASE_PATH

from tests.benchmark.benchwatch import cpu_seconds
from tests.server.supervised import frozen, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
pytest_plugins = ["attackplugin"]

PATIENCE_SECONDS = 5.0


@pytest.fixture(scope="module")
def small(make: Make) -> Scene:
    return make("--max-connections", "50", "--max-connections-per-address", "20")


def test_more_connections_than_one_address_may_have(small: Scene) -> None:
    def attack(crowd: Crowd) -> None:
        crowd.join([b""] * 400, host="127.0.0.2", each_second=400)
        assert crowd.turn(PATIENCE_SECONDS, lambda: crowd.stay <= 20)
        assert crowd.stay
        for peer in crowd.peers:
            if peer.over_at:
                assert peer.statuses == [503]
                assert b"too many connections from this address" in peer.heard

    small.attack("400 from one address", attack, most_mib=HEAP_MIB)


def test_more_connections_than_are_allowed(small: Scene) -> None:
    """Those that are in already go on."""

    def attack(crowd: Crowd) -> None:
        for number in range(10):
            crowd.join([b""] * 40, host=f"127.0.1.{number + 1}", each_second=400)
        assert crowd.turn(PATIENCE_SECONDS, lambda: crowd.stay <= 50)
        assert crowd.stay
        for peer in crowd.peers:
            assert not peer.over_at or peer.statuses == [503]
        refused = small.client.ask("OPTIONS", BASE_PATH)
        assert (refused.status, refused.code) == (503, "ERR_TOO_MANY_CONNECTIONS")

    small.attack("400, with 50 allowed", attack, kept=4, most_mib=HEAP_MIB)
    for _ in range(10):
        assert small.client.ask("OPTIONS", BASE_PATH).status == 204


def test_more_requests_than_a_connection_may_have(make: Make) -> None:
    scene = make("--max-requests", "5")  # as many as the healthy client's round has

    def attack(crowd: Crowd) -> None:
        crowd.join([(HEAD + b"\r\n") * 20] * 400, each_second=200)
        crowd.wait_for_all(PATIENCE_SECONDS)
        for peer in crowd.peers:
            assert peer.statuses == [404] * 5
            assert peer.heard.count(b"\r\nconnection: close\r\n") == 1
            assert b"\r\nconnection: close\r\n" in peer.heard.rpartition(b"HTTP/1.1 ")[2]

    scene.attack("400 with too many requests", attack, most_mib=HEAP_MIB)


def test_F25_F37_a_disk_that_is_slow_for_one_upload(make: Make) -> None:
    """The first slow write stops its worker: nobody can know. From then on only the upload itself waits."""
    scene = make("--answer-timeout", "1s", "--acquire-lock-timeout", "100ms", environ={"ATTACK_SLOW_SECONDS": "2"})
    data = SLOW + DATA

    def attack(crowd: Crowd) -> float:
        paths = create(scene.client, 11, len(data))
        firsts = crowd.join([patch(path, data, data) for path in paths[1:]])
        assert crowd.turn(5, lambda: sum(bool(peer.heard) for peer in firsts) >= 2)
        scene.healthy.wait_until_even()
        began = time.monotonic()
        (peer,) = crowd.join([patch(paths[0], data, data)])
        assert crowd.turn(1.9, lambda: peer.over_at is not None)
        assert peer.statuses == [503]
        assert b"ERR_STORAGE_TIMEOUT" in peer.heard
        locked = scene.client.patch(paths[0], 0, data)
        assert (locked.status, locked.code) == (423, "ERR_UPLOAD_LOCKED")
        wait_until(lambda: scene.client.head(paths[0]).status == 200)
        scene.client.finish(paths[0], data)
        return began

    scene.attack("a disk slow for one upload", attack, most_mib=HEAP_MIB)


def test_F37_a_slow_disk_is_waited_for(make: Make) -> None:
    scene = make("--network-timeout", "500ms", environ={"ATTACK_SLOW_SECONDS": "1"})
    data = SLOW + DATA
    path = scene.client.create(len(data))
    answer = scene.client.patch(path, 0, data)
    assert (answer.status, answer.offset) == (204, len(data))
    scene.client.finish(path, data)
    scene.check_clean()


def test_fewer_descriptors_than_connections(make: Make) -> None:
    scene = make(changes="import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))")
    assert "FewOpenFiles" in scene.server.log
    assert "ulimit -n" in scene.server.log

    def attack(crowd: Crowd) -> None:
        crowd.join([HEAD + b"Connection: close\r\n\r\n"] * 600, each_second=600)
        crowd.wait_for_all(PATIENCE_SECONDS)

    outcome = scene.attack("600, with 128 descriptors", attack, kept=1, most_mib=HEAP_MIB)
    assert outcome.processor < 1
    with frozen(*scene.workers), Crowd(scene.server.port) as crowd:
        crowd.join([HEAD + b"Connection: close\r\n\r\n"] * 600)  # more at once than there are descriptors
        for pid in scene.workers:
            os.kill(pid, signal.SIGCONT)
        crowd.wait_for_all(10)
    scene.check_clean()
    spent = cpu_seconds(scene.server.process.pid)
    time.sleep(0.5)
    assert cpu_seconds(scene.server.process.pid) - spent < 0.1, "it spins"
    for _ in range(20):
        wait_until(lambda: scene.client.ask("OPTIONS", BASE_PATH).status == 204)
