"""The status API of real servers: streams over real connections, several workers and servers, and fuzzing by schema."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from queue import Empty, Queue
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from upload_server import ROOT, VERSION, UploadServer

from tests.lockers.redisserver import redis_server

PATCH = VERSION | {"Content-Type": "application/offset+octet-stream"}
WAIT_SECONDS = 20.0

Event = dict[str, Any]


class EventSource:
    """The events of one stream, as they come."""

    def __init__(self, url: str, since: str = "") -> None:
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(parts.netloc, timeout=WAIT_SECONDS)
        headers = {"Last-Event-ID": since} if since else {}
        self._connection.request("GET", f"{parts.path}?{parts.query}", headers=headers)
        self._socket = self._connection.sock
        self._answer = self._connection.getresponse()
        assert self._answer.status == 200, self._answer.read()
        self.seen: list[Event] = []
        self._queue: Queue[Event | None] = Queue()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def until(self, is_wanted: Callable[[Event], bool]) -> Event:
        """The next event that is."""
        while True:
            try:
                event = self._queue.get(timeout=WAIT_SECONDS)
            except Empty:
                raise AssertionError(f"it did not come; seen: {self.seen}") from None
            assert event is not None, f"the stream ended; seen: {self.seen}"
            self.seen.append(event)
            if is_wanted(event):
                return event

    def wait_for_end(self) -> None:
        while self._queue.get(timeout=WAIT_SECONDS) is not None:
            pass

    def close(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._answer.close()
        self._connection.close()

    def _read(self) -> None:
        event: Event = {}
        with suppress(OSError, http.client.HTTPException):
            while line := self._answer.readline().decode():
                name, _, value = line.removesuffix("\n").partition(": ")
                if name in {"id", "event", "data"}:
                    event[name] = json.loads(value) if name == "data" else value
                elif line == "\n" and event:
                    self._queue.put(event)
                    event = {}
        self._queue.put(None)


@contextmanager
def watching(server_url: str, query: str = "", since: str = "") -> Iterator[EventSource]:
    source = EventSource(f"{server_url.removesuffix('files/')}api/events?{query}", since)
    try:
        yield source
    finally:
        source.close()


def create(url: str, length: int) -> str:
    return requests.post(url, headers=VERSION | {"Upload-Length": str(length)}, timeout=10).headers["location"]


def id_of(url: str) -> str:
    return url.rpartition("/")[2]


def patch(url: str, offset: int, data: bytes) -> None:
    answer = requests.patch(url, headers=PATCH | {"Upload-Offset": str(offset)}, data=data, timeout=10)
    assert answer.status_code == 204, answer.text


def is_available(event: Event) -> bool:
    return event["event"] == "upload" and event["data"]["state"] == "available"


@contextmanager
def server_with_workers(path: Path, *flags: str) -> Iterator[tuple[str, int]]:
    """The URL of a server of four workers, and its supervisor's process id."""
    command = [sys.executable, "-m", "tusd_py", "--upload-dir", str(path), "--port", "0", "--workers", "4", *flags]
    with (path.with_suffix(".log")).open("ab") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log)
    try:
        found = re.search(rb"http://\S+", process.stdout.readline())
        assert found is not None
        yield found[0].decode(), process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)
        process.stdout.close()


def test_whichever_worker_one_watches_it_knows_of_all_uploads(tmp_path: Path) -> None:
    with server_with_workers(tmp_path / "up", "--list-uploads") as (url, _), ExitStack() as stack:
        # Connections spread over the workers at random: of eight all the workers have some, nearly always.
        sources = [stack.enter_context(watching(url)) for _ in range(8)]
        for source in sources:
            source.until(lambda event: event["event"] == "reset")
        made = [create(url, 8) for _ in range(8)]
        for each in made:
            patch(each, 0, b"1234")
            patch(each, 4, b"5678")
        for source in sources:
            waited_for = {id_of(each) for each in made}
            while waited_for:
                waited_for.discard(source.until(is_available)["data"]["id"])
            offsets = [event["data"]["offset"] for event in source.seen if event["event"] == "upload"]
            assert set(offsets) <= {0, 4, 8}


