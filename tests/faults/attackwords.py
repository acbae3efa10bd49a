"""What attackers say, the uploads that they say it about, and what anything new costs."""

from __future__ import annotations

import os

from faultclient import BASE_PATH, Client, path_of

DATA = os.urandom(20_000)
# What the first requests of their kind make the heaps of both workers grow by.
HEAP_MIB = 16
HEAD = b"HEAD /files/x HTTP/1.1\r\nHost: h\r\nTus-Resumable: 1.0.0\r\n"
GET = b"GET %b HTTP/1.1\r\nHost: h\r\nTus-Resumable: 1.0.0\r\n\r\n"

END = b"\r\n\r\n"
LINE = b"X-Small: header\r\n"
LONG = b"Content-Length: 1073741824"
FRAMINGS = {LONG: bytes(65_536), b"Transfer-Encoding: chunked": b"10000\r\n" + bytes(65_536) + b"\r\n"}


def create(client: Client, count: int, length: int) -> list[str]:
    """Paths of new uploads, many at a time."""
    paths: list[str] = []
    with client.connect() as connection:
        while len(paths) < count:
            batch = min(count - len(paths), 50)
            for _ in range(batch):
                connection.begin("POST", BASE_PATH, {"Upload-Length": str(length), "Content-Length": "0"})
            paths += [path_of(connection.answer()) for _ in range(batch)]
    return paths


def patch(path: str, sent: bytes | None, data: bytes = DATA) -> bytes:
    """A PATCH of `data` that begins with `sent`; None: only the head of one in chunks."""
    framing = "Transfer-Encoding: chunked" if sent is None else f"Content-Length: {len(data)}"
    return (
        f"PATCH {path} HTTP/1.1\r\nHost: h\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\n{framing}"
        "\r\nContent-Type: application/offset+octet-stream\r\n\r\n"
    ).encode() + (sent or b"")
