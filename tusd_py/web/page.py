"""The page for people and its assets, as ASGI apps by their path: what is there is decided once, when they are made.

They speak no tus and stand outside the envelope. The page itself is built from `static/`, or is the plain one beside
this module; all it is told is put into one of its `meta` elements. Which paths it may have is settled by `config`.
"""

from __future__ import annotations

import gzip
import hashlib
import html
import json
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from urllib.parse import quote

from starlette.types import ASGIApp, Receive, Scope, Send

from tusd_py.logs import event
from tusd_py.web.requests import headers_of
from tusd_py.web.responses import encode_headers, is_wanted

log = logging.getLogger("tusd_py.page")

PLAIN = Path(__file__).parent / "plain"
ASSETS = "page-assets/"

_FACTS = b'<meta name="tusd-py" content="{}">'
_ENDPOINT = b"{{endpoint}}"

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".map": "application/json",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".webmanifest": "application/manifest+json",
    ".ico": "image/x-icon",
    ".png": "image/png",
    ".webp": "image/webp",
    ".woff2": "font/woff2",
}
_COMPRESSED = {".png", ".webp", ".woff2"}

# As bundlers write it: index-B4XQK2ZD.js, index-0f3c9a1b.css.
_HAS_HASH = re.compile(r"[-.]([A-Z0-9]{8}|[0-9a-f]{8,64})\.")

_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "worker-src 'self'",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
_ALWAYS = {
    "content-security-policy": _POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}

_ENTITY_TAG = re.compile(r'"[!#-~]*"')


class Content:
    """Bytes of a type, compressed when they are first wanted so. `is_forever`: its URL never has other bytes."""

    def __init__(self, name: str, body: bytes, *, is_forever: bool = False) -> None:
        suffix = Path(name).suffix
        self.body = body
        self.digest = hashlib.sha256(body).hexdigest()[:32]
        self.type = _TYPES.get(suffix, "application/octet-stream")
        self.cache_control = "public, max-age=31536000, immutable" if is_forever else "no-cache"
        self._is_compressed = suffix in _COMPRESSED

    @cached_property
    def gzipped(self) -> bytes | None:
        """None where it saves nothing."""
        smaller = self.body if self._is_compressed else gzip.compress(self.body, 9, mtime=0)
        return smaller if len(smaller) < len(self.body) else None


class Endpoint:
    """An ASGI app that answers GET and HEAD with the content that `find` has for this root path."""

    def __init__(self, find: Callable[[str], Content]) -> None:
        self._find = find

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] not in ("GET", "HEAD"):
            await _refuse_method(send)
            return
        content, headers = self._find(scope.get("root_path", "")), headers_of(scope)
        body, etag = content.body, f'"{content.digest}"'
        fields = _ALWAYS | {"cache-control": content.cache_control, "vary": "Accept-Encoding"}
        if content.gzipped is not None and is_wanted(headers.joined("accept-encoding") or "", "gzip".__eq__):
            body, etag = content.gzipped, f'"{content.digest}-gzip"'
            fields["content-encoding"] = "gzip"
        fields["etag"] = etag
        if _is_listed(etag, headers.joined("if-none-match")):
            fields.pop("content-encoding", None)
            status, body = 304, b""
        else:
            status, fields["content-type"], fields["content-length"] = 200, content.type, str(len(body))
        await send({"type": "http.response.start", "status": status, "headers": encode_headers(fields)})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


@dataclass(frozen=True, slots=True)
class Bundle:
    """A page as it was built: the index, which is filled in for each root path, and its assets by their name."""

    index: bytes
    assets: Mapping[str, Content]

    @classmethod
    def read(cls, folder: Path) -> Bundle:
        """Raises OSError, or ValueError where it is not a page of ours."""
        index = (folder / "index.html").read_bytes()
        if index.count(_FACTS) != 1:
            raise ValueError(f"index.html has no such line, or more than one: {_FACTS.decode()}")
        assets = folder / "assets"
        paths = sorted(path for path in assets.rglob("*") if path.is_file())
        names = {path.relative_to(assets).as_posix(): path for path in paths}
        return cls(
            index,
            {
                name: Content(name, path.read_bytes(), is_forever=bool(_HAS_HASH.search(path.name)))
                for name, path in names.items()
            },
        )

    def fill(self, endpoint: str, facts: Mapping[str, object]) -> bytes:
        written = html.escape(json.dumps(facts, separators=(",", ":"))).encode()
        return self.index.replace(_FACTS, _FACTS.replace(b"{}", written)).replace(
            _ENDPOINT, html.escape(endpoint).encode()
        )


def make_apps(
    folder: Path | None, path: str, base_path: str, api_path: str, facts: Mapping[str, object]
) -> dict[str, ASGIApp]:
    """The apps by their path, of the page in `folder` or of the plain one. It is told the two other paths, as they are
    under its mount, and `facts`. All paths end with a slash."""
    bundle = _read(folder)

    @lru_cache(maxsize=16)  # as many as there are mounts, and paths of mounts may have parameters
    def find(root_path: str) -> Content:
        root = quote(root_path, safe="/~!$&'()*+,;=:@")
        places = {"endpoint": f"{root}{base_path}", "api": f"{root}{api_path}"}
        return Content("index.html", bundle.fill(places["endpoint"], {**places, **facts}))

    apps: dict[str, ASGIApp] = {path: Endpoint(find), path.removesuffix("/"): add_slash}
    for name, content in bundle.assets.items():
        apps[f"{path}{ASSETS}{name}"] = Endpoint(_always(content))
    return apps


def _always(content: Content) -> Callable[[str], Content]:
    return lambda _root_path: content


def _read(folder: Path | None) -> Bundle:
    if folder is not None:
        try:
            return Bundle.read(folder)
        except (OSError, ValueError) as error:
            event(log, "PageBroken", level=logging.WARNING, reason=str(error), advice="build it anew: see static/")
    return Bundle.read(PLAIN)


async def add_slash(scope: Scope, _receive: Receive, send: Send) -> None:
    """An ASGI app for the path without its slash: without it the page's relative URLs would lead elsewhere."""
    if scope["method"] not in ("GET", "HEAD"):
        await _refuse_method(send)
        return
    name = quote(scope["path"].rpartition("/")[2])  # relative too: a proxy may have taken a prefix away
    fields = {"location": f"./{name}/", "content-length": "0", "cache-control": "no-store"}
    await send({"type": "http.response.start", "status": 308, "headers": encode_headers(fields)})
    await send({"type": "http.response.body", "body": b""})


async def _refuse_method(send: Send) -> None:
    body = b"allowed here: GET, HEAD\n"
    fields = {
        "allow": "GET, HEAD",
        "content-type": "text/plain; charset=utf-8",
        "content-length": str(len(body)),
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
    }
    await send({"type": "http.response.start", "status": 405, "headers": encode_headers(fields)})
    await send({"type": "http.response.body", "body": body})


def _is_listed(etag: str, field: str | None) -> bool:
    """RFC 9110 13.1.2: weak or strong, it is the same page."""
    return field is not None and (field.strip() == "*" or etag in _ENTITY_TAG.findall(field))
