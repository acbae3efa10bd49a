"""`tusd-py upload` as a process that tests can read, interrupt and kill."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from queue import Queue
from types import TracebackType

from upload_server import ROOT

WAIT_SECONDS = 20.0


class Uploading:
    def __init__(self, *argv: str) -> None:
        self._argv = [sys.executable, "-W", "error", "-m", "tusd_py", "upload", *argv]
        self.said: list[str] = []
        self._lines: Queue[str] = Queue()

    def __enter__(self) -> Uploading:
        self.process = subprocess.Popen(self._argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join(WAIT_SECONDS)
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()
        if error is not None:
            error.add_note(f"it said: {self.said}")

    def wait_for(self, words: str) -> None:
        """Until it says them."""
        while words not in self._lines.get(timeout=WAIT_SECONDS):
            pass

    def finish(self) -> tuple[int, str, list[str]]:
        """Exit code, standard output, and the lines of standard error."""
        code = self.process.wait(WAIT_SECONDS)
        self._reader.join(WAIT_SECONDS)
        assert self.process.stdout is not None
        return code, self.process.stdout.read(), self.said

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line.rstrip("\n"))
            self._lines.put(line)


def kept(state: Path) -> list[Path]:
    """What is remembered of unfinished uploads."""
    folder = state / "tusd-py" / "uploads"
    return sorted(folder.iterdir()) if folder.exists() else []
