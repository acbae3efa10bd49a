"""How fast uploads go on, by what was heard of them."""

from __future__ import annotations

from tusd_py.core import progress
from tusd_py.core.progress import ACTIVE_SECONDS, RATE_SECONDS, Course, Progress
from tusd_py.core.upload import UploadId

ID = UploadId("a" * 32)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_nothing_is_known_of_an_upload_that_was_never_heard_of() -> None:
    assert Course().of(ID) is None


def test_the_rate_is_that_of_the_last_seconds_only() -> None:
    course = Course(clock := Clock())
    course.note(ID, 0, is_active=True)
    assert course.of(ID) == Progress(0, True, None)  # one moment has no rate
    for _ in range(10):
        clock.now += 1
        course.note(ID, 1_000_000 + course.of(ID).received, is_active=True)
    assert course.of(ID) == Progress(10_000_000, True, 1_000_000)
    for _ in range(int(RATE_SECONDS)):
        clock.now += 1
        course.note(ID, 10 + course.of(ID).received, is_active=True)
    assert course.of(ID).bytes_per_second == 10


def test_who_has_not_been_heard_of_lately_does_not_move() -> None:
    course = Course(clock := Clock())
    course.note(ID, 0, is_active=True)
    clock.now += 1
    course.note(ID, 500, is_active=True)
    clock.now += ACTIVE_SECONDS
    assert course.of(ID) == Progress(500, False, None)


def test_bytes_that_did_not_count_make_no_negative_rate() -> None:
    course = Course(clock := Clock())
    course.note(ID, 900, is_active=True)
    clock.now += 1
    course.note(ID, 100, is_active=False)
    clock.now += 1
    course.note(ID, 300, is_active=True)
    assert course.of(ID) == Progress(300, True, 200)


def test_only_those_that_moved_last_are_remembered(monkeypatch) -> None:
    monkeypatch.setattr(progress, "_MOST_UPLOADS", 3)
    course = Course(Clock())
    ids = [UploadId(str(number)) for number in range(4)]
    for each in [*ids[:3], ids[0], ids[3]]:
        course.note(each, 1, is_active=True)
    assert [course.of(each) is not None for each in ids] == [True, False, True, True]
    course.forget(ids[0])
    assert course.of(ids[0]) is None
