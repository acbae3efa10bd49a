"""The app under ASGI servers that are not ours, in large: what takes megabytes, cut connections and slow disks.

`tests/wire` runs its thousand small cases on the same servers.
"""

from __future__ import annotations

import base64
import fnmatch
import hashlib
import http.client
import itertools
import random
import re
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

# The suite that runs against any server has the way to start these, too.
sys.path.insert(0, str(Path(__file__).parents[1] / "wire"))

from asgi_servers import FOREIGN, ONLY_OURS, ROOT, THEIR_OWN, AsgiServer, run_asgi_server

VERSION = {"Tus-Resumable": "1.0.0"}
PATCH = VERSION | {"Content-Type": "application/offset+octet-stream"}
MIB = 1 << 20

GATED_APPLICATION = """
import asyncio

from tusd_py import Config, create_app
from tusd_py.stores.disk.sink import FileSink

gate = asyncio.Event()
uploads = create_app(Config(upload_dir="uploads"))
write = FileSink.filled


def filled(sink, count):
    async def wait(pause):
        await gate.wait()
        if pause is not None:
            await pause

    return wait(write(sink, count))


FileSink.filled = filled


async def app(scope, receive, send):
    if scope.get("path") == "/open":
        gate.set()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})
    else:
        await uploads(scope, receive, send)
"""
"""The disk takes nothing until somebody asks for /open."""


@pytest.fixture(scope="module", params=FOREIGN)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AsgiServer]:
    with run_asgi_server(request.param, tmp_path_factory.mktemp("other")) as server:
        yield server


@pytest.fixture
def client(server: AsgiServer) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    yield connection
    connection.close()


@pytest.fixture(scope="module")
def large() -> bytes:
    return random.Random(3).randbytes(50 * MIB)


def ask(
    client: http.client.HTTPConnection, method: str, path: str, headers: dict[str, str], body: bytes | None = None
) -> http.client.HTTPResponse:
    client.request(method, path, body, headers)
    answer = client.getresponse()
    answer.body = answer.read()  # type: ignore[attr-defined]
    assert answer.headers["Tus-Resumable"] == "1.0.0"
    return answer


def create(client: http.client.HTTPConnection, length: int, **more: str) -> str:
    headers = VERSION | {"Upload-Length": str(length)} | {key.replace("_", "-"): value for key, value in more.items()}
    return path_of(client, ask(client, "POST", "/files/", headers))


def path_of(client: http.client.HTTPConnection, answer: http.client.HTTPResponse) -> str:
    assert answer.status == 201
    location = answer.headers["Location"]
    assert location.startswith(f"http://127.0.0.1:{client.port}/files/")
    return "/files/" + location.rpartition("/")[2]


def offset(client: http.client.HTTPConnection, path: str) -> int:
    return int(ask(client, "HEAD", path, VERSION).headers["Upload-Offset"])


