"""What a request brings, out of its ASGI scope: headers, the body as a `core.body.Source`, the URL it was sent to."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import cast

from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope

from tusd_py.core.body import Body, Sink, Source, pour, unexpected_eof
from tusd_py.core.checksum import Checksum
from tusd_py.core.events import Caller
from tusd_py.errors import Interrupted, RequestError
from tusd_py.extensions import HANGUP, LANE, TRAILERS
from tusd_py.protocol.checksum import parse_checksum
from tusd_py.protocol.headers import Headers

Trailers = list[tuple[bytes, bytes]]

# Goes back to the client in Location: a name or an address, and a port.
_HOST = re.compile(r"(?=.{1,255}$)(?:[A-Za-z0-9._~%-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?", re.ASCII)


_HEADERS_KEY = "tusd_py.headers"


def headers_of(scope: Scope) -> Headers:
    """The request's headers, taken apart once for all layers."""
    headers = scope.get(_HEADERS_KEY)
    if headers is None:
        headers = scope[_HEADERS_KEY] = Headers.of_raw(scope["headers"])
    return cast("Headers", headers)


def path_of(scope: Scope) -> str:
    """The request's path below where the application is mounted."""
    return str(scope["path"].removeprefix(scope.get("root_path", "")))


_ACCOUNT_KEY = "tusd_py.account"


class Account:
    """What is noted of a request while it is answered, for its line in the log: which upload, which body, and whether
    its answer lasts as long as its client."""

    __slots__ = ("body", "is_stream", "upload_id")

    def __init__(self) -> None:
        self.is_stream = False
        self.body: Body | None = None
        self.upload_id: str | None = None


def caller_of(scope: Scope) -> Caller:
    """Who asks, as hooks are told of it; tusd's form of addresses."""
    client, query = scope.get("client"), scope.get("query_string")
    address = ""
    if client is not None:
        host, port = client[0], client[1]
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    path = scope.get("raw_path") or scope["path"].encode("latin-1", "replace")
    uri = (path + b"?" + query if query else path).decode("latin-1")
    return Caller(scope["method"], uri, address, scope["headers"])


def open_account(scope: Scope) -> Account:
    account = scope[_ACCOUNT_KEY] = Account()
    return account


def account_of(scope: Scope) -> Account:
    """The request's account; one that nobody reads where there is none."""
    return scope.get(_ACCOUNT_KEY) or Account()


def source_of(scope: Scope, receive: Receive) -> Source:
    """Where the body of this request comes from: the fastest way that its server has."""
    fill = scope.get("extensions", {}).get(LANE)
    return AsgiSource(receive) if fill is None else LaneSource(fill)


class LaneSource:
    """A `core.body.Source` over the lane of `tusd_py.server`."""

    def __init__(self, fill: Callable[[Sink], Awaitable[Trailers | None]]) -> None:
        self._fill = fill

    async def fill(self, sink: Sink) -> Checksum | None:
        trailers = await self._fill(sink)
        if trailers is None:
            raise unexpected_eof()
        return _trailer_checksum(trailers)


class AsgiSource:
    """A `core.body.Source` over ASGI `receive`, for any server."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive

    async def fill(self, sink: Sink) -> Checksum | None:
        while True:
            try:
                message = await self._receive()
            except HTTPException as error:  # a limit of the application that we are mounted in
                raise Interrupted(error.detail, code="ERR_BODY_REFUSED", status=error.status_code) from error
            if message["type"] == "http.disconnect":
                raise unexpected_eof()
            await pour(message.get("body", b""), sink)
            if not message.get("more_body", False):
                return _trailer_checksum(message.get("trailers", []))


def _trailer_checksum(trailers: Trailers) -> Checksum | None:
    if not trailers:
        return None
    return parse_checksum(Headers.of_raw(trailers).one("upload-checksum"))


def has_own_server(scope: Scope) -> bool:
    """Whether `tusd_py.server` delivers this request: it hands over trailers and lingers after early answers."""
    return TRAILERS in scope.get("extensions", {})


async def wait_for_end(scope: Scope, receive: Receive) -> None:
    """Until an answer without an end is to end: its client has gone, or the server wants to be done."""
    hangup = scope.get("extensions", {}).get(HANGUP)
    if hangup is not None:
        await hangup()
        return
    while (await receive())["type"] != "http.disconnect":
        pass


@dataclass(frozen=True, slots=True)
class Proxies:
    """Which peers may say under what URL the client sees us. Everybody else's word is ignored (tusd has no list)."""

    trusted: tuple[IPv4Network | IPv6Network, ...] = ()

    def trusts(self, scope: Scope) -> bool:
        client = scope.get("client")
        if not self.trusted:
            return False
        if client is None:
            return True  # a unix socket: who may connect to it is a matter of its permissions
        try:
            address = ip_address(client[0])
        except ValueError:
            return True
        return any(address in network for network in self.trusted)

    def origin(self, scope: Scope, headers: Headers) -> str:
        """`scheme://host` as the client wrote it, for Location."""
        scheme, host = scope.get("scheme", "http"), headers.one("host") or _own_host(scope)
        if self.trusts(scope):
            forwarded = _forwarded(headers)
            scheme = forwarded.get("proto") or _first(headers, "x-forwarded-proto") or scheme
            host = forwarded.get("host") or _first(headers, "x-forwarded-host") or host
        if scheme not in ("http", "https") or not _HOST.fullmatch(host):
            raise RequestError("the host of the request is malformed")
        return f"{scheme}://{host}"


def _own_host(scope: Scope) -> str:
    server = scope.get("server")
    if not server or server[1] is None:
        return "localhost"
    return f"{server[0]}:{server[1]}"


def _first(headers: Headers, name: str) -> str:
    """Each proxy adds its own at the end, so the first is what the client used."""
    return (headers.joined(name) or "").partition(",")[0].strip()


def _forwarded(headers: Headers) -> dict[str, str]:
    """The first element of Forwarded (RFC 7239), which wins over X-Forwarded-*."""
    pairs = (pair.partition("=") for pair in _first(headers, "forwarded").split(";"))
    return {name.strip().lower(): value.strip().strip('"') for name, _, value in pairs}
