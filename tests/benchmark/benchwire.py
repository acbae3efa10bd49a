"""What goes over the wire: the bytes of every upload, requests made by hand, and answers read back.

Bodies are windows of one pattern, so that any process can say what an upload must contain. The load itself is driven
by `benchengine`; the calls here that open a connection of their own are for what happens outside the clock.
"""

from __future__ import annotations

import http.client
import random
import re
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urljoin, urlsplit

PATTERN_BYTES = 8 << 20
PATTERN = random.Random(1).randbytes(PATTERN_BYTES)
_TWICE = memoryview(PATTERN + PATTERN)
UPLOAD_TYPE = "application/offset+octet-stream"
# tuspyserver answers HEAD with 400 unless both are there.
METADATA = "filename YmVuY2guYmlu,filetype YXBwbGljYXRpb24vb2N0ZXQtc3RyZWFt"

_LOCATION = re.compile(rb"\r\nlocation: *(\S+)", re.IGNORECASE)
_OFFSET = re.compile(rb"\r\nupload-offset: *(\d+)", re.IGNORECASE)
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)

UNTIL_LAST_CHUNK = -1


def window(start: int, length: int) -> memoryview:
    """The `length` bytes (at most 8 MiB) of the endless pattern from `start`."""
    start %= PATTERN_BYTES
    return _TWICE[start : start + length]


def location_of(head: bytes) -> str:
    found = _LOCATION.search(head)
    return found[1].decode("latin-1") if found else ""


def offset_of(head: bytes) -> int:
    found = _OFFSET.search(head)
    return int(found[1]) if found else -1


def must_close(head: bytes) -> bool:
    return head.startswith(b"HTTP/1.0") or _CLOSE.search(head) is not None


def measure_answer(data: bytes | bytearray, has_no_body: bool) -> tuple[int, int, int] | None:
    """Status, length of the head, length of all, or None while the head is incomplete."""
    end = data.find(b"\r\n\r\n") + 4
    if end < 4:
        return None
    status = int(data[9:12])
    if has_no_body or status < 200 or status in (204, 304):
        return status, end, end
    if found := _LENGTH.search(data, 0, end):
        return status, end, end + int(found[1])
    return status, end, UNTIL_LAST_CHUNK if _CHUNKED.search(data, 0, end) else end


@dataclass(frozen=True)
class Target:
    """One tus server: where it listens and where it creates uploads."""

    host: str
    port: int
    path: str = "/files/"

    @property
    def _base(self) -> str:
        return f"Host: {self.host}:{self.port}\r\nTus-Resumable: 1.0.0\r\n"

    def post(self, length: int, body_bytes: int = 0) -> bytes:
        body_type = f"Content-Type: {UPLOAD_TYPE}\r\n" if body_bytes else ""
        return (
            f"POST {self.path} HTTP/1.1\r\n{self._base}Upload-Length: {length}\r\nUpload-Metadata: {METADATA}\r\n"
            f"{body_type}Content-Length: {body_bytes}\r\n\r\n"
        ).encode()

    def patch(self, path: str, offset: int, body_bytes: int) -> bytes:
        return (
            f"PATCH {path} HTTP/1.1\r\n{self._base}Upload-Offset: {offset}\r\nContent-Type: {UPLOAD_TYPE}\r\n"
            f"Content-Length: {body_bytes}\r\n\r\n"
        ).encode()

    def plain(self, method: str, path: str) -> bytes:
        length = "Content-Length: 0\r\n" if method == "DELETE" else ""
        return f"{method} {path} HTTP/1.1\r\n{self._base}{length}\r\n".encode()

    def path_of(self, location: str) -> str:
        """The path to ask for, from a Location that may be absolute or relative."""
        return urlsplit(urljoin(f"http://{self.host}:{self.port}{self.path}", location)).path

    def connect(self, timeout_seconds: float = 60) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.host, self.port, timeout=timeout_seconds)

    def create(self, length: int, body: bytes) -> str:
        """The path of a new upload that holds `body`."""
        connection = self.connect()
        version = {"Tus-Resumable": "1.0.0"}
        try:
            headers = version | {"Upload-Length": str(length), "Upload-Metadata": METADATA, "Content-Length": "0"}
            connection.request("POST", self.path, None, headers)
            answer = connection.getresponse()
            answer.read()
            if answer.status != 201:
                raise OSError(f"POST was answered {answer.status}")
            path = self.path_of(answer.headers["Location"])
            connection.request("PATCH", path, body, version | {"Upload-Offset": "0", "Content-Type": UPLOAD_TYPE})
            answer = connection.getresponse()
            answer.read()
            if answer.status not in (200, 204):
                raise OSError(f"PATCH was answered {answer.status}")
            return path
        finally:
            connection.close()

    def differs_from_pattern(self, path: str, start: int, length: int) -> str:
        """Read an upload back; what is wrong with it, or nothing. LookupError if the server does not serve it."""
        connection = self.connect()
        try:
            connection.request("GET", path, headers={"Tus-Resumable": "1.0.0"})
            answer = connection.getresponse()
            if answer.status != 200:
                raise LookupError(f"GET was answered {answer.status}")
            return differs_from_pattern(answer, start, length)
        finally:
            connection.close()


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def differs_from_pattern(source: Readable, start: int, length: int) -> str:
    """What is wrong with these bytes of an upload, or nothing."""
    at = 0
    while data := source.read(1 << 20):
        if data != bytes(window(start + at, len(data))):
            return f"wrong bytes between {at} and {at + len(data)}"
        at += len(data)
    return "" if at == length else f"{at} bytes instead of {length}"


def file_differs_from_pattern(path: str, start: int, length: int) -> str:
    with open(path, "rb") as file:
        return differs_from_pattern(file, start, length)