def begin_patch(port: int, path: str, length: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
    lines = PATCH | {"Host": f"127.0.0.1:{port}", "Upload-Offset": "0", "Content-Length": str(length)}
    head = f"PATCH {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    connection.sendall(head.encode() + b"\r\n")
    return connection


def digest(data: bytes) -> str:
    return "sha256 " + base64.b64encode(hashlib.sha256(data).digest()).decode()


def test_an_upload_goes_through(client: http.client.HTTPConnection) -> None:
    data = random.Random(1).randbytes(3_000_001)
    path = create(client, len(data))
    middle = 1_000_000
    assert ask(client, "PATCH", path, PATCH | {"Upload-Offset": "0"}, data[:middle]).status == 204
    assert offset(client, path) == middle
    assert ask(client, "PATCH", path, PATCH | {"Upload-Offset": str(middle)}, data[middle:]).status == 204
    assert ask(client, "GET", path, {}).body == data  # type: ignore[attr-defined]
    part = ask(client, "GET", path, {"Range": "bytes=999990-1000009"})
    assert (part.status, part.body) == (206, data[999_990:1_000_010])  # type: ignore[attr-defined]
    assert ask(client, "DELETE", path, VERSION).status == 204
    assert ask(client, "HEAD", path, {}).status == 404


def test_50_MiB_in_one_body_are_the_same_bytes(client: http.client.HTTPConnection, large: bytes) -> None:
    path = create(client, len(large))
    headers = PATCH | {"Upload-Offset": "0", "Upload-Checksum": digest(large)}
    assert ask(client, "PATCH", path, headers, large).status == 204
    assert offset(client, path) == len(large)
    assert ask(client, "GET", path, {}).body == large  # type: ignore[attr-defined]


def test_S3_a_large_body_with_another_checksum_counts_nothing(client: http.client.HTTPConnection, large: bytes) -> None:
    path = create(client, len(large))
    headers = PATCH | {"Upload-Offset": "0", "Upload-Checksum": digest(b"something else")}
    assert ask(client, "PATCH", path, headers, large[: 10 * MIB]).status == 460
    assert offset(client, path) == 0


def test_parallel_parts_are_joined(client: http.client.HTTPConnection, large: bytes) -> None:
    pieces = [large[: 2 * MIB], large[2 * MIB : 5 * MIB]]
    partials = [create(client, len(piece), Upload_Concat="partial") for piece in pieces]
    for path, piece in zip(partials, pieces, strict=True):
        assert ask(client, "PATCH", path, PATCH | {"Upload-Offset": "0"}, piece).status == 204
    final = path_of(client, ask(client, "POST", "/files/", VERSION | {"Upload-Concat": "final;" + " ".join(partials)}))
    assert ask(client, "GET", final, {}).body == large[: 5 * MIB]  # type: ignore[attr-defined]


def test_an_upload_that_was_cut_off_goes_on_where_it_was(
    server: AsgiServer, client: http.client.HTTPConnection, large: bytes
) -> None:
    """How much is there is the server's matter (only ours keeps all); that it is true, and not little, is ours."""
    data = large[: 20 * MIB]
    path = create(client, len(data))
    with begin_patch(server.port, path, len(data)) as connection:
        connection.sendall(data[: 12 * MIB])
    reached = offset(client, path)
    assert MIB <= reached <= 12 * MIB
    assert ask(client, "PATCH", path, PATCH | {"Upload-Offset": str(reached)}, data[reached:]).status == 204
    assert ask(client, "GET", path, {}).body == data  # type: ignore[attr-defined]


def test_S7_checksum_trailers_are_not_offered_and_not_ignored(client: http.client.HTTPConnection) -> None:
    extensions = ask(client, "OPTIONS", "/files/", {}).headers["Tus-Extension"].split(",")
    assert "checksum" in extensions
    assert "checksum-trailer" not in extensions
    path = create(client, 5)
    headers = PATCH | {"Upload-Offset": "0", "Trailer": "Upload-Checksum"}
    assert ask(client, "PATCH", path, headers, b"hello").status == 400
    assert offset(client, path) == 0


def test_an_early_error_does_not_make_the_next_request_a_body(client: http.client.HTTPConnection) -> None:
    path = create(client, 500_000)
    answer = ask(client, "PATCH", path, PATCH | {"Upload-Offset": "7"}, b"x" * 500_000)
    assert answer.status == 409
    assert answer.headers["Connection"] == "close"
    assert offset(client, path) == 0  # http.client connects anew


def test_unknown_paths_are_answered_in_the_words_of_the_house(client: http.client.HTTPConnection) -> None:
    answer = ask(client, "GET", "/nowhere", {})
    assert (answer.status, answer.body) == (404, b"ERR_NOT_FOUND: not found\n")  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", FOREIGN)
def test_a_slow_disk_slows_the_client_and_costs_no_memory(name: str, tmp_path: Path, large: bytes) -> None:
    with run_asgi_server(name, tmp_path, GATED_APPLICATION) as server:
        client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        path = create(client, len(large))
        before = server.memory_bytes
        with begin_patch(server.port, path, len(large)) as connection:
            sent = send_until_stuck(connection, large)
            assert sent < 16 * MIB  # what two kernels and the server hold
            assert server.memory_bytes - before < 8 * MIB
            client.request("GET", "/open")
            assert client.getresponse().read() == b""
            connection.sendall(memoryview(large)[sent:])
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            assert answer.status == 204
        assert server.memory_bytes - before < 8 * MIB
        assert ask(client, "GET", path, {}).body == large  # type: ignore[attr-defined]
        client.close()


def send_until_stuck(connection: socket.socket, data: bytes, quiet_seconds: float = 1.0) -> int:
    """Send until nobody has taken a byte for so long; returns how many were taken."""
    sent = 0
    connection.setblocking(False)
    while sent < len(data) and select.select([], [connection], [], quiet_seconds)[1]:
        sent += connection.send(data[sent : sent + 65536])
    connection.settimeout(20)
    return sent


@pytest.mark.parametrize("name", FOREIGN)
def test_a_slow_download_costs_no_memory(name: str, tmp_path: Path, large: bytes) -> None:
    with run_asgi_server(name, tmp_path) as server:
        client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        path = create(client, len(large))
        assert ask(client, "PATCH", path, PATCH | {"Upload-Offset": "0"}, large).status == 204
        before = server.memory_bytes
        slow = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        slow.request("GET", path)
        answer = slow.getresponse()
        highest, quiet_at = 0, time.monotonic() + 1.0
        while time.monotonic() < quiet_at:  # it is what does not happen that counts
            highest = max(highest, server.memory_bytes - before)
            time.sleep(0.05)
        assert highest < 8 * MIB
        assert answer.read() == large
        slow.close()
        client.close()


def test_every_difference_of_the_wire_suite_names_a_case_of_it() -> None:
    """So that a case that is renamed or mended does not stay away from the other servers unseen."""
    command = [sys.executable, "-m", "pytest", "tests/wire", "--collect-only", "-q", "--differences"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    servers = "|".join(FOREIGN)
    found = re.findall(rf"::(test_\w+)\[({servers})-?(.*)\]$", listed, re.MULTILINE)
    cases = {
        (server, f"{function}[{parameters}]" if parameters else function) for function, server, parameters in found
    }
    assert cases
    for each in ONLY_OURS + THEIR_OWN:
        for server, pattern in itertools.product(each.servers, each.cases):
            assert any(fnmatch.fnmatchcase(case, pattern) for at, case in cases if at == server), (server, pattern)
