"""The tus server under examination, and what is known of it so far: how its uploads are reached, what it offers.

Has the calls of tus that probes are made of, and remembers every upload it created, to remove it again.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

from tusd_py.client.answers import address
from tusd_py.client.interruption import deferred
from tusd_py.client.wire import Answer, Request, Wire, WireError

VERSION = "1.0.0"
TUS = {"Tus-Resumable": VERSION}
OFFSET_TYPE = {"Content-Type": "application/offset+octet-stream"}
BUSY = {409, 423, 429, 503}
BUSY_SECONDS = 10.0
LOOK_SECONDS = 0.1

# A prime number of bytes, so that no power of two falls on its start again: shifted bytes show.
_BLOCK = random.Random(1).randbytes(1_000_003)  # noqa: S311 - no secret

Way = Literal["as given", "our origin", "our path"]


class Unexpected(Exception):
    """An answer that leaves open what was to be found out."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(str(answer))
        self.answer = answer


@dataclass(frozen=True, slots=True)
class Wishes:
    """What whoever checks wants tried."""

    origin: str = ""
    body_bytes: int = 16 << 20
    pause_seconds: float = 5.0


class Site:
    def __init__(self, wire: Wire, endpoint: str, wishes: Wishes) -> None:
        self.wire = wire
        self.endpoint = endpoint
        self.wishes = wishes
        self.extensions: frozenset[str] = frozenset()
        self.algorithms: frozenset[str] = frozenset()
        self.max_size: int | None = None
        self.server = ""
        self.is_announced = False  # whether OPTIONS told of tus
        self.way: Way = "as given"
        self.is_overriding = False  # PATCH itself does not come through
        self.sample = ""  # Location of the upload that the first probes share, and the answer that made it
        self.created: Answer | None = None
        self._locations: list[str] = []

    # What it is called.

    def given(self, location: str) -> str:
        """Raises WireError if nothing can be asked there."""
        try:
            return address(self.endpoint, location)
        except ValueError as error:
            raise WireError(f"Location cannot be used: {error}") from None

    def reach(self, location: str) -> str:
        """The URL under which an upload can be asked for, though its Location may lead elsewhere. Raises WireError."""
        url = self.given(location)
        if self.way == "as given":
            return url
        here, there = urlsplit(self.endpoint), urlsplit(url)
        if self.way == "our origin":
            return urlunsplit(there._replace(scheme=here.scheme, netloc=here.netloc))
        folder = here.path if here.path.endswith("/") else f"{here.path}/"
        return urlunsplit(here._replace(path=folder + there.path.rsplit("/", 1)[-1], query=there.query))

    def capped(self, wanted: int) -> int:
        """No upload may be longer than the server allows."""
        return wanted if not self.max_size else min(wanted, self.max_size)

    # What is asked.

    def create(self, length: int, headers: Mapping[str, str] | None = None, body: bytes = b"") -> Answer:
        """POST. Whatever it creates will be removed. A header that is "" is left out."""
        told = {**TUS, "Upload-Length": str(length), **(headers or {})}
        with deferred(self.wire.haste):
            answer = self.wire.ask("POST", self.endpoint, {k: v for k, v in told.items() if v}, body)
            if answer.status == 201 and (location := answer.header("location")):
                self._locations.append(location)
        return answer

    def new(self, length: int, headers: Mapping[str, str] | None = None) -> str:
        """URL of a new upload. Raises Unexpected."""
        answer = self.create(length, headers)
        location = answer.header("location")
        if answer.status != 201 or not location:
            raise Unexpected(answer)
        return self.reach(location)

    def head(self, url: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Asks again while the upload is in use."""
        deadline = time.monotonic() + BUSY_SECONDS
        while True:
            answer = self.wire.ask("HEAD", url, {**TUS, **(headers or {})})
            if answer.status not in BUSY or time.monotonic() > deadline:
                return answer
            time.sleep(LOOK_SECONDS)

    def offset(self, url: str) -> int:
        answer = self.head(url)
        offset = answer.number("upload-offset")
        if not answer.is_success or offset is None:
            raise Unexpected(answer)
        return offset

    def append(self, url: str, offset: int, body: bytes, headers: Mapping[str, str] | None = None) -> Answer:
        with self.begin_append(url, offset, len(body), headers) as request:
            request.send(body)
            return request.answer()

    def begin_append(
        self, url: str, offset: int, length: int | None, headers: Mapping[str, str] | None = None
    ) -> Request:
        """`length` None: `headers` say how the body ends."""
        told = {**TUS, **OFFSET_TYPE, "Upload-Offset": str(offset), **(headers or {})}
        if self.is_overriding:
            return self.wire.begin("POST", url, {**told, "X-HTTP-Method-Override": "PATCH"}, length)
        return self.wire.begin("PATCH", url, told, length)

    def remove_all(self) -> list[str]:
        """Returns what could not be removed, or may still be there."""
        left = []
        while self._locations:
            location = self._locations.pop()
            try:
                url = self.reach(location)
            except WireError as error:
                left.append(str(error))
                continue
            if self.wire.haste.is_over or not self._is_removed(url):
                left.append(url)
        return left[::-1]

    def _is_removed(self, url: str) -> bool:
        try:
            answer = self.wire.ask("DELETE", url, TUS)
            if answer.status == 423 and not self.wire.haste.is_on:
                self.head(url)
                answer = self.wire.ask("DELETE", url, TUS)
        except WireError:
            return False
        return answer.is_success or answer.status in (404, 410)


def stretch(offset: int, count: int) -> bytes:
    """Bytes that are the same each time, and elsewhere others."""
    start = offset % len(_BLOCK)
    whole = _BLOCK[start:] + _BLOCK * (count // len(_BLOCK) + 1) if start + count > len(_BLOCK) else _BLOCK[start:]
    return whole[:count]
