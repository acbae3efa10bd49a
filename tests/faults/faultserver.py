"""Real server processes that may be killed, frozen and started again; how one is started is known only here.

What they are asked is left to `faultclient`.
"""

from __future__ import annotations

import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from faultclient import Client

ROOT = Path(__file__).parent.parent.parent
START_SECONDS = 20.0
END_SECONDS = 15.0

_TICKS = os.sysconf("SC_CLK_TCK")


class Server:
    """One process that serves `directory`. It keeps its port and its log when it is started again."""

    def __init__(self, directory: Path, log_path: Path, flags: tuple[str, ...], wrapper: tuple[str, ...] = ()) -> None:
        self.directory = directory
        self.log_path = log_path
        self.port = 0
        self._flags = flags
        self._wrapper = wrapper
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    @property
    def client(self) -> Client:
        return Client(self.port)

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def start(self) -> None:
        """Returns when the server listens."""
        command = [*self._wrapper, sys.executable, "-m", "tusd_py", "--upload-dir", str(self.directory)]
        command += ["--port", str(self.port), "--workers", "1", *self._flags]  # what is killed is what serves
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TUSD_PY_")}
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=log)
        assert self.process.stdout is not None
        url = _announced_url(self.process.stdout)
        assert url, f"the server did not start; it wrote: {self.log[-4000:]}"
        self.port = int(url[1])

    def kill(self) -> None:
        """As `kill -9`; returns when the kernel has ended it."""
        self.process.kill()
        self._reap()

    def request_stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def exit_code(self, within_seconds: float = END_SECONDS) -> int:
        """Wait for the end. Raises subprocess.TimeoutExpired."""
        self.process.wait(within_seconds)
        return self._reap()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """It stands still and keeps everything it has: sockets, locks."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            wait_for(lambda: self._stat()[0] == "T")
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        """For the end of a test, whatever state the process is in."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.request_stop()
        try:
            self.exit_code()
        except subprocess.TimeoutExpired:
            self.kill()

    def cpu_seconds(self) -> float:
        """User and system time so far."""
        fields = self._stat()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def peak_memory_bytes(self) -> int:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{self.process.pid}/status").read_text())
        assert found
        return int(found[1]) * 1024

    def _stat(self) -> list[str]:
        """/proc/<pid>/stat from the state on."""
        return Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(") ")[2].split()

    def _reap(self) -> int:
        code = self.process.wait(END_SECONDS)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


def _announced_url(output: IO[bytes]) -> re.Match[str] | None:
    """The URL in the first line, once that line is there."""
    deadline = time.monotonic() + START_SECONDS
    printed = b""
    with selectors.DefaultSelector() as selector:
        selector.register(output, selectors.EVENT_READ)
        while b"\n" not in printed and selector.select(max(0, deadline - time.monotonic())):
            if not (data := os.read(output.fileno(), 4096)):
                break
            printed += data
    return re.match(r"[^\n]*http://127\.0\.0\.1:([0-9]+)/files/\n", printed.decode())


def wait_for(is_so: Callable[[], bool], within_seconds: float = 5.0) -> None:
    """Until something that no event tells is so: states of other processes and of their files."""
    deadline = time.monotonic() + within_seconds
    while not is_so():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.005)


@dataclass(frozen=True)
class Duo:
    """Two ways to one upload directory: the same server twice, or two servers. Tests use them in turn."""

    directory: Path
    servers: tuple[Server, ...]

    @property
    def a(self) -> Client:
        return self.servers[0].client

    @property
    def b(self) -> Client:
        return self.servers[-1].client

    def cpu_seconds(self) -> float:
        return sum(server.cpu_seconds() for server in self.servers)

    def files_of(self, path: str) -> list[str]:
        """Everything in the directory that bears the upload's id."""
        upload_id = path.rpartition("/")[2]
        return sorted(str(each) for each in self.directory.rglob("*") if upload_id in each.name)
