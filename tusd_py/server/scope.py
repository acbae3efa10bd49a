"""The ASGI scope of a request: what the parser found, and who speaks with whom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from tusd_py.server.parser import Request


@dataclass(frozen=True, slots=True)
class Peers:
    """The two ends of a connection, and what is the same for all requests on it."""

    server: tuple[str, int | None] | None
    client: tuple[str, int] | None
    scheme: str
    root_path: str
    asgi_version: str
    state: dict[str, Any]

    def scope_of(self, request: Request) -> dict[str, Any]:
        target, headers = request.target, request.headers
        if target.authority is not None:  # counts more than Host (RFC 9112 3.2.2)
            headers = [header for header in headers if header[0] != b"host"]
            headers.append((b"host", target.authority))
        path = target.path.decode("ascii")
        return {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": request.version,
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "method": request.method,
            "root_path": self.root_path,
            "path": self.root_path + (unquote(path) if "%" in path else path),
            "raw_path": self.root_path.encode("ascii") + target.path,
            "query_string": target.query,
            "headers": headers,
            "state": self.state.copy(),
        }
