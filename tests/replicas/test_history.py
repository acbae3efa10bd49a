"""The checker of histories accepts what may be, and says of each thing that may not be what it is."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from replicahistory import Event, History, check_history

ONE = bytes(range(100))
TWO = bytes(255 - each for each in ONE)


class Told:
    """A history of one upload, written by hand: each request begins when the one before has returned."""

    def __init__(self) -> None:
        self.history = History(data={("one", "/u"): ONE, ("two", "/u"): TWO})
        self.now = 0.0

    def ask(self, client: str, kind: str, offset: int | None, status: int = 200, *, lasts: float = 1.0) -> Event:
        event = self.history.invoke(client, "/u", kind)
        event.invoked, event.returned, event.status, event.offset = self.now, self.now + lasts, status, offset
        self.now += 2
        return event

    def patch(self, client: str, start: int, end: int, status: int | None = 204, *, lasts: float = 1.0) -> Event:
        event = self.ask(client, "PATCH", end if status == 204 else None, status or 0, lasts=lasts)
        event.start, event.end, event.status = start, end, status
        return event

    def get(self, content: bytes) -> Event:
        event = self.ask("one", "GET", None)
        event.content = self.history.keep(content)
        return event

    def found(self) -> str:
        return "\n".join(check_history(self.history))


def _made() -> Told:
    """As it may be: one sends, is cut off, and two goes on from what counted of it."""
    told = Told()
    told.ask("one", "POST", 0, 201)
    told.patch("one", 0, 20)
    told.patch("one", 20, 80, None)
    told.ask("two", "HEAD", 50)
    told.patch("two", 50, 60, 423)
    told.patch("two", 50, 100)
    told.ask("one", "HEAD", 100)
    told.get(ONE[:50] + TWO[50:])
    return told


def test_what_may_be_is_accepted() -> None:
    told = _made()
    told.patch("one", 20, 30, 409)
    told.ask("two", "HEAD", None, 503)
    told.get(ONE[:50] + TWO[50:])
    assert told.found() == ""


def test_answers_to_requests_that_overlap_may_come_in_any_order() -> None:
    told = Told()
    told.patch("one", 0, 20, lasts=9)
    told.ask("two", "HEAD", 0, lasts=9)
    told.patch("one", 20, 100)
    told.get(ONE)
    assert told.found() == ""


def _deny(told: Told) -> None:
    told.ask("one", "HEAD", None, 404)


def _fall(told: Told) -> None:
    told.ask("one", "HEAD", 99)


def _take_below(told: Told) -> None:
    told.patch("two", 60, 100)


def _invent(told: Told) -> None:
    told.ask("one", "HEAD", 101)


def _take_twice(told: Told) -> None:
    told.history.events[2].status, told.history.events[2].offset = 204, 80


def _count_less(told: Told) -> None:
    told.history.events[1].offset = 19


def _change(told: Told) -> None:
    told.get(ONE[:51] + TWO[51:])


def _unfinish(told: Told) -> None:
    told.ask("one", "GET", None, 400)


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (_deny, "a strange answer"),
        (_fall, "the offset fell from 100"),
        (_take_below, "taken at an offset below 100"),
        (_invent, "only 100 bytes were sent by then"),
        (_take_twice, "two were acknowledged for the same bytes"),
        (_count_less, "acknowledged, but not what was sent"),
        (_change, "what was finished has changed"),
        (_unfinish, "it was finished before"),
    ],
)
def test_what_may_not_be_is_told(spoil: Callable[[Told], None], word: str) -> None:
    told = _made()
    spoil(told)
    assert word in told.found()


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (TWO[:20] + ONE[20:50] + TWO[50:], "acknowledged, and not there: one PATCH 0-20"),
        (ONE[:50] + TWO[50:99] + ONE[99:], "acknowledged, and not there: two PATCH 50-100"),
        (ONE[:30] + TWO[30:], "not made of what was sent"),  # two never sent anything from 30 on
        (ONE[:50] + TWO[51:] + b"x", "not made of what was sent"),  # moved
        (ONE[:50] + TWO[50:99], "99 bytes were read"),
    ],
)
def test_contents_that_may_not_be_are_told(content: bytes, word: str) -> None:
    told = _made()
    told.history.contents[told.history.events[-1].content] = content
    assert word in told.found()


def test_bytes_below_an_answered_offset_are_nobody_s_any_more() -> None:
    """Two's PATCH at 20 came when 50 had been answered: not one byte of it may be there."""
    told = Told()
    told.patch("one", 0, 20)
    told.patch("one", 20, 80, None)
    told.ask("one", "HEAD", 50)
    told.patch("two", 20, 70, None)
    told.patch("one", 50, 100)
    told.get(ONE)
    assert told.found() == ""
    told.history.contents[told.history.events[-1].content] = ONE[:20] + TWO[20:50] + ONE[50:]
    assert "not made of what was sent" in told.found()


def test_an_upload_that_nobody_read_back_is_told() -> None:
    told = Told()
    told.patch("one", 0, 100)
    assert "never read back" in told.found()
