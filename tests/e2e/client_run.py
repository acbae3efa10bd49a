"""One run of a client in a process of its own, and what it reports: one JSON object a line, kept in order.

What is run and how it is installed is its caller's; waiting for an event reads up to it.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any

WAIT_SECONDS = 30.0

Report = dict[str, Any]


class Reports:
    """What a client has reported so far. Each report has an `event`; an `answer` is one of the server's."""

    def __init__(self) -> None:
        self.reports: list[Report] = []

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


class ClientRun(Reports):
    """One client process, from start to end of a `with`."""

    def __init__(self, command: Sequence[str]) -> None:
        super().__init__()
        self._process = subprocess.Popen(
            command,
            env=os.environ | {"NODE_NO_WARNINGS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._errors: list[str] = []
        self._readers = [
            threading.Thread(target=self._read_reports, daemon=True),
            threading.Thread(target=self._read_errors, daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> ClientRun:
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
