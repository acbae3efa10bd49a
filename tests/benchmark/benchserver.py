"""One running server of a peer: its folder, port, process and log; started, awaited, read back from and stopped."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from benchpeers import Recipe, Unavailable
from benchwire import Target, file_differs_from_pattern

if TYPE_CHECKING:
    from benchstorage import Bucket  # needs boto3

START_SECONDS = 30.0
STOP_SECONDS = 10.0
EMPTIED_FROM_BYTES = 1 << 20


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


class Server:
    """Use as a context manager. It stores in the bucket, if there is one, else in the folder."""

    def __init__(self, name: str, recipe: Recipe, folder: Path, bucket: Bucket | None = None) -> None:
        self.name, self.recipe, self.folder, self.bucket = name, recipe, folder, bucket
        self.target = Target("127.0.0.1", free_port())
        self._log = folder.with_suffix(".log")

    def __enter__(self) -> Server:
        self.folder.mkdir(parents=True, exist_ok=True)
        places = self.bucket.places if self.bucket else {}
        command, environment = self.recipe.fill(port=str(self.target.port), folder=str(self.folder), **places)
        with open(self._log, "wb") as log:
            self.process = subprocess.Popen(
                command,
                env=os.environ | environment,
                cwd=self.folder.parent,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            self._await_answer()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_SECONDS)
        with suppress(ProcessLookupError):  # what it started and left; the group is of this server only
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def stored_in(self) -> Path:
        """The folder on the disk, whoever writes to it."""
        return self.bucket.folder if self.bucket else self.folder

    def last_words(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        telling = [line for line in lines if "error" in line.lower()]
        return (telling or lines or ["it says nothing"])[-1].strip()

    def _await_answer(self) -> None:
        """Until it created an upload, as a port may listen before anybody answers."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            if self.process.poll() is not None:
                raise Unavailable(f"{self.name} ended at its start: {self.last_words()}")
            try:
                self.target.create(1, b"x")
                return
            except (OSError, KeyError) as error:
                if time.monotonic() > deadline:
                    raise Unavailable(f"{self.name} does not answer ({error}): {self.last_words()}") from error
                time.sleep(0.05)

    def check(self, path: str, start: int, length: int) -> str:
        """What is wrong with an upload that the server took; from its folder if it serves no downloads."""
        if self.bucket:
            return self.bucket.differs_from_pattern(path, start, length)
        reason = "it is not in the folder"
        if self.recipe.is_asked_for_downloads:
            try:
                return self.target.differs_from_pattern(path, start, length)
            except (LookupError, OSError) as error:
                reason = str(error)
        file = self.folder / path.rstrip("/").rpartition("/")[2]
        if file.is_file():
            return file_differs_from_pattern(str(file), start, length)
        return f"cannot be read back: {reason}"

    def empty_large_files(self) -> None:
        """Give memory and disk back without removing files: ext4 creates files slowly after others were removed."""
        for folder, _, names in os.walk(self.stored_in):
            for name in names:
                path = os.path.join(folder, name)
                with suppress(OSError):
                    if os.path.getsize(path) >= EMPTIED_FROM_BYTES:
                        os.truncate(path, 0)
