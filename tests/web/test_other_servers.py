"""The app under ASGI servers that are not ours: the same answers, no checksum trailers, no swallowed requests."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

COMMANDS = {
    "uvicorn-httptools": ["uvicorn", "--factory", "tusd_py.app:create_app", "--http", "httptools", "--port"],
    "uvicorn-h11": ["uvicorn", "--factory", "tusd_py.app:create_app", "--http", "h11", "--port"],
    "hypercorn": ["hypercorn", "tusd_py.app:create_app()", "--bind"],
}
VERSION = {"Tus-Resumable": "1.0.0"}
PATCH = VERSION | {"Content-Type": "application/offset+octet-stream"}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module", params=COMMANDS)
def port(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder: Path = tmp_path_factory.mktemp("other")
    port = _free_port()
    command = COMMANDS[request.param]
    address = f"127.0.0.1:{port}" if command[-1] == "--bind" else str(port)
    environment = os.environ | {"PYTHONPATH": str(request.config.rootpath)}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command, address], cwd=folder, env=environment, stdout=log, stderr=log
        )
    try:
        deadline = time.monotonic() + 20
        while not _listens(port):
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)  # the only sign that a foreign server gives
        yield port
    finally:
        process.terminate()
        process.wait(20)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def client(port: int) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    yield connection
    connection.close()


def ask(
    client: http.client.HTTPConnection, method: str, path: str, headers: dict[str, str], body: bytes | None = None
) -> http.client.HTTPResponse:
    client.request(method, path, body, headers)
    answer = client.getresponse()
    answer.body = answer.read()  # type: ignore[attr-defined]
    assert answer.headers["Tus-Resumable"] == "1.0.0"
    return answer


def create(client: http.client.HTTPConnection, length: int) -> str:
    answer = ask(client, "POST", "/files/", VERSION | {"Upload-Length": str(length)})
    assert answer.status == 201
    location = answer.headers["Location"]
    assert location.startswith(f"http://127.0.0.1:{client.port}/files/")
    return "/files/" + location.rpartition("/")[2]


def test_an_upload_goes_through(client: http.client.HTTPConnection) -> None:
    data = os.urandom(3_000_001)
    path = create(client, len(data))
    middle = 1_000_000
    assert ask(client, "PATCH", path, PATCH | {"Upload-Offset": "0"}, data[:middle]).status == 204
    assert ask(client, "HEAD", path, {}).headers["Upload-Offset"] == str(middle)
    assert ask(client, "PATCH", path, PATCH | {"Upload-Offset": str(middle)}, data[middle:]).status == 204
    assert ask(client, "GET", path, {}).body == data  # type: ignore[attr-defined]
    assert ask(client, "DELETE", path, VERSION).status == 204
    assert ask(client, "HEAD", path, {}).status == 404


def test_S7_checksum_trailers_are_not_offered_and_not_ignored(client: http.client.HTTPConnection) -> None:
    extensions = ask(client, "OPTIONS", "/files/", {}).headers["Tus-Extension"].split(",")
    assert "checksum" in extensions
    assert "checksum-trailer" not in extensions
    path = create(client, 5)
    headers = PATCH | {"Upload-Offset": "0", "Trailer": "Upload-Checksum"}
    assert ask(client, "PATCH", path, headers, b"hello").status == 400
    assert ask(client, "HEAD", path, {}).headers["Upload-Offset"] == "0"


def test_an_early_error_does_not_make_the_next_request_a_body(client: http.client.HTTPConnection) -> None:
    path = create(client, 500_000)
    answer = ask(client, "PATCH", path, PATCH | {"Upload-Offset": "7"}, b"x" * 500_000)
    assert answer.status == 409
    assert answer.headers["Connection"] == "close"
    assert ask(client, "HEAD", path, {}).headers["Upload-Offset"] == "0"  # http.client connects anew


def test_unknown_paths_are_answered_in_the_words_of_the_house(client: http.client.HTTPConnection) -> None:
    answer = ask(client, "GET", "/nowhere", {})
    assert (answer.status, answer.body) == (404, b"ERR_NOT_FOUND: not found\n")  # type: ignore[attr-defined]
