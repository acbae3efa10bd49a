"""Receivers that others wrote: tusd's own example, unchanged, and what Python's http.server makes."""

from __future__ import annotations

import json
import os
import selectors
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from rawreceiver import HOST, hooked, sample

from tusd_py.hooks.contract import GO_ON, PostFinish, PreCreate

pytestmark = pytest.mark.anyio

TUSD = "github.com/tus/tusd/v2@v2.9.2"
FETCH_SECONDS = 120
START_SECONDS = 20

# It listens on a port of its own choice: here the system chooses, and it is said. Nothing else is changed.
RUN = """
import http.server, sys

class Server(http.server.HTTPServer):
    def __init__(self, address, handler):
        super().__init__((address[0], 0), handler)
        print("port", self.server_port, file=sys.stderr, flush=True)

http.server.HTTPServer = Server
path = sys.argv[1]
exec(compile(open(path).read(), path, "exec"), {"__name__": "__main__"})
"""


@pytest.fixture(scope="module")
def example() -> Path:
    """The file, which Go fetches once."""
    if shutil.which("go") is None:
        pytest.skip("missing: go")
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            ["go", "mod", "download", "-json", TUSD],
            cwd=folder, capture_output=True, text=True, timeout=FETCH_SECONDS, check=False,
        )  # fmt: skip
    if done.returncode:
        pytest.skip(f"missing: the Go module of tusd: {done.stdout}{done.stderr}")
    return Path(json.loads(done.stdout)["Dir"]) / "examples" / "hooks" / "http" / "server.py"


@contextmanager
def running(example: Path, log: Path) -> Iterator[int]:
    """Its port. What it prints is in `log`."""
    with log.open("w") as printed:
        process = subprocess.Popen(
            [sys.executable, "-u", "-c", RUN, str(example)],
            stdout=printed, stderr=subprocess.PIPE, env=os.environ | {"PYTHONIOENCODING": "utf-8"},
        )  # fmt: skip
    with process:
        try:
            assert process.stderr is not None
            with selectors.DefaultSelector() as selector:
                selector.register(process.stderr, selectors.EVENT_READ)
                assert selector.select(START_SECONDS), "tusd's example does not start"
            word, port = process.stderr.readline().split()
            assert word == b"port"
            yield int(port)
        finally:
            process.kill()


async def test_tusds_example_receiver_works_unchanged(example: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with running(example, log) as port:
        async with hooked(f"http://localhost:{port}", retries=0) as hook:
            changed = await hook.call(sample(PreCreate))
            assert changed.change is not None
            assert changed.change.id is not None
            assert changed.change.id.startswith("prefix-")
            assert changed.change.metadata is not None
            assert changed.change.metadata["filename"] == "Übung.bin"
            assert set(changed.change.metadata) == {"filename", "creation_time"}
            assert not changed.is_rejected

            event = sample(PreCreate)
            rejected = await hook.call(replace(event, upload=replace(event.upload, metadata={})))
            assert rejected.is_rejected
            assert rejected.response is not None
            assert (rejected.response.status, rejected.response.body) == (400, "no filename provided")

            told = await hook.call(sample(PostFinish))
            assert not told.is_rejected
            assert told.change is None
    assert "Upload a (5 bytes) is finished" in log.read_text(encoding="utf-8")


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if event["Type"] == "post-finish":
            self.send_response(200)  # and no more, as people write it
            self.end_headers()
            return
        body = json.dumps({"RejectUpload": True}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        if self.protocol_version == "HTTP/1.1":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
async def test_a_receiver_made_with_http_server_works(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Handler, "protocol_version", version)
    with ThreadingHTTPServer((HOST, 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            async with hooked(f"http://{HOST}:{server.server_port}/", retries=0) as hook:
                for _ in range(3):
                    assert (await hook.call(sample(PreCreate))).is_rejected
                if version == "HTTP/1.0":
                    assert await hook.call(sample(PostFinish)) == GO_ON
        finally:
            server.shutdown()
            thread.join()
