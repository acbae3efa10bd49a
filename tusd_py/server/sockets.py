"""Listening sockets and TLS: everything that can go wrong before the server starts, each with one clear sentence.

Raises `ConfigError` only. Leaves to `serve` who accepts on the sockets.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tusd_py.errors import ConfigError

if TYPE_CHECKING:
    import ssl

BACKLOG = 2048

# Inherited by connections: what waits in the kernel for a client that does not read (else up to 4 MiB each).
_UNSENT_BYTES = 256 * 1024

_STRONG_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
_HINTS = {
    errno.EADDRINUSE: "another program listens there; stop it or choose another port",
    errno.EACCES: "not allowed; ports below 1024 need a privilege, choose one above",
    errno.EADDRNOTAVAIL: "this machine does not have that address; check the host",
}

# Where all addresses of a machine are listened on, a client there reaches this one; nobody can open 0.0.0.0.
LOOPBACK = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104


@dataclass(slots=True)
class Listeners:
    """Sockets that listen already; `host` and `port` are what was asked for, `port` 0 for a unix socket."""

    sockets: list[socket.socket]
    host: str = ""
    port: int = 0
    unix_sock: str = ""
    _identity: tuple[int, int] | None = field(default=None, repr=False)

    def url(self, base_path: str, *, is_tls: bool) -> str:
        if self.unix_sock:
            return f"unix:{self.unix_sock}"
        host = LOOPBACK.get(self.host, self.host)
        host = f"[{host}]" if ":" in host else host
        return f"{'https' if is_tls else 'http'}://{host}:{self.port}{base_path}"

    def share(self, count: int) -> list[list[socket.socket]]:
        """The sockets for each of `count` processes, which may be the same ones. Raises ConfigError.

        The kernel spreads connections evenly over several sockets of one address (SO_REUSEPORT), while of processes
        that accept on one socket the first to wake takes most. Set only after the first one listens, it keeps other
        servers out: they still find the port taken.
        """
        if self.unix_sock or sys.platform != "linux":
            return [self.sockets] * count
        shares = [list(self.sockets)]
        try:
            for first in shares[0]:
                first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            for _ in range(count - 1):
                shares.append([])
                for first in shares[0]:
                    shares[-1].append(_listen_beside(first))
                    self.sockets.append(shares[-1][-1])
        except OSError as error:
            raise ConfigError(f"cannot listen {count} times on port {self.port}: {error.strerror}") from error
        return shares

    def close(self) -> None:
        for listener in self.sockets:
            listener.close()
        self.remove_unix_sock()

    def remove_unix_sock(self) -> None:
        """Remove the socket file, unless somebody else has put theirs in its place."""
        if self._identity is None:
            return
        with contextlib.suppress(OSError):
            if _identify(self.unix_sock) == self._identity:
                os.unlink(self.unix_sock)
        self._identity = None


def listen(host: str, port: int) -> Listeners:
    """Listen on every address that `host` stands for ("" is all of them); port 0 takes a free one."""
    if not 0 <= port <= 65535:  # getaddrinfo would take it modulo 65536
        raise ConfigError(f"cannot listen on {_show(host, port)}: a port is a number from 0 to 65535")
    try:
        addresses = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"cannot listen on {_show(host, port)}: unknown host ({error}); check the host") from error
    sockets: list[socket.socket] = []
    failure: OSError | None = None
    for family, address in dict.fromkeys((family, address) for family, _, _, _, address in addresses):
        # `localhost` is two addresses; both get the port that was free for the first.
        wanted_port = sockets[0].getsockname()[1] if sockets else port
        try:
            sockets.append(_listen_at(family, (address[0], wanted_port, *address[2:]), is_only=len(addresses) == 1))
        except OSError as error:
            failure = error
            if error.errno not in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}:
                break
    if failure is not None and (not sockets or failure.errno not in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}):
        Listeners(sockets).close()
        hint = _HINTS.get(failure.errno or 0, failure.strerror)
        raise ConfigError(f"cannot listen on {_show(host, port)}: {hint}") from failure
    return Listeners(sockets, host, sockets[0].getsockname()[1])


def _listen_at(family: int, address: tuple[object, ...], *, is_only: bool) -> socket.socket:
    # asyncio sets TCP_NODELAY only where the protocol is named.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # `::` alone means IPv4 too; beside an IPv4 socket of the same port it would be in its way.
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not is_only)
        _open(listener, address)
    except OSError:
        listener.close()
        raise
    return listener


def _listen_beside(first: socket.socket) -> socket.socket:
    listener = socket.socket(first.family, first.type, first.proto)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if first.family == socket.AF_INET6:
            is_v6_only = first.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, is_v6_only)
        _open(listener, first.getsockname())
    except OSError:
        listener.close()
        raise
    return listener


def _open(listener: socket.socket, address: tuple[object, ...]) -> None:
    """Connections that are accepted inherit what is set here."""
    listener.bind(address)
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
    listener.listen(BACKLOG)
    listener.setblocking(False)


def listen_unix(path: str) -> Listeners:
    """Listen on a unix socket; the file that a dead server left behind is replaced, a living one's is not."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _clear_way(path)
        listener.bind(path)
        listener.listen(BACKLOG)
        listener.setblocking(False)
        return Listeners([listener], unix_sock=path, _identity=_identify(path))
    except (OSError, ConfigError) as error:
        listener.close()
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"cannot listen on unix socket {path}: {error.strerror or error}; check the path") from error


def _clear_way(path: str) -> None:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ConfigError(f"cannot listen on unix socket {path}: a file that is not a socket is in the way")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # a living server with a full backlog must not hold us up
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except BlockingIOError:
            pass
    raise ConfigError(f"cannot listen on unix socket {path}: another server is listening there; stop it first")


def tls_context(certificate: str, key: str, mode: str) -> ssl.SSLContext:
    """`mode` is tls12 (1.2 and newer), tls12-strong (the same, 1.2 only with ECDHE and AEAD) or tls13."""
    import ssl  # noqa: PLC0415  # 4 MiB that who only listens does not need

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if mode not in {"tls12", "tls12-strong", "tls13"}:
        raise ConfigError(f"unknown TLS mode {mode!r}: use tls12, tls12-strong or tls13")
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if mode == "tls13" else ssl.TLSVersion.TLSv1_2
    if mode == "tls12-strong":
        context.set_ciphers(_STRONG_CIPHERS)
    context.set_alpn_protocols(["http/1.1"])
    for name, path in (("certificate", certificate), ("key", key)):
        try:
            with open(path, "rb"):
                pass
        except OSError as error:
            raise ConfigError(f"cannot read the TLS {name} {path!r}: {error.strerror}") from error
    try:
        context.load_cert_chain(certificate, key, password=_refuse_password)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        reason = getattr(error, "reason", None) or error
        raise ConfigError(
            f"TLS certificate {certificate!r} and key {key!r} do not work: {reason}; use a PEM pair that fits"
        ) from error
    return context


def _refuse_password() -> str:
    raise ValueError("the key has a password")  # asking at a terminal would hang a service


def _identify(path: str) -> tuple[int, int]:
    status = os.lstat(path)
    return status.st_dev, status.st_ino


def _show(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host or '*'}:{port}"
