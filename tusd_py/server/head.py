"""The head of a request: what the parser lets through and RFC 9112 does not, and how a refusal looks on the wire.

Pure functions over bytes. llhttp already refuses Content-Length beside Transfer-Encoding, two lengths, obs-fold, bare
CR and LF, a space before the colon and odd chunk sizes; this module refuses the rest, so that no proxy in front can
read a request differently from us. Tested against httptools 0.6.3 and 0.9.0.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from http import HTTPStatus

from tusd_py.errors import RequestError, TusError

Headers = Sequence[tuple[bytes, bytes]]

_VISIBLE = re.compile(rb"[!-~]+")
_ABSOLUTE = re.compile(rb"https?://([^/?]*)([^?]*)(?:\?(.*))?", re.IGNORECASE)
# reg-name, IPv4 or bracketed IPv6, and a port (RFC 3986 3.2.2); empty is allowed (RFC 9112 3.2).
_AUTHORITY = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?")


@dataclass(frozen=True, slots=True)
class Target:
    """A request target; `authority` is set for the absolute form only."""

    path: bytes
    query: bytes
    authority: bytes | None = None


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


def check_head(version: str, headers: Headers) -> None:
    """Raise unless the version is ours, the body has exactly one possible end, and there is one valid Host."""
    if version not in {"1.0", "1.1"}:
        raise bad_request("HTTP/1.0 and HTTP/1.1 are spoken here")
    codings = [value.lower() for name, value in headers if name == b"transfer-encoding"]
    lengths = [value for name, value in headers if name == b"content-length"]
    if codings and (version == "1.0" or lengths or codings != [b"chunked"]):
        raise bad_request("invalid Transfer-Encoding")
    if len(lengths) > 1 or (lengths and not lengths[0].isdigit()):
        raise bad_request("invalid Content-Length")
    hosts = [value for name, value in headers if name == b"host"]
    if len(hosts) > 1 or (not hosts and version == "1.1"):
        raise bad_request("a request has exactly one Host header")
    if hosts and not _AUTHORITY.fullmatch(hosts[0]):
        raise bad_request("invalid Host")


def failure_headers(content: bytes) -> list[tuple[bytes, bytes]]:
    """Headers of an answer that the application did not give; `content` is its body."""
    return [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", b"%d" % len(content)),
        (b"tus-resumable", b"1.0.0"),
        (b"x-content-type-options", b"nosniff"),
        (b"connection", b"close"),
    ]


def failure_content(error: TusError) -> bytes:
    return f"{error.code}: {error.message}\n".encode("ascii", "replace")


def refusal(error: TusError, default_headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A whole answer for a request that no application will see."""
    content = failure_content(error)
    lines = [f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}\r\n".encode()]
    lines += [b"%b: %b\r\n" % header for header in (*default_headers, *failure_headers(content))]
    return b"".join([*lines, b"\r\n", content])
