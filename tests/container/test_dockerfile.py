"""The container: hadolint finds nothing, and its steps, taken in a clean place, make a server that needs no root."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import dockerfile
from replay import Box, can_replay

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "Dockerfile"
OF_THE_NETWORK = ("PIP_", "NPM_", "npm_", "SSL_", "NODE_", "HTTP_", "HTTPS_", "http_", "https_", "no_", "NO_")
VERSION = {"Tus-Resumable": "1.0.0"}


@pytest.fixture(scope="module")
def stages() -> list[dockerfile.Stage]:
    return dockerfile.read(DOCKERFILE)


def test_hadolint_finds_nothing() -> None:
    program = Path(sys.executable).with_name("hadolint")
    if not program.exists():
        pytest.skip("missing: hadolint")
    done = subprocess.run([program, DOCKERFILE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_what_runs_is_small_and_not_root(stages: list[dockerfile.Stage]) -> None:
    final = stages[-1]
    assert "slim" in final.base
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", final.last("USER").text)
    assert final.last("STOPSIGNAL").text == "SIGTERM"
    assert final.last("ENTRYPOINT").words == ["tusd-py"]
    assert final.last("EXPOSE").text in final.last("ENV").text
    assert len(final.all("HEALTHCHECK")) == 1
    assert [step.words[0] for step in final.all("COPY")] == ["--from=build"]  # no sources, no compiler, no npm


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory, stages: list[dockerfile.Stage]) -> Iterator[Box]:
    if missing := can_replay():
        pytest.skip(f"missing: {missing}")
    folder = tmp_path_factory.mktemp("image")
    environment = {name: value for name, value in os.environ.items() if name.startswith(OF_THE_NETWORK)}
    boxes: dict[str, Box] = {}
    for stage in stages:
        box = Box(folder / (stage.name or "final"))
        box.build(stage, ROOT, boxes, environment)
        boxes[stage.name] = box
    yield boxes[""]
    shutil.rmtree(folder, ignore_errors=True)


def test_its_server_runs_without_root_on_a_root_that_cannot_be_written(
    image: Box, stages: list[dockerfile.Stage]
) -> None:
    final = stages[-1]
    shutil.chown(image.path / "data", *map(int, image.user.split(":")))
    port = {"TUSD_PY_PORT": "0"}
    server = image.start(final.last("ENTRYPOINT").words, is_read_only=True, more=port)
    try:
        url = _announced(server)
        status = Path(f"/proc/{server.pid}/status").read_text()
        assert re.search(r"^Uid:\s+10001\s+10001\s+10001\s+10001$", status, re.MULTILINE)
        made = _ask("POST", url, {"Upload-Length": "5", "Content-Type": "application/offset+octet-stream"}, b"hello")
        with urllib.request.urlopen(made.headers["Location"]) as answer:
            assert answer.read() == b"hello"
        with urllib.request.urlopen(url.removesuffix("files/")) as answer:
            assert b'name="tusd-py"' in answer.read()  # the page
        check = image.start(
            final.last("HEALTHCHECK").words, is_read_only=True, more={"TUSD_PY_PORT": url.split(":")[2].split("/")[0]}
        )
        output, _ = check.communicate(timeout=20)
        assert check.returncode == 0, output
        touched = image.start(["touch", "/x"], is_read_only=True)
        touched.communicate(timeout=20)
        assert touched.returncode != 0
        server.send_signal(getattr(signal, final.last("STOPSIGNAL").text))
        assert server.wait(20) == 0
    finally:
        server.kill()
        server.communicate()
    assert {path.suffix for path in (image.path / "data").iterdir() if path.is_file()} == {"", ".info"}
    unhealthy = image.start(final.last("HEALTHCHECK").words, is_read_only=True, more={"TUSD_PY_PORT": "1"})
    unhealthy.communicate(timeout=20)
    assert unhealthy.returncode == 1


def _announced(server: subprocess.Popen[bytes]) -> str:
    lines = b""
    assert server.stdout is not None
    while line := server.stdout.readline():
        lines += line
        if found := re.search(rb"is ready: (http://\S+)", line):
            return found[1].decode().replace("0.0.0.0", "127.0.0.1")
    raise AssertionError(lines.decode())


def _ask(method: str, url: str, headers: dict[str, str], body: bytes) -> urllib.request.addinfourl:
    request = urllib.request.Request(url, body, VERSION | headers, method=method)
    answer: urllib.request.addinfourl = urllib.request.urlopen(request)
    answer.close()
    return answer
