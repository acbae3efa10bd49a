"""Several processes behind one port: how they start, die, hang, are renewed and end. All of them real."""

from __future__ import annotations

import http.client
import os
import pty
import re
import select
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.server.certificates import make_certificate
from tests.server.supervised import (
    PATIENCE_SECONDS,
    ROOT,
    Run,
    Supervised,
    children,
    frozen,
    is_alive,
    memory_kib,
    session,
    wait_until,
)
from tusd_py.errors import ConfigError
from tusd_py.server.cores import count_cores
from tusd_py.server.lifeline import Lifeline, Orders
from tusd_py.server.sockets import listen

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
TWO = ("--port", "0", "--workers", "2")


# Starting.


def test_two_workers_are_ready_in_under_a_second_and_say_so_once(run: Run) -> None:
    server = run(*TWO)
    workers = server.workers()
    assert len(workers) == 2
    assert server.log.count("WorkerReady") == 2
    assert server.ready_seconds < 2  # about 0.4 s; this machine may be busy
    assert memory_kib(server.process.pid) < 26 * 1024
    assert server.ask().headers["Tus-Version"] == "1.0.0"
    (folder,) = server.log_path.parent.glob("tusd-py-*")
    assert folder.stat().st_mode & 0o777 == 0o700
    code, rest = server.end()
    assert code == 0
    assert "ready" not in rest
    assert "Traceback" not in server.log
    assert not folder.exists()
    assert not any(is_alive(pid) for pid in workers)


def test_one_worker_is_one_process(run: Run) -> None:
    server = run("--port", "0", "--workers", "1")
    assert children(server.process.pid) == []
    assert server.ask().headers["Tus-Version"] == "1.0.0"
    assert server.end()[0] == 0


def test_the_memory_locker_alone_means_one_process(run: Run) -> None:
    server = run("--port", "0", "--locker", "memory")
    assert children(server.process.pid) == []
    assert server.end()[0] == 0


def test_the_default_is_a_worker_for_each_core(run: Run) -> None:
    server = run("--port", "0")
    assert len(server.workers()) == count_cores()


def refusal(server: Supervised) -> tuple[int, str]:
    assert server.ready_line == ""
    code, _ = server.end(None)
    return code, re.sub(r"^\S+ INFO .*\n", "", server.log, flags=re.MULTILINE)


