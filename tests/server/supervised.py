"""The command with its workers, as a real process: its log, its workers' pids, and requests to any of them."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 15.0
# What a test may change in the supervisor; its workers are started by the same command.
PROGRAM = """
import sys
from tusd_py.cli import main
from tusd_py.server import supervise
{changes}
sys.exit(main())
"""


class Supervised:
    """`process` is the supervisor. Standard error goes to `log_path`."""

    def __init__(self, folder: Path, *flags: str, changes: str = "", environ: dict[str, str] | None = None) -> None:
        self.log_path = folder / "server.log"
        self.directory = folder / "uploads"
        self.said: list[str] = []
        program = ["-c", PROGRAM.format(changes=changes)] if changes else ["-m", "tusd_py"]
        self.argv = [sys.executable, "-W", "error", *program, "--upload-dir", str(self.directory), *flags]
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("TUSD_PY_", "MALLOC_"))}
        self._environ = clean | {"PYTHONPATH": str(ROOT), "TMPDIR": str(folder)} | (environ or {})
        self.began = time.monotonic()
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self.argv, cwd=folder, env=self._environ, stdout=subprocess.PIPE, stderr=log, start_new_session=True
            )
        assert self.process.stdout is not None
        self.ready_line = self.process.stdout.readline().decode()
        self.ready_seconds = time.monotonic() - self.began

    @property
    def port(self) -> int:
        found = re.search(r"https?://127\.0\.0\.1:(\d+)/", self.ready_line)
        assert found, f"not ready: {self.ready_line!r}\n{self.log}"
        return int(found[1])

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def workers(self) -> list[int]:
        """The pids of all that live; those that only wait to be reaped do not."""
        return [pid for pid in children(self.process.pid) if is_alive(pid)]

    def connect(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_SECONDS)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def ask(self, method: str = "OPTIONS", path: str = "/files/", **headers: str) -> http.client.HTTPResponse:
        """One request on a connection of its own; the answer's body is read already."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
        connection.request(method, path, headers={name.replace("_", "-"): text for name, text in headers.items()})
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return answer

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait_for_log(self, text: str, count: int = 1) -> None:
        wait_until(lambda: self.log.count(text) >= count, lambda: f"no {count} {text!r} in:\n{self.log}")

    def renew(self) -> None:
        """SIGHUP, to the end of the last old worker."""
        old, count = set(self.workers()), self.log.count("Reloaded")
        self.send(signal.SIGHUP)
        self.wait_for_log("Reloaded", count + 1)
        wait_until(lambda: not old & set(self.workers()), lambda: f"old workers stay:\n{self.log}")

    def end(self, number: signal.Signals | None = signal.SIGTERM) -> tuple[int, str]:
        """Exit code, and what it printed after its first line."""
        if number is not None:
            self.send(number)
        out, _ = self.process.communicate(timeout=PATIENCE_SECONDS)
        return self.process.returncode, out.decode()

    def clear_away(self) -> None:
        """For the end of a test, whatever has become of it: the session is ours, and so is all that is in it."""
        pids = [self.process.pid, *children(self.process.pid), *session(self.process.pid)]
        for pid in {pid for pid in pids if is_alive(pid)}:
            os.kill(pid, signal.SIGKILL)
        self.process.communicate()


def children(pid: int) -> list[int]:
    try:
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def session(leader: int) -> list[int]:
    """All processes of a session: those that outlived their parent, too."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            fields = _stat(int(folder.name))
            if fields and fields[3] == str(leader):
                found.append(int(folder.name))
    return found


def is_alive(pid: int) -> bool:
    fields = _stat(pid)
    return bool(fields) and fields[0] not in "ZX"


def _stat(pid: int) -> list[str]:
    """/proc/<pid>/stat from the state on; empty if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return []


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def memory_kib(pid: int) -> int:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1])


def wait_until(is_so: Callable[[], bool], complaint: Callable[[], str] = lambda: "it did not come about") -> None:
    """For states of other processes, which no event tells."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < deadline, complaint()
        time.sleep(0.005)


@contextmanager
def frozen(*pids: int) -> Iterator[None]:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            if is_alive(pid):
                os.kill(pid, signal.SIGCONT)


Run = Callable[..., Supervised]
