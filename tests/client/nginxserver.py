"""A real nginx on loopback, with the server blocks that a test gives it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType

WAIT_SECONDS = 15.0

MAIN = """\
daemon off;
{user}
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/site.conf;
}}
"""


class MissingNginx(Exception):
    """It is not installed."""


class Nginx:
    def __init__(self, folder: Path, site: str, port: int) -> None:
        found = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if found is None:
            raise MissingNginx("nginx")
        self._folder = folder
        self._port = port
        user = "user root;" if os.geteuid() == 0 else ""  # the folder of a test is its user's
        (folder / "nginx.conf").write_text(MAIN.format(folder=folder, user=user))
        (folder / "site.conf").write_text(site)
        self._command = [found, "-c", str(folder / "nginx.conf"), "-p", str(folder), "-e", str(folder / "error.log")]

    def __enter__(self) -> Nginx:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", self._port), 1).close()
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self._process.kill()
                    self._process.wait()
                    raise AssertionError(f"nginx does not start: {self.log()}") from None
                time.sleep(0.01)
            else:
                return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(WAIT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if error is not None:
            error.add_note(f"nginx's log:\n{self.log()[-2000:]}")

    def log(self) -> str:
        path = self._folder / "error.log"
        return path.read_text() if path.exists() else ""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
