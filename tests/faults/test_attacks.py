"""Clients that mean harm, or behave as if, all against one server: the healthy client beside them must hardly feel it,
and nothing may be left of them (failures F20, F24).

Attacks on bounds that need a server of their own are in test_attacks_bounds.
"""

from __future__ import annotations

import base64
import os
import sys
import time
from collections.abc import Callable

import pytest
from attackcrowd import Crowd, Peer
from attackscene import MIB, Make, Scene
from attackwords import DATA, END, FRAMINGS, GET, HEAD, HEAP_MIB, LINE, LONG, create, patch
from faultclient import BASE_PATH

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
pytest_plugins = ["attackplugin"]

HEADER_SECONDS = NETWORK_SECONDS = 3.0
WRITE_SECONDS = 2.0
BOUNDS = ("--header-timeout", "3s", "--network-timeout", "3s", "--write-timeout", "2s", "--least-rate", "64")
LATE_SECONDS = 2.0
PATIENCE_SECONDS = 5.0

CROWD = 2_000
# What connections cost: of idle ones with their heads, in mid-upload, and with an answer that waits (256 KiB and more).
IDLE_MIB, BUSY_MIB, UNREAD_MIB = 14 / 1024, 30 / 1024, 0.4
# A second, by 2 Gbit/s. Without a network between, a few clients send as much as two processors can copy, and whoever
# else is on these processors waits for them, whatever the server does.
NETWORK_BYTES = 250_000_000
# Of both workers, for all uploads together.
BUFFERS_MIB = 64


@pytest.fixture(scope="module")
def scene(make: Make) -> Scene:
    """For all attacks: its memory shows what they leave behind together."""
    return make(*BOUNDS)


@pytest.fixture(scope="module")
def large(scene: Scene) -> str:
    """50 MiB."""
    return scene.client.upload(os.urandom(1 << 20) * 50)


def test_heads_that_come_a_byte_at_a_time(scene: Scene) -> None:
    def attack(crowd: Crowd) -> None:
        crowd.join([HEAD + b"X-Slow: "] * CROWD)
        while not crowd.turn(1.0, lambda: not crowd.stay):
            for peer in crowd.peers:
                peer.say(b"x")
        for peer in crowd.peers:
            assert peer.statuses == [408]
            assert HEADER_SECONDS - 0.1 < peer.lasted_seconds < HEADER_SECONDS + LATE_SECONDS

    scene.attack("2,000 heads, a byte a second", attack, most_mib=CROWD * IDLE_MIB)


def test_silence(scene: Scene) -> None:
    def attack(crowd: Crowd) -> None:
        crowd.join([b""] * CROWD)
        crowd.wait_for_all(HEADER_SECONDS + 2)
        for peer in crowd.peers:
            assert peer.heard == b""
            assert HEADER_SECONDS - 0.1 < peer.lasted_seconds < HEADER_SECONDS + LATE_SECONDS

    scene.attack("2,000 silent connections", attack, most_mib=CROWD * IDLE_MIB)


def test_F20_patches_that_stop_without_a_word(scene: Scene) -> None:
    """A HEAD finds out within a second; those that nobody asks for end by themselves."""
    paths: list[str] = []
    slowest: list[float] = []
    sent = DATA[:1000]

    def prepare() -> None:
        paths[:] = create(scene.client, CROWD, len(DATA))

    def attack(crowd: Crowd) -> None:
        crowd.join((patch(path, sent) for path in paths), each_second=800)
        assert crowd.turn(1, lambda: not any(peer.unsent for peer in crowd.peers))
        waits = []
        for path in paths[-20:]:
            asked_at = time.monotonic()
            assert scene.client.offset(path) == len(sent)
            waits.append(time.monotonic() - asked_at)
            scene.client.finish(path, DATA)
        slowest.append(max(waits))
        crowd.wait_for_all(NETWORK_SECONDS + LATE_SECONDS)
        assert all(peer.statuses == [503] for peer in crowd.peers[:-20])
        assert all(b"ERR_UPLOAD_INTERRUPTED" in peer.heard for peer in crowd.peers[-20:])

    scene.attack("2,000 stopped in mid-PATCH", attack, prepare=prepare, most_mib=BUFFERS_MIB + CROWD * BUSY_MIB)
    assert min(slowest) < 1, slowest  # as with latencies: a server that is slow is so each time
    for path in paths[::100]:
        assert scene.client.offset(path) >= len(sent)
        scene.client.finish(path, DATA)


