"""What one client, and all clients together, may take of the server: times, sizes, connections. The arithmetic behind
the defaults is in the help of the settings.
"""

from __future__ import annotations

import contextlib
import resource
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address

from tusd_py.errors import TusError, server_shutdown, upload_locked
from tusd_py.server.refusals import Counter, Refusals

# Beside connections and the files of their uploads: listeners, locks, logs, the loop's own.
_OTHER_FILES = 128


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of one process. `max_connections_per_address` does not count `trusted` addresses, and no unix sockets."""

    head_seconds: float = 30.0
    keep_alive_seconds: float = 75.0
    write_seconds: float = 60.0
    answer_seconds: float = 300.0
    max_header_bytes: int = 64 * 1024
    max_requests: int = 10_000
    max_connections: int = 16_384
    max_connections_per_address: int = 8_192
    trusted: tuple[IPv4Network | IPv6Network, ...] = ()


class Admission:
    """Who may connect: counts the connections of one process. `counter` is told of each, also of those turned away."""

    def __init__(self, bounds: Bounds, counter: Counter | None = None) -> None:
        self.refusals = Refusals(counter)
        self._bounds = bounds
        self._counter = counter
        self._is_shut = False
        self._count = 0
        self._counts: dict[str, int] = {}

    def shut(self) -> None:
        """The server stops: turn away whoever comes now."""
        self._is_shut = True

    def enter(self, host: str | None) -> TusError | None:
        """Count a connection; every call is followed by one of `leave`. None, or why it may not stay."""
        self._count += 1
        if self._counter is not None:
            self._counter.connection_opened()
        key = self._key(host)
        count = 0
        if key is not None:
            self._counts[key] = count = self._counts.get(key, 0) + 1
        if self._is_shut:
            return server_shutdown()
        if self._count > self._bounds.max_connections:
            problem = too_many_connections()
        elif count > self._bounds.max_connections_per_address:
            problem = too_many_connections(from_one_address=True)
        else:
            return None
        self.refusals.connection(problem, host)
        return problem

    def takes_one_more_than(self, coming: int) -> bool:
        """Whether there is room for another one, with `coming` that have not entered yet."""
        return self._count + coming < self._bounds.max_connections

    def turn_away(self, host: str | None) -> None:
        """Tell of one that found no room and never entered."""
        self.refusals.connection(too_many_connections(), host)

    def leave(self, host: str | None) -> None:
        self._count -= 1
        if self._counter is not None:
            self._counter.connection_closed()
        key = self._key(host)
        if key in self._counts:
            self._counts[key] -= 1
            if not self._counts[key]:
                del self._counts[key]

    def _key(self, host: str | None) -> str | None:
        """What counts as one client: an IPv4 address, a /64 network of IPv6."""
        if not host:
            return None
        if "." in host and ":" not in host and not self._bounds.trusted:
            return host
        try:
            address = ip_address(host.partition("%")[0])
        except ValueError:
            return None
        if isinstance(address, IPv6Address):
            address = address.ipv4_mapped or address
        if any(address in network for network in self._bounds.trusted):
            return None
        return str(IPv6Network((address, 64), strict=False)) if isinstance(address, IPv6Address) else str(address)


def allow_open_files(connections: int) -> int:
    """Raise the limit of open files as far as `connections` need it; returns how many connections there are files for.

    Each connection may have the file of its upload open.
    """
    wanted = 2 * connections + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        raised = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return connections
    return max((soft - _OTHER_FILES) // 2, 1)


def too_many_connections(*, from_one_address: bool = False) -> TusError:
    message = "too many connections" + (" from this address" if from_one_address else "; try again soon")
    return TusError(message, code="ERR_TOO_MANY_CONNECTIONS", status=503, headers={"Retry-After": "5"})


def answer_is_late(seconds: float, method: str) -> TusError:
    """The storage goes on, and the upload stays locked until it has an answer (failures F37)."""
    if method == "HEAD":  # tus-js-client takes any other failure of HEAD for "upload again from byte 0"
        return upload_locked()
    return TusError(
        f"the storage did not answer within {seconds:g} s; ask for the offset later and go on from there",
        code="ERR_STORAGE_TIMEOUT",
        status=503,
    )