def test_a_worker_that_is_killed_is_heard_of_again_in_its_successor(tmp_path: Path) -> None:
    with server_with_workers(tmp_path / "up", "--list-uploads") as (url, supervisor):
        source = EventSource(f"{url.removesuffix('files/')}api/events")
        try:
            source.until(lambda event: event["event"] == "reset")
            children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
            os.kill(int(children[0]), signal.SIGKILL)
            with ExitStack() as stack:
                sources = [stack.enter_context(watching(url)) for _ in range(6)]
                for each in sources:
                    each.until(lambda event: event["event"] == "reset")
                for _ in range(20):  # some of them to the successor, as soon as it is there
                    made = create(url, 4)
                    patch(made, 0, b"1234")
                    for each in sources:
                        while each.until(is_available)["data"]["id"] != id_of(made):
                            pass
        finally:
            source.close()


@pytest.mark.parametrize("locks", ["file", "redis"])
def test_two_servers_of_one_directory_tell_each_other(tmp_path: Path, locks: str) -> None:
    with ExitStack() as stack:
        flags = ["--expose-api"]
        if locks == "redis":
            redis = stack.enter_context(redis_server(tmp_path / "redis"))
            flags += ["--locker", "redis", "--redis-url", redis.url]
        one = stack.enter_context(UploadServer(tmp_path / "up", *flags))
        two = stack.enter_context(UploadServer(tmp_path / "up", *flags))
        made = create(one.url, 8)
        with watching(two.url, f"id={id_of(made)}") as source:
            source.until(lambda event: event["data"]["offset"] == 0)
            until_heard = iter(range(8))
            for offset in until_heard:  # over Redis it takes a moment until the other one knows that somebody listens
                patch(made, offset, b"x")
            last = source.until(is_available)
            assert last["data"]["url"] == two.direct(made)
            two.kill()
            source.wait_for_end()
        two.start()
        with watching(two.url, f"id={id_of(made)}", last["id"]) as source:
            again = source.until(lambda _: True)  # it remembers nothing, so it tells all
            assert again["data"]["state"] == "available"
            requests.delete(made, headers=VERSION, timeout=10)
            # Over Redis it hears others only after a while, and then looks again: that it is gone is all it finds.
            reasons = {"terminated"} if locks == "file" else {"terminated", "unknown"}
            assert source.until(lambda event: event["event"] == "removed")["data"]["reason"] in reasons


def test_a_body_in_flight_shows_its_rate_and_the_time_left(tmp_path: Path) -> None:
    with UploadServer(tmp_path / "up", "--expose-api") as server:
        made = create(server.url, 4 << 20)
        gate = threading.Event()

        def body() -> Iterator[bytes]:
            for _ in range(6):
                yield b"x" * (1 << 19)
                gate.wait(0.25)
            gate.wait(WAIT_SECONDS)
            yield b"x" * (1 << 20)

        sender = threading.Thread(
            target=lambda: requests.patch(made, headers=PATCH | {"Upload-Offset": "0"}, data=body(), timeout=30)
        )
        with watching(server.url, f"id={id_of(made)}") as source:
            sender.start()
            event = source.until(lambda event: bool(event["data"]["bytes_per_second"]) and event["data"]["is_active"])
            assert 0 < event["data"]["received"] <= 3 << 20
            assert event["data"]["seconds_left"] > 0
            asked = requests.get(f"{server.url.removesuffix('files/')}api/uploads/{id_of(made)}", timeout=10).json()
            assert asked["received"] >= event["data"]["received"]
            gate.set()
            source.until(is_available)
        sender.join()
        received = [each["data"]["received"] for each in source.seen]
        assert received == sorted(received)


def test_a_server_that_stops_ends_its_streams_at_once(tmp_path: Path) -> None:
    with UploadServer(tmp_path / "up", "--list-uploads", "--shutdown-timeout", "60s") as server:
        with watching(server.url) as source:
            source.until(lambda event: event["event"] == "reset")
            assert server.stop() == 0  # within less than its 60 s
            source.wait_for_end()
        server.start()


def test_a_client_that_closes_its_stream_is_let_go_at_once(tmp_path: Path) -> None:
    with UploadServer(tmp_path / "up", "--list-uploads") as server, watching(server.url) as other:
        other.until(lambda event: event["event"] == "reset")
        with socket.create_connection(("127.0.0.1", server.port), timeout=WAIT_SECONDS) as browser:
            browser.sendall(b"GET /api/events HTTP/1.1\r\nHost: h\r\n\r\n")
            while b"event: reset" not in browser.recv(4096):
                pass
            browser.shutdown(socket.SHUT_WR)
            while browser.recv(4096):  # it ends long before the next heartbeat would have failed
                pass
        made = create(server.url, 1)
        other.until(lambda event: event["data"].get("id") == id_of(made))