def test_bodies_a_byte_a_second(scene: Scene) -> None:
    paths: list[str] = []

    def prepare() -> None:
        paths[:] = create(scene.client, 500, len(DATA))

    def attack(crowd: Crowd) -> None:
        crowd.join((patch(path, DATA[:1]) for path in paths), each_second=800)
        count = 1
        while not crowd.turn(1.0, lambda: not crowd.stay):
            for peer in crowd.peers:
                peer.say(DATA[count : count + 1])
            count += 1
        for peer in crowd.peers:
            assert peer.statuses == [503]
            assert b"ERR_READ_TIMEOUT" in peer.heard
            assert peer.lasted_seconds < NETWORK_SECONDS + LATE_SECONDS

    scene.attack("500 bodies, a byte a second", attack, prepare=prepare, most_mib=BUFFERS_MIB + 500 * BUSY_MIB)
    for path in paths[::25]:
        assert NETWORK_SECONDS - 1 <= scene.client.offset(path) <= NETWORK_SECONDS + 2
        scene.client.finish(path, DATA)


def test_answers_that_nobody_reads(scene: Scene, large: str) -> None:
    metadata = "filename " + base64.b64encode(b"x" * 17_000).decode()
    path = scene.client.create(10, {"Upload-Metadata": metadata}).encode()
    heads = b"HEAD %b HTTP/1.1\r\nHost: h\r\nTus-Resumable: 1.0.0\r\n\r\n" % path * 90

    def attack(crowd: Crowd) -> None:
        kinds = [GET % large.encode(), *[heads] * 4]
        crowd.join(kinds * 50, reads=False, receive_buffer_bytes=4096, each_second=100)
        for peer in crowd.peers:
            peer.say(heads)  # what is said meanwhile does not count
        crowd.wait_for_all(3 * WRITE_SECONDS + LATE_SECONDS)

    scene.attack("250 that read no answer", attack, most_mib=HEAP_MIB + 250 * UNREAD_MIB)


def test_heads_and_chunks_without_end(scene: Scene) -> None:
    each = 6
    paths: list[str] = []
    kinds: list[tuple[str, bytes, Callable[[], bytes] | None, int]] = [
        ("one header of 60 KiB", HEAD + b"X: " + b"x" * 60 * 1024 + END, None, 404),
        ("one header of 70 KiB", HEAD + b"X: " + b"x" * 70 * 1024 + END, None, 431),
        ("1,000 headers", HEAD + LINE * 998 + b"\r\n", None, 404),
        ("1,001 headers", HEAD + LINE * 999 + b"\r\n", None, 431),
        ("5,000 headers", HEAD + LINE * 5000 + b"\r\n", None, 431),
        ("a header line without end", HEAD + b"X: ", lambda: b"x" * 8192, 431),
        ("headers without end", HEAD, lambda: LINE * 500, 431),
        ("a target without end", b"GET /", lambda: b"x" * 8192, 431),
        ("100,000 blank lines", b"\r\n" * 100_000, None, 431),
        ("trailers without end", b"5\r\nhello\r\n0\r\n", lambda: LINE * 500, 431),
        ("a trailer line without end", b"5\r\nhello\r\n0\r\nX: ", lambda: b"x" * 8192, 431),
        ("a chunk extension without end", b"5;x=", lambda: b"x" * 8192, 431),
        ("pipelined requests", (HEAD + b"\r\n") * 5000, None, 400),
    ]

    def prepare() -> None:
        paths[:] = create(scene.client, 3 * each, len(DATA))

    def attack(crowd: Crowd) -> None:
        left = iter(paths)
        for what, data, more, status in kinds:
            is_body = data.startswith(b"5")
            said = [(patch(next(left), None) if is_body else b"") + data for _ in range(each)]
            peers = crowd.join(said, more=more, each_second=40)
            if status == 404:
                assert crowd.turn(PATIENCE_SECONDS, lambda: all(peer.heard for peer in peers)), what  # noqa: B023
                for peer in peers:
                    peer.leave()
            assert crowd.turn(PATIENCE_SECONDS, lambda: not crowd.stay), what
            assert {peer.statuses[-1] for peer in peers} == {status}, what

    scene.attack("heads and chunks without end", attack, prepare=prepare, most_mib=HEAP_MIB)
    assert {scene.client.offset(path) for path in paths[: 2 * each]} == {5}  # without an extension, each brought 5
    assert {scene.client.offset(path) for path in paths[2 * each :]} == {0}


