"""A real redis-server for tests, on a free port of the loopback; it may be stopped, killed and started again."""

from __future__ import annotations

import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
import redis.asyncio  # noqa: F401  (here, since it reads files, which nobody may do in an event loop)


class RedisServer:
    """`options` are lines of redis.conf; `kind` may be "sentinel"."""

    def __init__(self, path: Path, *options: str, port: int | None = None, kind: str = "") -> None:
        self.port = port or free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._path = path
        self._kind = kind
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Empty, as it always is after a stop, unless the options are to keep something."""
        program = shutil.which("redis-server")
        if program is None:
            pytest.skip("missing: redis-server")
        self._path.mkdir(parents=True, exist_ok=True)
        file = self._path / f"{self.port}.conf"
        lines = [f"port {self.port}", "bind 127.0.0.1", f"dir {self._path}"]
        lines += [] if self._kind else ['save ""', "appendonly no", "enable-debug-command local"]
        lines += self._options
        lines += ["sentinel resolve-hostnames no"] if self._kind else []
        file.write_text("\n".join(lines) + "\n")
        command = [program, str(file), *(["--sentinel"] if self._kind else [])]
        with (self._path / f"{self.port}.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        self._wait()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def ask(self, *words: str) -> str:
        """What redis-cli prints."""
        command = ["redis-cli", "-p", str(self.port), *words]
        ran = subprocess.run(command, check=False, capture_output=True, text=True, timeout=10)
        assert ran.returncode == 0, f"{words}: {ran.stdout} {ran.stderr}"
        return ran.stdout.strip()

    def is_primary(self) -> bool:
        """Whether it is one by now: Sentinel cuts all connections to a replica that it promotes."""
        with suppress(AssertionError):
            return "role:master" in self.ask("INFO", "replication")
        return False

    def names(self) -> list[str]:
        """Of all keys."""
        return self.ask("--scan").split()

    def _wait(self) -> None:
        """Until it listens. It has no other way of saying so than to be called."""
        end = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self._listening_port()), 1).close()
            except OSError:
                log = self._path / f"{self.port}.log"
                assert time.monotonic() < end and self._process.poll() is None, log.read_text()  # noqa: PT018
                time.sleep(0.01)
            else:
                return

    def _listening_port(self) -> int:
        tls = [line.split()[1] for line in self._options if line.startswith("tls-port")]
        return int(tls[0]) if tls else self.port


def free_port() -> int:
    """One that connections do not get by themselves, so it stays free until it is used."""
    while True:
        port = random.randrange(12000, 32000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@contextmanager
def redis_server(path: Path, *options: str, port: int | None = None, kind: str = "") -> Iterator[RedisServer]:
    server = RedisServer(path, *options, port=port, kind=kind)
    server.start()
    try:
        yield server
    finally:
        server.kill()


@contextmanager
def sentinel_servers(path: Path, name: str, down_after_ms: int) -> Iterator[tuple[RedisServer, RedisServer, str]]:
    """A primary, its replica, which has all that it has, and a URL by which Sentinel tells where the primary is."""
    with ExitStack() as stack:
        primary = stack.enter_context(redis_server(path, "repl-diskless-sync-delay 0"))
        replica = stack.enter_context(redis_server(path, f"replicaof 127.0.0.1 {primary.port}"))
        options = [
            f"sentinel monitor {name} 127.0.0.1 {primary.port} 1",
            f"sentinel down-after-milliseconds {name} {down_after_ms}",
            f"sentinel failover-timeout {name} 2000",
        ]
        sentinel = stack.enter_context(redis_server(path, *options, kind="sentinel"))
        _wait_until(lambda: "master_link_status:up" in replica.ask("INFO", "replication"), 10)
        _wait_until(lambda: str(replica.port) in sentinel.ask("SENTINEL", "REPLICAS", name), 15)
        yield primary, replica, f"redis+sentinel://127.0.0.1:{free_port()},127.0.0.1:{sentinel.port}/{name}/0"


def _wait_until(is_true: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.01)