def test_workers_are_renewed_while_somebody_watches(tmp_path: Path) -> None:
    with server_with_workers(tmp_path / "up", "--list-uploads", "--shutdown-timeout", "60s") as (url, supervisor):
        with ExitStack() as stack:
            sources = [stack.enter_context(watching(url)) for _ in range(6)]
            for source in sources:
                source.until(lambda event: event["event"] == "reset")
            os.kill(supervisor, signal.SIGHUP)
            for source in sources:
                source.wait_for_end()
        with watching(url) as source:
            source.until(lambda event: event["event"] == "reset")
            made = create(url, 1)
            source.until(lambda event: event["data"].get("id") == id_of(made))


def test_watchers_end_with_what_is_true_whichever_worker_did_it(tmp_path: Path) -> None:
    with server_with_workers(tmp_path / "up", "--list-uploads") as (url, _), ExitStack() as stack:
        sources = [stack.enter_context(watching(url)) for _ in range(3)]
        for source in sources:
            source.until(lambda event: event["event"] == "reset")
        made = [create(url, 3_000) for _ in range(60)]
        for number, each in enumerate(made):  # each request on a connection of its own, to any worker
            for offset in range(0, 2_000 + 1_000 * (number % 3 == 0), 1_000):
                patch(each, offset, b"x" * 1_000)
            if number % 3 == 1:
                assert requests.delete(each, headers=VERSION, timeout=10).status_code == 204
        expected = {id_of(each): ("available", "removed", "receiving")[number % 3] for number, each in enumerate(made)}
        for source in sources:
            is_quiet = 0
            while is_quiet < sum(state == "receiving" for state in expected.values()):
                event = source.until(lambda event: event["event"] == "upload" and not event["data"]["is_active"])
                is_quiet += event["data"]["offset"] == 2_000
            last = {event["data"]["id"]: event for event in source.seen if event["event"] != "reset"}
            found = {key: event["data"].get("state", event["event"]) for key, event in last.items()}
            assert found == expected
            assert all(last[key]["data"]["offset"] == 2_000 for key, state in expected.items() if state == "receiving")


def test_who_watches_and_never_reads_is_cut_off_and_holds_nobody_up(tmp_path: Path) -> None:
    with UploadServer(tmp_path / "up", "--list-uploads", "--write-timeout", "1s") as server:
        with socket.create_connection(("127.0.0.1", server.port)) as silent:
            silent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            silent.sendall(b"GET /api/events HTTP/1.1\r\nHost: h\r\n\r\n")
            with watching(server.url) as source:
                source.until(lambda event: event["event"] == "reset")
                for number in range(3_000):
                    create(server.url, number)
                source.until(lambda event: event["event"] == "upload" and event["data"]["length"] == 2_999)
            silent.settimeout(WAIT_SECONDS)
            with suppress(ConnectionResetError):
                while silent.recv(1 << 20):  # what was on its way, and then the end
                    pass
        assert requests.get(f"{server.url.removesuffix('files/')}healthz", timeout=5).status_code == 200


def test_who_stops_watching_is_no_error(tmp_path: Path) -> None:
    """Whether it closes its side first, or all, in an orderly way or not."""
    with UploadServer(tmp_path / "up", "--list-uploads") as server:
        for how in (["half"] + ["whole", "reset"] * 3) * 10:
            with socket.create_connection(("127.0.0.1", server.port)) as watcher:
                watcher.sendall(b"GET /api/events HTTP/1.1\r\nHost: h\r\n\r\n")
                assert watcher.recv(100)
                if how == "half":
                    watcher.shutdown(socket.SHUT_WR)
                    watcher.settimeout(WAIT_SECONDS)
                    while left := watcher.recv(1 << 16):
                        rest = left
                    assert rest.endswith(b"0\r\n\r\n")
                elif how == "reset":
                    watcher.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        server.stop()
        assert "ERROR" not in server.log()


# By its schema.


def test_nothing_that_can_be_asked_breaks_it_or_its_word(tmp_path: Path) -> None:
    with UploadServer(tmp_path / "up", "--list-uploads") as server:
        for length in range(5):
            patch(create(server.url, length + 1), 0, b"x" * length)
        root = server.url.removesuffix("/files/")
        command = [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{root}/api/openapi.json"),
            *("--exclude-operation-id", "watchUploads"),  # it never ends; tests/web/api/test_stream.py has its mistakes
            *("--max-examples", "40", "--seed", "1", "--no-color"),
        ]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False)
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        assert " 500 " not in server.log()
