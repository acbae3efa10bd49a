"""The server under test: a real process that stays on one port and one directory, however often it is killed.

Starts, kills and stops it, and reads back what it stored, by GET and from the disk.
"""

from __future__ import annotations

import hashlib
import os
import re
import selectors
import signal
import subprocess
import sys
import threading
import time
from base64 import b64decode
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import requests

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 20.0
STOP_SECONDS = 15.0
VERSION = {"Tus-Resumable": "1.0.0"}


class UploadServer:
    def __init__(self, directory: Path, *flags: str, command: Sequence[str] = (), cwd: Path = ROOT) -> None:
        self.directory = directory
        self.port = 0
        self._command = [*(command or (sys.executable, "-m", "tusd_py")), "--upload-dir", str(directory), *flags]
        self._cwd = cwd
        self._log = directory.with_name(f"{directory.name}.log")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> UploadServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process is not None:
            try:
                self.stop()
            except subprocess.TimeoutExpired:
                self.kill()
        if error is not None:
            error.add_note(f"the server's log:\n{self.log()[-4000:]}")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/files/"

    def start(self) -> None:
        """Return when it listens: on the port it had before, if there was one."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TUSD_PY_")}
        with self._log.open("ab") as errors:
            self._process = subprocess.Popen(
                [*self._command, "--port", str(self.port), "--workers", "1"],  # what is killed is what serves
                cwd=self._cwd,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        try:
            self.port = self._announced_port()
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        """As a crash: no chance to save anything."""
        process = self._running()
        process.kill()
        self._end(process)

    def stop(self) -> int:
        """As an operator: SIGTERM. Returns the exit code."""
        process = self._running()
        process.send_signal(signal.SIGTERM)
        process.wait(STOP_SECONDS)
        return self._end(process)

    def log(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def direct(self, url: str) -> str:
        """The same upload without the proxy by way of which it was made."""
        return self.url + url.rsplit("/", 1)[1]

    def head(self, url: str) -> requests.Response:
        return requests.head(self.direct(url), headers=VERSION, timeout=10)

    def offset(self, url: str) -> int:
        answer = self.head(url)
        assert answer.status_code in {200, 204}, answer
        return int(answer.headers["Upload-Offset"])

    def metadata(self, url: str) -> dict[str, str]:
        pairs = (pair.partition(" ") for pair in self.head(url).headers["Upload-Metadata"].split(","))
        return {key: b64decode(value).decode() for key, _, value in pairs}

    def is_gone(self, url: str) -> bool:
        """Nobody is answered anything of it, and nothing of it lies on the disk."""
        return self.head(url).status_code in {404, 410} and not list(self.directory.glob(f"{self.path(url).name}*"))

    def path(self, url: str) -> Path:
        return self.directory / url.rsplit("/", 1)[1]

    def digests(self, url: str) -> dict[str, str]:
        """SHA-256 of what GET answers and of what lies on the disk."""
        download = hashlib.sha256()
        with requests.get(self.direct(url), timeout=30, stream=True) as answer:
            assert answer.status_code in {200, 204}, (answer.status_code, answer.text)
            for block in answer.iter_content(1 << 20):
                download.update(block)
        with self.path(url).open("rb") as file:
            stored = hashlib.file_digest(file, "sha256")
        return {"GET": download.hexdigest(), "disk": stored.hexdigest()}

    def check_content(self, url: str, content: bytes) -> None:
        """The upload is finished, and is these bytes wherever one looks."""
        head = self.head(url)
        lengths = [head.headers.get(name) for name in ("Upload-Offset", "Upload-Length")]
        assert lengths == [str(len(content))] * 2, (head, head.headers)
        expected = hashlib.sha256(content).hexdigest()
        assert self.digests(url) == {"GET": expected, "disk": expected}

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "the server does not run"
        return self._process

    def _end(self, process: subprocess.Popen[bytes]) -> int:
        code = process.wait()
        assert process.stdout is not None
        process.stdout.close()
        self._process = None
        return code

    def _announced_port(self) -> int:
        process = self._running()
        assert process.stdout is not None
        descriptor = process.stdout.fileno()
        deadline = time.monotonic() + START_SECONDS
        printed = b""
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            while selector.select(max(0.0, deadline - time.monotonic())) and (data := os.read(descriptor, 4096)):
                printed += data
                if found := re.search(rb"http://127\.0\.0\.1:(\d+)/\S*\s", printed):
                    # What else it prints must not fill the pipe and stop it.
                    threading.Thread(target=_discard, args=(os.dup(descriptor),), daemon=True).start()
                    return int(found[1])
        raise AssertionError(f"the server did not print its URL but {printed!r}; it wrote:\n{self.log()[-4000:]}")


def _discard(descriptor: int) -> None:
    with open(descriptor, "rb") as pipe:
        while pipe.read(4096):
            pass