def test_what_cannot_start_says_why_in_one_line(run: Run, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        problem = f"cannot listen on 127.0.0.1:{port}: another program listens there; stop it or choose another port"
        assert refusal(run("--port", str(port), "--workers", "2")) == (1, f"tusd-py: error: {problem}\n")
    problem = "cannot read the TLS certificate 'missing.crt': No such file or directory"
    flags = ("--tls-certificate", "missing.crt", "--tls-key", "missing.key")
    assert refusal(run(*TWO, *flags)) == (1, f"tusd-py: error: {problem}\n")
    (tmp_path / "file").touch()
    code, said = refusal(run(*TWO, "--upload-dir", str(tmp_path / "file")))
    assert (code, said.count("\n")) == (2, 1)
    assert said.startswith("tusd-py: error: ")
    problem = "--locker memory is for one process; use --locker file for --workers 2"
    assert refusal(run(*TWO, "--locker", "memory")) == (2, f"tusd-py: error: {problem}\n")


def test_a_second_server_finds_the_port_taken(run: Run) -> None:
    """Although its sockets and the workers' all have SO_REUSEPORT."""
    first = run(*TWO)
    code, said = refusal(run("--port", str(first.port), "--workers", "2"))
    assert code == 1
    assert "another program listens there" in said


def test_a_worker_without_a_supervisor_is_refused() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        command = [sys.executable, "-m", "tusd_py", "serving-worker", str(other.fileno())]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert done.stderr == "tusd-py: error: 'serving-worker' is not for you: it is how tusd-py starts its own workers\n"


@pytest.mark.parametrize("line", [b"", b"{}\n", b"[1]\n", b"\xff\n", b'{"slot": 1'])
def test_what_is_no_orders_is_a_value_error(line: bytes) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        ours.sendall(line)
        ours.close()
        with pytest.raises(ValueError):
            Lifeline(theirs.fileno())


def test_a_supervisor_that_was_stopped_does_not_stop_its_workers() -> None:
    """It reads nothing, for hours if need be."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(Orders(0, "", {}, [], [], []).to_line())
        lifeline = Lifeline(theirs.fileno())
        talker = threading.Thread(target=lambda: [lifeline.say("beat") for _ in range(5000)], daemon=True)
        talker.start()
        talker.join(PATIENCE_SECONDS)
        assert not talker.is_alive()
        assert ours.recv(10) == b"beat\nbeat\n"


# Connections.


def connections_of(pid: int, port: int) -> int:
    """How many clients a process serves at this port; it has other sockets too."""
    links = set()
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            links.add(os.readlink(each))
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    established = [line[9] for line in lines if line[3] == "01" and int(line[1].rpartition(":")[2], 16) == port]
    return sum(f"socket:[{inode}]" in links for inode in established)


def test_connections_spread_over_the_workers(run: Run) -> None:
    server = run(*TWO)
    with ExitStack() as stack:
        for _ in range(64):
            stack.enter_context(server.connect())
        wait_until(lambda: sum(connections_of(pid, server.port) for pid in server.workers()) == 64)
        shares = [connections_of(pid, server.port) for pid in server.workers()]
    assert min(shares) >= 14, f"{shares}: by chance once in a million"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::"])
def test_every_share_has_every_address(host: str) -> None:
    try:
        listeners = listen(host, 0)
    except ConfigError:
        pytest.skip("no such address here")
    addresses = [listener.getsockname()[:2] for listener in listeners.sockets]
    try:
        shares = listeners.share(3)
        assert [[each.getsockname()[:2] for each in share] for share in shares] == [addresses] * 3
        assert len({each.fileno() for share in shares for each in share}) == 3 * len(addresses)
    finally:
        listeners.close()


# Dying.


def test_a_killed_worker_is_replaced_and_nobody_is_refused(run: Run) -> None:
    server = run(*TWO)
    with Load(server, keeps_alive=False, may_break=True) as load:
        for number in range(2):
            victim, other = server.workers()
            os.kill(victim, signal.SIGKILL)
            server.wait_for_log("WorkerReady", 3 + number)
            assert other in server.workers()
            assert victim not in server.workers()
            server.wait_for_log(f'pid={victim} reason="killed by SIGKILL"')
    assert load.answers > 10
    assert load.refused == 0
    assert server.end()[0] == 0


def test_a_worker_that_an_operator_ends_is_replaced(run: Run) -> None:
    server = run(*TWO)
    victim, other = server.workers()
    os.kill(victim, signal.SIGTERM)
    server.wait_for_log("WorkerReady", 3)
    wait_until(lambda: victim not in server.workers())
    assert other in server.workers()
    assert len(server.workers()) == 2


def test_one_that_cannot_start_is_tried_again_with_growing_pauses(run: Run) -> None:
    server = run(*TWO)
    aside = server.directory.with_name("aside")
    server.directory.rename(aside)
    server.directory.touch()
    began = time.monotonic()
    os.kill(server.workers()[0], signal.SIGKILL)
    server.wait_for_log("WorkerLost", 3)
    assert re.findall(r"pause_seconds=(\S+)", server.log) == ["0", "0.5", "1"]
    assert time.monotonic() - began > 0.5
    for _ in range(10):
        assert server.ask().status in (200, 204)  # by the other one
    server.directory.unlink()
    aside.rename(server.directory)
    server.wait_for_log("WorkerReady", 3)
    assert len(server.workers()) == 2


def test_a_worker_that_hangs_is_replaced_and_its_connections_are_served_by_others(run: Run) -> None:
    server = run(*TWO, changes="supervise.HANG_SECONDS = 3.0")
    victim = server.workers()[0]
    with frozen(victim):
        for _ in range(12):
            assert server.ask().status in (200, 204)
        assert is_alive(victim), "all were answered before it was replaced"
        server.wait_for_log(f"WorkerHangs worker=0 pid={victim}")
        server.wait_for_log("WorkerReady", 3)
        wait_until(lambda: not is_alive(victim))
    server.wait_for_log(f'pid={victim} how="killed by SIGKILL"')
    assert len(server.workers()) == 2


def test_a_hanging_loop_writes_down_where(run: Run) -> None:
    # One of two: what both write at the same moment would be mixed.
    hang = "lambda self: time.sleep(99) if self._lifeline.orders.slot == 0 else False"
    blocked = f"import time; from tusd_py.server.serve import Server; Server._take_strays = {hang}"
    server = run(*TWO, changes=f"supervise.HANG_SECONDS = 3.0\nif 'serving-worker' in sys.argv: {blocked}")
    server.wait_for_log("killed by SIGABRT", 1)
    assert "Fatal Python error: Aborted" in server.log
    assert "in main_loop" in server.log


def test_who_was_all_stopped_goes_on(run: Run) -> None:
    """A suspended machine or container, or Ctrl-Z: not the workers' fault."""
    server = run(*TWO, changes="supervise.HANG_SECONDS = 2.0; supervise._OVERSLEPT_SECONDS = 1.5")
    workers = server.workers()
    with frozen(server.process.pid, *workers):
        time.sleep(2.5)  # longer than a worker may hang
    for _ in range(4):
        assert server.ask().status in (200, 204)
    assert server.workers() == workers
    assert "WorkerHangs" not in server.log


def test_nobody_outlives_the_supervisor(run: Run) -> None:
    server = run(*TWO)
    workers, port = server.workers(), server.port
    (folder,) = server.log_path.parent.glob("tusd-py-*")
    with server.connect() as idle:
        idle.sendall(b"OPTIONS /files/ HTTP/1.1\r\nHost: h\r\n\r\n")
        assert idle.recv(65536).startswith(b"HTTP/1.1 204 ")  # so a worker has taken it
        server.send(signal.SIGKILL)
        assert idle.recv(1) == b""
    wait_until(lambda: not any(is_alive(pid) for pid in workers))
    with socket.create_server(("127.0.0.1", port)):
        pass  # free
    assert not folder.exists()
    assert "Traceback" not in server.log


def test_a_worker_that_hangs_does_not_outlive_the_supervisor_either(run: Run) -> None:
    blocked = "import time; from tusd_py.server.serve import Server; Server._take_strays = lambda _: time.sleep(99)"
    worker = f"import tusd_py.server.serve as s; s.CANCEL_GRACE_SECONDS = 0.1; {blocked}"
    server = run(*TWO, "--shutdown-timeout", "0", changes=f"if 'serving-worker' in sys.argv: {worker}")
    workers = server.workers()
    assert len(workers) == 2
    server.send(signal.SIGKILL)
    wait_until(lambda: not any(is_alive(pid) for pid in workers))


# Renewing.


class Load:
    """Threads that ask and ask. `broken`: connections that ended without an answer; `refused`: not even made."""

    def __init__(
        self,
        server: Supervised,
        *,
        keeps_alive: bool,
        threads: int = 4,
        may_break: bool = False,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._tls = tls
        self.answers = self.refused = self.closed = 0
        self.broken: list[str] = []
        self._server, self._keeps_alive, self._may_break = server, keeps_alive, may_break
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(threads)]

    def __enter__(self) -> Load:
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for each in self._threads:
            each.join(PATIENCE_SECONDS)
        if not self._may_break:
            assert self.broken == []

    def connect(self) -> http.client.HTTPConnection:
        if self._tls is not None:
            return http.client.HTTPSConnection(
                "127.0.0.1", self._server.port, timeout=PATIENCE_SECONDS, context=self._tls
            )
        return http.client.HTTPConnection("127.0.0.1", self._server.port, timeout=PATIENCE_SECONDS)

    def _ask(self) -> None:
        connection = self.connect()
        while not self._is_over.is_set():
            try:
                connection.request("OPTIONS", "/files/")
                answer = connection.getresponse()
                answer.read()
                self.answers += 1
                if answer.getheader("Connection") == "close":  # http.client opens another one
                    self.closed += 1
                if not self._keeps_alive:
                    connection.close()
            except ConnectionRefusedError:
                self.refused += 1
            except (OSError, http.client.HTTPException) as error:
                self.broken.append(repr(error))
                connection.close()
            time.sleep(0.001)
        connection.close()


@pytest.mark.parametrize("keeps_alive", [False, True], ids=["new-connections", "keep-alive"])
def test_sighup_loses_no_request(run: Run, keeps_alive: bool) -> None:
    server = run(*TWO, "--shutdown-timeout", "3")
    with Load(server, keeps_alive=keeps_alive) as load:
        for _ in range(2):
            server.renew()
            before = load.answers
            wait_until(lambda before=before: load.answers > before + 50)  # type: ignore[misc]
    assert load.refused == 0
    assert not keeps_alive or load.closed >= 4, "each of the four was moved at least once"
    assert server.end()[0] == 0
    assert "Traceback" not in server.log


def test_sighup_loses_nobody_who_shakes_hands(run: Run, tmp_path: Path) -> None:
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    make_certificate(certificate, key)
    server = run(*TWO, "--shutdown-timeout", "3", "--tls-certificate", str(certificate), "--tls-key", str(key))
    with Load(server, keeps_alive=False, tls=ssl.create_default_context(cafile=str(certificate))) as load:
        for _ in range(3):
            server.renew()
            before = load.answers
            wait_until(lambda before=before: load.answers > before + 50)  # type: ignore[misc]
    assert load.refused == 0
    assert server.end()[0] == 0
    assert "Traceback" not in server.log


def test_an_idle_connection_may_ask_once_more(run: Run) -> None:
    server = run(*TWO)
    request = b"OPTIONS /files/ HTTP/1.1\r\nHost: h\r\n\r\n"
    with server.connect() as idle:
        idle.sendall(request)
        assert b"Connection: close" not in idle.recv(65536)
        server.send(signal.SIGHUP)
        server.wait_for_log("Reloaded")
        assert not select.select([idle], [], [], 0.3)[0], "closed already"
        idle.sendall(request)
        assert b"connection: close" in idle.recv(65536).lower()
        assert idle.recv(1) == b""


def test_sighup_reads_the_settings_anew_or_leaves_all_as_it_is(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "tusd.toml"
    file.write_text('max-size = "1GiB"\n')
    server = run(*TWO, "--config", str(file))
    assert server.ask().headers["Tus-Max-Size"] == str(2**30)
    workers = server.workers()
    for content, reason in (
        ('max-size = "many"\n', "max-size: 'many' is wrong"),
        ('host = "::1"\n', "--host was changed, which needs a restart"),
        ('locker = "memory"\n', "--locker memory is for one process"),
        ('tls-certificate = "gone.pem"\ntls-key = "gone.pem"\n', "cannot read the TLS certificate 'gone.pem'"),
    ):
        file.write_text(content)
        count = server.log.count("ReloadRefused")
        server.send(signal.SIGHUP)
        server.wait_for_log("ReloadRefused", count + 1)
        assert reason in server.log
        wait_until(lambda: server.workers() == workers)
        assert server.ask().headers["Tus-Max-Size"] == str(2**30)
    # One that dies now comes back with the settings of the others, not with those of the file.
    os.kill(workers[0], signal.SIGKILL)
    server.wait_for_log("WorkerReady", 3)
    assert {server.ask().headers["Tus-Max-Size"] for _ in range(20)} == {str(2**30)}
    file.write_text('max-size = "2GiB"\n')
    server.renew()
    assert {server.ask().headers["Tus-Max-Size"] for _ in range(20)} == {str(2**31)}
    assert server.end()[0] == 0


def test_sighup_reads_the_certificate_anew(run: Run, tmp_path: Path) -> None:
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    make_certificate(certificate, key, "first")
    server = run(*TWO, "--tls-certificate", str(certificate), "--tls-key", str(key))
    port = server.port
    first = {ssl.get_server_certificate(("127.0.0.1", port)) for _ in range(8)}
    assert first == {certificate.read_text()}
    make_certificate(certificate, key, "second")
    server.renew()
    second = {ssl.get_server_certificate(("127.0.0.1", port)) for _ in range(8)}
    assert second == {certificate.read_text()} != first


def test_a_unix_socket_is_kept_through_renewals(run: Run, tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    server = run("--unix-sock", path, "--workers", "2")
    assert server.ready_line.endswith(f"unix:{path}\n")
    inode = os.stat(path).st_ino

    def ask() -> bytes:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE_SECONDS)
            connection.connect(path)
            connection.sendall(b"OPTIONS /files/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
            return connection.recv(65536)

    for _ in range(2):
        assert b"tus-version: 1.0.0" in ask().lower()
        server.renew()
    assert os.stat(path).st_ino == inode
    assert server.end()[0] == 0
    assert not Path(path).exists()


# Ending.


def test_ctrl_c_reaches_all_and_only_the_supervisor_acts_on_it(run: Run) -> None:
    server = run(*TWO)
    os.killpg(server.process.pid, signal.SIGINT)
    assert server.end(None)[0] == 0
    assert "Traceback" not in server.log
    assert server.log.count("exit status 0") == 2


def test_sigterm_to_all_at_once_as_systemd_does(run: Run) -> None:
    server = run(*TWO)
    os.killpg(server.process.pid, signal.SIGTERM)
    assert server.end(None)[0] == 0
    assert "Traceback" not in server.log


def test_sigterm_before_it_is_ready(run: Run) -> None:
    """Workers that have only been started are ended, and nothing is announced."""
    changes = """
import os, signal, time
if 'serving-worker' in sys.argv: time.sleep(99)
def early(number, handler, install=signal.signal):
    install(number, handler)
    if number == signal.SIGCHLD: os.kill(os.getpid(), signal.SIGTERM)
signal.signal = early
"""
    server = run(*TWO, changes=changes)
    assert (server.ready_line, server.end(None)) == ("", (0, ""))
    assert "Traceback" not in server.log


def test_a_second_signal_ends_all_at_once(run: Run, tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    server = run("--unix-sock", path, "--workers", "2", "--shutdown-timeout", "60")
    workers = server.workers()
    with frozen(*workers):
        server.send(signal.SIGTERM)
        wait_until(lambda: not Path(path).exists())
        began = time.monotonic()
        code, _ = server.end(signal.SIGINT)
        assert time.monotonic() - began < 1
        assert code == 1
        wait_until(lambda: not any(is_alive(pid) for pid in workers))
    assert not list(server.log_path.parent.glob("tusd-py-*"))


def test_a_worker_that_does_not_end_is_killed(run: Run) -> None:
    server = run(*TWO, "--shutdown-timeout", "0", changes="supervise.END_SECONDS = 0.5")
    with frozen(server.workers()[0]):
        assert server.end()[0] == 1
    assert "WorkerKilled worker=0" in server.log


def test_a_closed_terminal_ends_it(tmp_path: Path) -> None:
    """The SIGHUP that comes with that is nobody's wish for new workers."""
    ours, theirs = pty.openpty()
    script = "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(2, termios.TIOCSCTTY, 0);"
    script += "os.execv(sys.argv[1], sys.argv[1:])"
    command = [sys.executable, "-m", "tusd_py", *TWO, "--upload-dir", str(tmp_path / "up"), "--verbose=false"]
    process = subprocess.Popen(
        [sys.executable, "-c", script, *command], cwd=ROOT, stdout=subprocess.PIPE, stderr=theirs, stdin=theirs
    )
    os.close(theirs)
    try:
        assert process.stdout is not None
        assert b"is ready" in process.stdout.readline()
        os.close(ours)
        process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 0
    finally:
        for pid in session(process.pid):
            os.kill(pid, signal.SIGKILL)
        process.communicate()


# Beside.


@pytest.mark.parametrize("count", [1, 2])
def test_systemd_hears_the_news(run: Run, tmp_path: Path, count: int) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(PATIENCE_SECONDS)
        server = run(
            "--port", "0", "--workers", str(count), environ={"NOTIFY_SOCKET": str(tmp_path / "notify")},
        )  # fmt: skip
        assert systemd.recv(1000) == b"READY=1"
        if count == 2:
            server.send(signal.SIGHUP)
            reloading = systemd.recv(1000).decode()
            assert re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=\d+", reloading)
            assert systemd.recv(1000) == b"READY=1"
        server.send(signal.SIGTERM)
        assert systemd.recv(1000) == b"STOPPING=1"
        assert server.end(None)[0] == 0


def test_log_lines_of_workers_are_whole(run: Run) -> None:
    server = run(*TWO)
    with Load(server, keeps_alive=False, threads=8) as load:
        for _ in range(3):
            with server.connect() as bad:
                bad.sendall(b"\0" * 10 + b"\r\n\r\n")
                bad.recv(65536)
        wait_until(lambda: load.answers > 300)
    server.end()
    for line in server.log.splitlines():
        assert re.match(r"\d{4}-\d\d-\d\d[ T]\S+ (INFO|WARNING|ERROR) \S", line), line


def test_a_quota_of_the_control_group_counts(tmp_path: Path) -> None:
    cores = len(os.sched_getaffinity(0))
    groups = tmp_path / "cgroup"
    assert count_cores(str(groups), str(tmp_path)) == cores
    groups.write_text("0::/a/b\n")
    (tmp_path / "a").mkdir()
    assert count_cores(str(groups), str(tmp_path)) == cores
    for quota, wanted in (
        ("max 100000", cores),
        ("50000 100000", 1),
        ("100001 100000", min(2, cores)),
        ("9999999 1", cores),
    ):
        (tmp_path / "a" / "cpu.max").write_text(quota + "\n")
        assert count_cores(str(groups), str(tmp_path)) == wanted
    groups.write_text("3:cpuset:/\n2:cpu,cpuacct:/docker/x\n")
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    for quota, wanted in (("-1", cores), ("100000", 1)):
        (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(quota + "\n")
        assert count_cores(str(groups), str(tmp_path)) == wanted
