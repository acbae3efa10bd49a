"""What clients sent, what they were answered and when, and whether any one upload can have gone that way.

`check_history` is pure: it takes what was noted and returns what is wrong with it, a sentence each. It knows nothing of
servers, only of the promises: an answered offset never falls, what was acknowledged is there and is what its client
sent, of two writers at one offset one wins, and what is finished never changes.
"""

from __future__ import annotations

import hashlib
import math
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

REFUSALS = frozenset({409, 423, 500, 503})
"""What clients try again after."""

ANSWERS = {
    "POST": frozenset({201}) | REFUSALS,
    "HEAD": frozenset({200}) | REFUSALS,
    "PATCH": frozenset({204}) | REFUSALS,
    "GET": frozenset({200, 400}) | REFUSALS,  # 400: not finished
}


@dataclass(slots=True, eq=False)
class Event:
    """One request. `start` and `end` are of the bytes that it brought; without an answer it never returned."""

    client: str
    upload: str
    kind: str
    start: int = 0
    end: int = 0
    invoked: float = 0.0
    returned: float = math.inf
    status: int | None = None
    offset: int | None = None
    content: str = ""
    """Digest of what a GET was answered."""

    @property
    def is_acknowledged(self) -> bool:
        return self.kind == "PATCH" and self.status == 204

    def __str__(self) -> str:
        brought = f" {self.start}-{self.end}" if self.kind == "PATCH" else ""
        return f"{self.client} {self.kind}{brought} {self.invoked:.3f}-{self.returned:.3f}: {self.status} {self.offset}"


@dataclass
class History:
    """Written by many threads at once, and read when all have ended.

    `data` is what a client has for an upload, by both; `contents` what GETs were answered, by digest.
    """

    events: list[Event] = field(default_factory=list)
    data: dict[tuple[str, str], bytes] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def invoke(self, client: str, upload: str, kind: str, start: int = 0, end: int = 0) -> Event:
        event = Event(client, upload, kind, start, end, time.monotonic())
        with self._lock:
            self.events.append(event)
        return event

    def keep(self, content: bytes) -> str:
        digest = hashlib.sha256(content).hexdigest()
        with self._lock:
            self.contents.setdefault(digest, content)
        return digest


def check_history(history: History) -> list[str]:
    """What cannot be."""
    by_upload: dict[str, list[Event]] = defaultdict(list)
    for event in history.events:
        by_upload[event.upload].append(event)
    found: list[str] = []
    for upload, events in by_upload.items():
        sent = {client: data for (client, of), data in history.data.items() if of == upload}
        checks = (
            *_strange_answers(events),
            *_unfinished_again(events),
            *_falling_offsets(events),
            *_invented_bytes(events),
            *_two_winners(events),
            *_wrong_contents(events, sent, history.contents),
        )
        found += [f"{upload}: {each}" for each in checks]
    return found


def _strange_answers(events: list[Event]) -> Iterator[str]:
    """Nobody deletes, so nothing is ever gone; and a 204 says that all of the body counts."""
    for event in events:
        if event.status is not None and event.status not in ANSWERS[event.kind]:
            yield f"a strange answer: {event}"
        if event.is_acknowledged and event.offset != event.end:
            yield f"acknowledged, but not what was sent: {event}"


def _unfinished_again(events: list[Event]) -> Iterator[str]:
    read = min((event.returned for event in events if event.kind == "GET" and event.status == 200), default=math.inf)
    for event in events:
        if event.kind == "GET" and event.status == 400 and event.invoked > read:
            yield f"it was finished before: {event}"


def _falling_offsets(events: list[Event]) -> Iterator[str]:
    """Between requests that did not overlap."""
    for event, known in _with_known(events):
        if event.offset is not None and event.offset < known:
            yield f"the offset fell from {known}: {event}"
        if event.is_acknowledged and event.start < known:
            yield f"taken at an offset below {known}, which had been answered: {event}"


def _with_known(events: list[Event]) -> Iterator[tuple[Event, int]]:
    """Each request, and the highest offset that had been answered to anybody before it was made."""
    answered = sorted((event for event in events if event.offset is not None), key=lambda event: event.returned)
    known, place = 0, 0
    for event in sorted(events, key=lambda event: event.invoked):
        while place < len(answered) and answered[place].returned < event.invoked:
            known = max(known, answered[place].offset or 0)
            place += 1
        yield event, known


def _invented_bytes(events: list[Event]) -> Iterator[str]:
    """Nothing counts that nobody had sent."""
    patches = [event for event in events if event.kind == "PATCH"]
    for event in events:
        if event.offset is not None:
            most = max((each.end for each in patches if each.invoked < event.returned), default=0)
            if event.offset > most:
                yield f"only {most} bytes were sent by then: {event}"


def _two_winners(events: list[Event]) -> Iterator[str]:
    """No byte is acknowledged twice."""
    acknowledged = sorted(
        (event for event in events if event.is_acknowledged and event.end > event.start), key=lambda event: event.start
    )
    for one, other in pairwise(acknowledged):
        if other.start < one.end:
            yield f"two were acknowledged for the same bytes: {one} and {other}"


def _wrong_contents(events: list[Event], sent: dict[str, bytes], contents: dict[str, bytes]) -> Iterator[str]:
    digests = {event.content for event in events if event.kind == "GET" and event.status == 200}
    if not digests:
        yield "it was never read back"
    if len(digests) > 1:
        yield "what was finished has changed"
    for digest in digests:
        content = contents[digest]
        lengths = {len(data) for data in sent.values()}
        if lengths != {len(content)}:
            yield f"{len(content)} bytes were read, of {lengths}"
        for event in events:
            stretch = slice(event.start, event.end)
            if event.is_acknowledged and content[stretch] != sent[event.client][stretch]:
                yield f"acknowledged, and not there: {event}"
        if not _is_made_of(content, events, sent):
            yield "it is not made of what was sent, one request after the other"


def _is_made_of(content: bytes, events: list[Event], sent: dict[str, bytes]) -> bool:
    """Whether it is a row of beginnings of PATCHes, each from where one before it ended.

    One that came when a higher offset had been answered can have added nothing.
    """
    patches: dict[int, list[Event]] = defaultdict(list)
    for event, known in _with_known(events):
        if event.kind == "PATCH" and event.start >= known:
            patches[event.start].append(event)
    reached = 0
    for start in sorted(patches):
        if start > reached:
            return False
        for event in patches[start]:
            data = sent[event.client]
            reached = max(reached, start + _alike(content[start : event.end], data[start : event.end]))
    return reached == len(content)


def _alike(one: bytes, other: bytes) -> int:
    """How many bytes at the beginning."""
    if one == other:
        return len(one)
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[:middle] == other[:middle] else (low, middle - 1)
    return low
