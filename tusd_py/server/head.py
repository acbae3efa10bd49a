"""The head of a request: what the parser lets through and RFC 9112 does not.

Pure functions over bytes. llhttp already refuses Content-Length beside Transfer-Encoding, two lengths, obs-fold, bare
CR and LF, a space before the colon and odd chunk sizes; this module refuses the rest, so that no proxy in front can
read a request differently from us. Tested against httptools 0.6.3 and 0.9.0.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tusd_py.errors import RequestError

Headers = Sequence[tuple[bytes, bytes]]

_VISIBLE = re.compile(rb"[!-~]+")
_ABSOLUTE = re.compile(rb"https?://([^/?]*)([^?]*)(?:\?(.*))?", re.IGNORECASE)
# reg-name, IPv4 or bracketed IPv6, and a port (RFC 3986 3.2.2); empty is allowed (RFC 9112 3.2).
_AUTHORITY = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?")

_SINGLE = frozenset({b"transfer-encoding", b"content-length", b"host"})


@dataclass(frozen=True, slots=True)
class Target:
    """A request target; `authority` is set for the absolute form only."""

    path: bytes
    query: bytes
    authority: bytes | None = None


@dataclass(frozen=True, slots=True)
class Framing:
    """How the body of a request travels: `length` bytes, or in chunks (None)."""

    length: int | None
    expects_continue: bool


def bad_request(message: str) -> RequestError:
    return RequestError(message, code="ERR_BAD_REQUEST", status=400)


def headers_too_large(limit: int) -> RequestError:
    return RequestError(
        f"request line and headers are longer than {limit} bytes", code="ERR_HEADERS_TOO_LARGE", status=431
    )


def head_timed_out() -> RequestError:
    return RequestError("the request head did not arrive in time", code="ERR_REQUEST_TIMEOUT", status=408)


def parse_target(method: str, target: bytes) -> Target:
    """Origin form, absolute form, or `*` for OPTIONS (RFC 9112 3.2)."""
    if method == "CONNECT":
        raise bad_request("CONNECT is for proxies")
    if target == b"*" and method == "OPTIONS":
        return Target(target, b"")
    if not _VISIBLE.fullmatch(target) or b"#" in target:
        raise bad_request("invalid character in the request target")
    if target.startswith(b"/"):
        path, _, query = target.partition(b"?")
        return Target(path, query)
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None or not absolute[1] or not _AUTHORITY.fullmatch(absolute[1]):
        raise bad_request("invalid request target")
    return Target(absolute[2] or b"/", absolute[3] or b"", absolute[1])


def check_head(version: str, headers: Headers) -> Framing:
    """Raise unless the version is ours, the body has exactly one possible end, and there is one valid Host."""
    if version not in {"1.0", "1.1"}:
        raise bad_request("HTTP/1.0 and HTTP/1.1 are spoken here")
    found: dict[bytes, bytes] = {}
    expects_continue = False
    for name, value in headers:
        if name in _SINGLE:
            if name in found:
                raise bad_request(f"a request has one {name.decode().title()} header at most")
            found[name] = value
        elif name == b"expect":
            expects_continue = expects_continue or value.lower() == b"100-continue"
    _check_host(version, found.get(b"host"))
    # RFC 9110 10.1.1: whoever speaks 1.0 does not know the interim answer.
    return Framing(_body_length(version, found), expects_continue and version == "1.1")


def _check_host(version: str, host: bytes | None) -> None:
    if host is None:
        if version == "1.1":
            raise bad_request("a request has exactly one Host header")
    elif not _AUTHORITY.fullmatch(host):
        raise bad_request("invalid Host")


def _body_length(version: str, found: dict[bytes, bytes]) -> int | None:
    coding, length = found.get(b"transfer-encoding"), found.get(b"content-length")
    if coding is not None:
        if version == "1.0" or length is not None or coding.lower() != b"chunked":
            raise bad_request("invalid Transfer-Encoding")
        return None
    if length is None:
        return 0
    if not length.isdigit():
        raise bad_request("invalid Content-Length")
    return int(length)
