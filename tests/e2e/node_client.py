"""tus-js-client and Uppy on Node, each upload in a process of its own: installed once, started, told what to do.

What a script under `js/` reports (one JSON object a line) is kept in order; waiting for an event reads up to it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import queue
import shutil
import subprocess
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

FOLDER = Path(__file__).parent / "js"
INSTALL_SECONDS = 180.0
WAIT_SECONDS = 30.0

Report = dict[str, Any]


class MissingNode(Exception):
    """There is no Node here, or its packages cannot be installed."""


def installed_node_client() -> NodeClient:
    """Install the locked packages unless they are there; several test runs at once do it once."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise MissingNode("node and npm are needed to run the JavaScript clients")
    lock_file = FOLDER / "package-lock.json"
    stamp = FOLDER / "node_modules" / ".installed-from"
    with lock_file.open("rb") as locked:
        fcntl.flock(locked, fcntl.LOCK_EX)
        wanted = hashlib.sha256(locked.read()).hexdigest()
        if not stamp.exists() or stamp.read_text() != wanted:
            _install(npm)
            stamp.write_text(wanted)
    return NodeClient(node)


def _install(npm: str) -> None:
    command = [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
    try:
        done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise MissingNode("npm ci did not end; is there a network?") from error
    if done.returncode:
        raise MissingNode(f"npm ci failed: {done.stderr[-1000:]}")


class NodeClient:
    def __init__(self, node: str) -> None:
        self._node = node

    def start(self, script: str = "upload.mjs", **scenario: Any) -> NodeRun:
        environment = os.environ | {"NODE_NO_WARNINGS": "1"}
        process = subprocess.Popen(
            [self._node, str(FOLDER / script), json.dumps(scenario)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        return NodeRun(process)

    def upload(self, script: str = "upload.mjs", **scenario: Any) -> NodeRun:
        """Run it to its end, which must be a success."""
        with self.start(script, **scenario) as run:
            run.finish()
        return run


class NodeRun:
    """One client process, from start to end of a `with`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._errors: list[str] = []
        self._readers = [
            threading.Thread(target=self._read_reports, daemon=True),
            threading.Thread(target=self._read_errors, daemon=True),
        ]
        self.reports: list[Report] = []
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> NodeRun:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        for reader in self._readers:
            reader.join()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert pipe is not None
            pipe.close()
        if error is not None:
            error.add_note(self._story())

    def wait_for(self, event: str, seconds: float = WAIT_SECONDS) -> Report:
        """Read reports until one is this `event`; an error that was not waited for fails."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {event} in {seconds} s; {self._story()}") from None
            assert line is not None, f"the client ended without {event}; {self._story()}"
            report: Report = json.loads(line)
            self.reports.append(report)
            if report["event"] == event:
                return report
            assert report["event"] != "error", self._story()

    def tell(self, command: str) -> None:
        """`abort` or `terminate`."""
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()

    def finish(self, seconds: float = WAIT_SECONDS) -> str:
        """Wait for success; returns the upload's URL."""
        return str(self.wait_for("success", seconds)["url"])

    @property
    def url(self) -> str:
        return str(self.of("success")[-1]["url"])

    def of(self, event: str) -> list[Report]:
        return [each for each in self.reports if each["event"] == event]

    @property
    def answers(self) -> list[tuple[str, int]]:
        """Method and status of every answer, in order."""
        return [(each["method"], each["status"]) for each in self.of("answer")]

    def check_offsets(self) -> None:
        """No offset that the client was answered was taken back later."""
        highest: dict[str, int] = {}
        for answer in self.of("answer"):
            if answer["offset"] is not None:
                assert answer["offset"] >= highest.get(answer["url"], 0), answer
                highest[answer["url"]] = answer["offset"]

    def _story(self) -> str:
        return f"it reported {self.reports[-12:]} and wrote {''.join(self._errors)[-2000:]!r}"

    def _read_reports(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def _read_errors(self) -> None:
        assert self._process.stderr is not None
        self._errors.extend(self._process.stderr)
