"""Which pages of other sites may use this server, and what browsers are told about it (the Fetch standard's CORS).

Pure: decides about an Origin and makes headers. Sending them on every response, errors too, is the outer layer's;
OPTIONS is answered by the codec.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from tusd_py.errors import Refused

ALLOW_METHODS = ("POST", "HEAD", "PATCH", "OPTIONS", "GET", "DELETE")

# tusd's lists, then what it lacks: checksums, expiration, and what a page needs to download in parts.
ALLOW_HEADERS = (
    "Authorization", "Origin", "X-Requested-With", "X-Request-ID", "X-HTTP-Method-Override", "Content-Type",
    "Upload-Length", "Upload-Offset", "Tus-Resumable", "Upload-Metadata", "Upload-Defer-Length", "Upload-Concat",
    "Upload-Incomplete", "Upload-Complete", "Upload-Draft-Interop-Version",
    "Upload-Checksum", "Upload-Expires",
    "Range", "If-Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since",
)  # fmt: skip
EXPOSE_HEADERS = (
    "Upload-Offset", "Location", "Upload-Length", "Tus-Version", "Tus-Resumable", "Tus-Max-Size", "Tus-Extension",
    "Upload-Metadata", "Upload-Defer-Length", "Upload-Concat", "Upload-Incomplete", "Upload-Complete",
    "Upload-Draft-Interop-Version",
    "Upload-Expires", "Tus-Checksum-Algorithm",
    "Accept-Ranges", "Content-Disposition", "Content-Range", "ETag", "Repr-Digest", "X-Request-ID",
)  # fmt: skip

# A cache must not hand that answer to a page.
_FOR_NO_PAGE = [(b"vary", b"Origin")]

# It is echoed, and matched against an operator's expression: so neither CR and LF, nor long enough to be a burden.
# The longest host name has 253 characters.
_ORIGIN = re.compile(r"[!-~]{1,300}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Cors:
    """`allow_origin` is a regular expression for whole origins; methods and headers come on top of the fixed lists.

    Stricter than tusd, whose expression may match any part of the origin: a forgotten `$` lets a stranger in there.
    """

    allow_origin: str = ".*"
    allow_credentials: bool = False
    allow_methods: tuple[str, ...] = ()
    allow_headers: tuple[str, ...] = ()
    max_age: int = 86_400
    expose_headers: tuple[str, ...] = ()

    def check(self, origin: str | None) -> None:
        """Refuse a request that a page of a site not allowed here made; preflight or not, as tusd."""
        if origin is not None and not self._allows(origin):
            raise Refused("requests from pages of this origin are not allowed here", code="ERR_ORIGIN_NOT_ALLOWED")

    def headers(self, origin: str | None, *, is_preflight: bool) -> list[tuple[bytes, bytes]]:
        """The headers of any response, to a refused origin too: it gets none that let its page read anything."""
        if origin is None:
            return _FOR_NO_PAGE
        headers = {"vary": "Origin"}
        if self._allows(origin):
            headers["access-control-allow-origin"] = origin
            if self.allow_credentials:
                headers["access-control-allow-credentials"] = "true"
            headers |= self._permissions() if is_preflight else self._exposure()
        return [(name.encode("ascii"), value.encode("ascii")) for name, value in headers.items()]

    def _allows(self, origin: str) -> bool:
        return bool(_ORIGIN.fullmatch(origin) and re.fullmatch(self.allow_origin, origin))

    def _permissions(self) -> dict[str, str]:
        return {
            "access-control-allow-methods": _joined(ALLOW_METHODS, self.allow_methods),
            "access-control-allow-headers": _joined(ALLOW_HEADERS, self.allow_headers),
            "access-control-max-age": str(self.max_age),
        }

    def _exposure(self) -> dict[str, str]:
        return {"access-control-expose-headers": _joined(EXPOSE_HEADERS, self.expose_headers)}


def _joined(fixed: Iterable[str], more: Iterable[str]) -> str:
    return ", ".join([*fixed, *more])
