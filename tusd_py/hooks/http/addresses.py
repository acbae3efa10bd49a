"""Addresses of receivers: reading them, finding where they lead, and which of them a client of ours may name. A client
names only what the operator has listed, and never what is private, however it is written. What was looked up and found
good is what gets connected to: a second look-up might answer differently (DNS rebinding).
"""

from __future__ import annotations

import asyncio
import re
import socket
from base64 import b64encode
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from urllib.parse import SplitResult, quote, unquote_to_bytes, urlsplit

from tusd_py.hooks.contract import HookError

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""The IP addresses of a host, as text. Raises OSError."""

_MOST_CHARACTERS = 2048
_PORTS = {"http": 80, "https": 443}
_NEVER = re.compile(r"[\x00-\x20\x7f-\xa0\\\u2028\u2029]")
_HOST = re.compile(r"[a-z0-9_]([a-z0-9._-]*[a-z0-9_])?")
_AS_IT_IS = "".join(chr(each) for each in range(0x21, 0x7F))

_GLOBAL_UNICAST = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class Address:
    """A URL to send to. `host` is ASCII, in lower case, without brackets; `target` is path and query; `authorization`,
    which is never shown, is what its user and password make as Basic auth."""

    scheme: str
    host: str
    port: int
    target: str = field(repr=False)
    authorization: str = field(default="", repr=False)

    @property
    def is_tls(self) -> bool:
        return self.scheme == "https"

    @property
    def origin(self) -> str:
        """As in the header Host."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def shown(self) -> str:
        """For people: without what may be secret, which the query may be too."""
        return f"{self.scheme}://{self.origin}{self.target.partition('?')[0]}"


@dataclass(frozen=True, slots=True)
class Allowed:
    """An entry of the list of hosts that a client of ours may name: a name, or all names that end as `.example.com`."""

    scheme: str
    name: str
    port: int

    def permits(self, address: Address) -> bool:
        if (self.scheme, self.port) != (address.scheme, address.port):
            return False
        if self.name.startswith("."):
            return address.host.endswith(self.name) and not _is_literal(address.host)
        return address.host == self.name


def read_address(text: str) -> Address:
    """Raises ValueError for what is no URL of a receiver, in words that show no password."""
    if len(text) > _MOST_CHARACTERS:
        raise ValueError(f"is longer than {_MOST_CHARACTERS} characters")
    if _NEVER.search(text):
        raise ValueError("has a space, a backslash or a control character")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise ValueError("is no URL") from None  # theirs may quote the password
    if parts.scheme not in _PORTS:
        raise ValueError("does not begin with http:// or https://")
    if port == 0:
        raise ValueError("has the port 0")
    target = quote(parts.path or "/", safe=_AS_IT_IS) + ("?" + quote(parts.query, safe=_AS_IT_IS)) * bool(parts.query)
    return Address(parts.scheme, _plain(host), port or _PORTS[parts.scheme], target, _authorization(parts))


def read_allowed(text: str) -> Allowed:
    """An entry as operators write it: `[http://]host[:port]`; https where it does not say http. Raises ValueError."""
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "https", text
    if re.search(r"[/?#@]", rest):
        raise ValueError("is more than [http://]host[:port]")
    address = read_address(f"{scheme.lower()}://{rest.removeprefix('.')}")
    return Allowed(address.scheme, "." * rest.startswith(".") + address.host, address.port)


def read_named_address(text: str, allowed: Sequence[Allowed]) -> Address:
    """The address that a client of ours wrote. Raises ValueError saying why it is refused."""
    address = read_address(text)
    if address.authorization:
        raise ValueError("has a user name in it")
    if not any(each.permits(address) for each in allowed):
        raise ValueError(f"is at {address.scheme}://{address.origin}, which is not on the list of allowed hosts")
    return address


async def resolve(host: str, port: int) -> Sequence[str]:
    """By the system's resolver."""
    if _is_literal(host):
        return (host,)
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(each[4][0]) for each in found))


def public_only(resolve: Resolve) -> Resolve:
    """The same, but that it raises HookError for a host of which any address is private."""

    async def resolve_public(host: str, port: int) -> Sequence[str]:
        found = await resolve(host, port)
        for each in found:
            if not is_public(each):
                raise HookError(f"it leads to {each}, which is not public", is_final=True)
        return found

    return resolve_public


def is_public(text: str) -> bool:
    """Whether anybody on the internet may have this address. IPv6 that leads on to IPv4 counts as what it leads to."""
    try:
        address = ip_address(text)
    except ValueError:
        return False
    if isinstance(address, IPv4Address):
        return address.is_global and not (address.is_multicast or address.is_reserved)
    inner = _inner(address)
    if inner is not None:
        return is_public(str(inner))
    return address in _GLOBAL_UNICAST and address.is_global  # which leaves no Teredo either


def _inner(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that a translator or tunnel on the way would talk to."""
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour


def _is_literal(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _plain(host: str) -> str:
    """Names in the one form that is looked up, compared with the list and checked in certificates."""
    if _is_literal(host):
        return str(ip_address(host))
    try:
        plain = host.encode("idna").decode("ascii").lower().removesuffix(".")
    except UnicodeError:
        raise ValueError("has a host name that cannot be") from None
    if not _HOST.fullmatch(plain) or ".." in plain:
        raise ValueError("has a host name that cannot be" if plain else "has no host name")
    return plain


def _authorization(parts: SplitResult) -> str:
    if parts.username is None:
        return ""
    user = unquote_to_bytes(parts.username) + b":" + unquote_to_bytes(parts.password or "")
    return "Basic " + b64encode(user).decode("ascii")
