"""Addresses and certificates that work, and one clear sentence for each that does not."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.server.conftest import (
    PATIENCE_SECONDS,
    Recorder,
    Seen,
    Start,
    connect_tls,
    read_answer,
    reset,
    unacknowledged_bytes,
)
from tusd_py.errors import ConfigError
from tusd_py.server.sockets import listen, listen_unix, tls_context

GET = b"GET /files/x HTTP/1.1\r\nHost: h\r\n\r\n"


def test_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"^cannot listen on 127\.0\.0\.1:{port}: another program listens there"):
            listen("127.0.0.1", port)


@pytest.mark.parametrize(
    ("host", "port", "reason"),
    [
        ("203.0.113.7", 0, "this machine does not have that address"),
        ("no-such-host.invalid", 0, "unknown host"),
        ("127.0.0.1", 70_000, "a port is a number"),
        ("a" * 80, 0, "unknown host"),
    ],
)
def test_address_that_cannot_work(host: str, port: int, reason: str) -> None:
    with pytest.raises(ConfigError, match=f"^cannot listen on {host}:{port}: {reason}"):
        listen(host, port)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may use any port")
def test_port_without_permission() -> None:
    with pytest.raises(ConfigError, match="not allowed; ports below 1024"):
        listen("127.0.0.1", 80)


@pytest.mark.parametrize("host", ["", "localhost", "127.0.0.1"])
def test_all_addresses_of_a_host_share_the_port(host: str) -> None:
    listeners = listen(host, 0)
    try:
        assert {listener.getsockname()[1] for listener in listeners.sockets} == {listeners.port}
        assert all(listener.proto == socket.IPPROTO_TCP for listener in listeners.sockets)
        with socket.create_connection(("127.0.0.1", listeners.port), timeout=PATIENCE_SECONDS):
            pass
    finally:
        listeners.close()


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
@pytest.mark.parametrize(("host", "reached"), [("::1", ["::1"]), ("::", ["::1", "127.0.0.1"])])
def test_ipv6(start: Start, host: str, reached: list[str]) -> None:
    server = start(Recorder(), host=host)
    assert server.address == f"http://[::1]:{server.port}/files/"  # nobody can open [::]
    for address in reached:
        with socket.create_connection((address, server.port), timeout=PATIENCE_SECONDS) as connection:
            connection.sendall(GET)
            assert read_answer(connection)[0] == 200


def test_accepted_connections_do_not_wait_for_acknowledgements(start: Start) -> None:
    server = start(Recorder())
    with server.connect() as connection:
        connection.sendall(GET)
        read_answer(connection)
        (accepted,) = server._server.server_state.connections
        accepted_socket = accepted.transport.get_extra_info("socket")
        assert accepted_socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


def ask_unix(path: str) -> int:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE_SECONDS)
        connection.connect(path)
        connection.sendall(GET)
        return read_answer(connection)[0]


def test_unix_socket(start: Start, tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    server = start(Recorder(), unix_sock=path)
    assert server.address == f"unix:{path}"
    assert ask_unix(path) == 200
    with pytest.raises(ConfigError, match=f"^cannot listen on unix socket {path}: another server is listening there"):
        listen_unix(path)
    assert ask_unix(path) == 200
    server.stop()
    assert not os.path.exists(path)


def test_stale_unix_socket_is_replaced(start: Start, tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
        dead.listen()
    start(Recorder(), unix_sock=path)
    assert ask_unix(path) == 200


def test_file_in_the_way_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(ConfigError, match="a file that is not a socket is in the way"):
        listen_unix(str(path))
    assert path.read_text() == "data"


def test_link_in_the_way_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "link"
    path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="not a socket"):
        listen_unix(str(path))
    assert path.is_symlink()


def test_somebody_elses_unix_socket_is_not_removed(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    ours = listen_unix(path)
    os.rename(path, path + ".old")
    with socket.socket(socket.AF_UNIX) as theirs:
        theirs.bind(path)
        ours.close()
        assert os.path.exists(path)


@pytest.mark.parametrize("path", ["no/such/folder/s", "s" * 200])
def test_unix_path_that_cannot_work(tmp_path: Path, path: str) -> None:
    with pytest.raises(ConfigError, match="cannot listen on unix socket"):
        listen_unix(str(tmp_path / path))


# TLS


@pytest.mark.parametrize("mode", ["tls12", "tls12-strong", "tls13"])
@pytest.mark.usefixtures("way")
def test_tls_modes(start: Start, certificates: Path, mode: str) -> None:
    app = Recorder()
    certificate, key = str(certificates / "a.crt"), str(certificates / "a.key")
    server = start(app, tls_certificate=certificate, tls_key=key, tls_mode=mode)
    assert server.address == f"https://127.0.0.1:{server.port}/files/"
    with connect_tls(server.port, certificates) as connection:
        connection.sendall(b"POST /files HTTP/1.1\r\nHost: h\r\nContent-Length: 300000\r\n\r\n" + b"x" * 300_000)
        assert read_answer(connection)[2] == b"300000"
        assert app.next().scope["scheme"] == "https"
        assert connection.version() == "TLSv1.3"
    old = {"maximum_version": ssl.TLSVersion.TLSv1_2}
    if mode == "tls13":
        with pytest.raises(OSError):
            connect_tls(server.port, certificates, **old)
    else:
        with connect_tls(server.port, certificates, **old) as connection:
            assert connection.version() == "TLSv1.2"


def test_strong_mode_has_only_ephemeral_authenticated_ciphers(certificates: Path) -> None:
    context = tls_context(str(certificates / "a.crt"), str(certificates / "a.key"), "tls12-strong")
    names = [cipher["name"] for cipher in context.get_ciphers() if cipher["protocol"] != "TLSv1.3"]
    assert names
    assert all(
        name.startswith("ECDHE-") and name.endswith(("-GCM-SHA256", "-GCM-SHA384", "-POLY1305")) for name in names
    )


@pytest.mark.parametrize("cut", ["close_notify", "FIN", "RST"])
@pytest.mark.parametrize("is_slow", [False, True])
@pytest.mark.usefixtures("way")
def test_tls_client_that_leaves_in_mid_body(
    start: Start, tls: dict[str, str], certificates: Path, cut: str, is_slow: bool
) -> None:
    """failures F10, also with received bytes that wait to be decrypted when the connection ends."""
    gate = asyncio.Event()

    async def wait(seen: Seen, receive: Any, send: Any) -> None:
        if is_slow:
            seen.body += (await receive())["body"]
            await gate.wait()

    app = Recorder(wait)
    server = start(app, **tls)
    body = os.urandom(200_000)
    connection = connect_tls(server.port, certificates)
    connection.sendall(b"POST /files HTTP/1.1\r\nHost: h\r\nContent-Length: 500000\r\n\r\n" + body)
    while unacknowledged_bytes(connection):
        time.sleep(0.001)
    if cut == "close_notify":
        connection.setblocking(False)
        with contextlib.suppress(OSError):  # ours is out at once; we do not wait for the server's
            connection.unwrap()
    if cut == "RST":
        reset(connection)
    else:
        connection.shutdown(socket.SHUT_WR)
    server.in_loop(gate.set)
    seen = app.next()
    connection.close()
    assert (len(seen.body), seen.end) == (len(body), "disconnect")
    assert seen.body == body


@pytest.mark.parametrize(
    ("certificate", "key", "reason"),
    [
        ("missing.crt", "a.key", "cannot read the TLS certificate .*missing.crt': No such file"),
        ("a.crt", "missing.key", "cannot read the TLS key .*missing.key': No such file"),
        ("junk", "a.key", "do not work"),
        ("a.crt", "junk", "do not work"),
        ("a.crt", "b.key", "do not work: KEY_VALUES_MISMATCH"),
        ("a.crt", "locked.key", "do not work: the key has a password"),
    ],
)
def test_bad_certificates(certificates: Path, certificate: str, key: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        tls_context(str(certificates / certificate), str(certificates / key), "tls12")


def test_unknown_tls_mode() -> None:
    with pytest.raises(ConfigError, match="tls12, tls12-strong or tls13"):
        tls_context("a", "b", "ssl3")


def test_listening_needs_no_event_loop() -> None:
    """The sockets module is what fails first at start-up; it must not drag the server in."""
    code = "import sys, tusd_py.server.sockets; print('uvicorn' in sys.modules)"
    root = str(Path(__file__).parents[2])
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