def test_resets(scene: Scene, large: str) -> None:
    """At once, in mid-head, in mid-body, and while the answer is sent."""
    body = (
        f"POST {BASE_PATH} HTTP/1.1\r\nHost: h\r\nTus-Resumable: 1.0.0\r\nUpload-Length: {len(DATA)}\r\n"
        f"Content-Type: application/offset+octet-stream\r\nContent-Length: {len(DATA)}\r\n\r\n"
    ).encode() + DATA[:1000]
    kinds = [HEAD, body, GET % large.encode()]

    def attack(crowd: Crowd) -> None:
        for _ in range(100):
            for peer in crowd.join([b""] * 20, each_second=1_500):
                peer.leave(by_reset=True)
        for _ in range(100):
            for peer in crowd.join(kinds * 2, each_second=400, receive_buffer_bytes=4096):
                peer.leave(by_reset=True)

    names = len(list(scene.server.directory.iterdir()))
    scene.attack("2,600 resets", attack, most_mib=HEAP_MIB)
    # A creation that was cut leaves nothing; the healthy client's last upload may be under way.
    assert len(list(scene.server.directory.iterdir())) <= names + 2


def test_bodies_where_none_belong(scene: Scene) -> None:
    path = scene.client.create(10).encode()

    def attack(crowd: Crowd) -> None:
        for method in (b"HEAD", b"GET", b"OPTIONS", b"DELETE"):
            for framing, piece in FRAMINGS.items():
                head = b"%b %b HTTP/1.1\r\nHost: h\r\nTus-Resumable: 1.0.0\r\n%b\r\n\r\n" % (method, path, framing)
                peers = crowd.join([head] * 10, more=lambda: piece, each_second=50)  # noqa: B023
                assert crowd.turn(PATIENCE_SECONDS, lambda: not crowd.stay), (method, framing)
                for peer in peers:
                    assert b"\r\nconnection: close\r\n" in peer.heard
                    assert len(peer.statuses) == 1
                    if framing == LONG:
                        assert peer.statuses == [413]
                        assert peer.sent_bytes < 64 * MIB

    scene.attack("bodies where none belong", attack, most_mib=HEAP_MIB)


def test_bodies_that_go_on_after_the_answer(scene: Scene) -> None:
    """They are dropped, for as long as it may take a client to look for the answer."""

    def attack(crowd: Crowd) -> None:
        head = b"OPTIONS /files/ HTTP/1.1\r\nHost: h\r\n%b\r\n\r\n" % LONG
        crowd.join([head] * 4, reads=False)
        crowd.pour(NETWORK_BYTES, 1.5)
        assert crowd.stay == 4
        assert sum(peer.sent_bytes for peer in crowd.peers) > NETWORK_BYTES

    scene.attack("bodies that go on", attack, most_mib=HEAP_MIB)


@pytest.mark.long
def test_everything_at_once(scene: Scene, large: str) -> None:
    """For 20 seconds, some of each kind, several times a second."""
    paths: list[str] = []
    chunked = b"5\r\nhello\r\n0\r\n"

    def prepare() -> None:
        paths[:] = create(scene.client, 1000, len(DATA))

    def attack(crowd: Crowd) -> None:
        left, slow = iter(paths), list[Peer]()
        end = time.monotonic() + 20
        while time.monotonic() < end:
            crowd.join([b""] * 20, each_second=400)
            slow += crowd.join([HEAD + b"X-Slow: "] * 20, each_second=400)
            crowd.join([patch(next(left), DATA[:1000]) for _ in range(4)], each_second=100)
            crowd.join([GET % large.encode()], reads=False, receive_buffer_bytes=4096)
            crowd.join([HEAD, b"GET /", b"\r\n"], more=lambda: LINE * 500)
            crowd.join([patch(next(left), None) + chunked], more=lambda: LINE * 500)
            crowd.join([(HEAD + b"\r\n") * 1000, HEAD + LINE * 5000])
            crowd.join([b"OPTIONS /files/ HTTP/1.1\r\nHost: h\r\n" + LONG + END], more=lambda: bytes(65_536))
            for peer in crowd.join([b"", HEAD, GET % large.encode()] * 5, each_second=300):
                peer.leave(by_reset=True)
            for peer in slow[-200:]:
                peer.say(b"x")
            crowd.turn(0.25)
        crowd.wait_for_all(NETWORK_SECONDS + 2 * WRITE_SECONDS + LATE_SECONDS)

    scene.attack("everything at once", attack, prepare=prepare, most_mib=BUFFERS_MIB + CROWD * BUSY_MIB)
    for path in paths[::100]:
        scene.client.finish(path, b"hello" + DATA[5:] if scene.client.offset(path) == 5 else DATA)
