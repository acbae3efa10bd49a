"""What uploads of a working day look like: small and medium, in one piece and several, cut and resumed, ended early.

Each is compared with what was sent when it is finished. They are deleted by the server, but in one go when there are
many: for minutes after files were removed ext4 takes up to 15 times the CPU to create others near them, and a soak that
removes all the time would measure only that.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Generator
from pathlib import Path

from benchcrowd import Crowd
from benchengine import Answer, Engine, Request, Script, StalledError
from benchload import BODY_STRIDE
from benchwire import Target, location_of, offset_of, window

KIB = 1 << 10
# Share of all uploads, from, to: about 60 KiB on average.
SIZES = ((0.80, 1, 16 * KIB), (0.18, 64 * KIB, 256 * KIB), (0.02, 512 * KIB, 2048 * KIB))
RESUMED_SHARE, ENDED_SHARE, WITH_CREATION_SHARE = 0.15, 0.05, 0.20
TRIES = 50
DOWNLOADED_SHARE = 0.25  # the others are compared in the folder, which is quicker
KEPT_MOST = 150_000  # 9 GiB
WARM_UP_PIECES, WARM_UP_SECONDS = 32, 4.0

Steps = Generator[Request, Answer | None, bool]


class Life:
    """Scripts for an engine; `done` counts finished uploads, `fates` what became of them, `is_removing` while they are
    deleted and no new ones begun."""

    def __init__(self, target: Target, folder: Path, count: int, links: int) -> None:
        self.engine = Engine(target)
        self.done = 0
        self.body_bytes = 0
        self.fates: Counter[str] = Counter()
        self._target, self._folder = target, folder
        self._numbers = iter(range(count))
        self._links = links
        self._old: list[str] = []
        self.is_removing = False

    def warm_up(self) -> None:
        """As many at once as there will ever be, then removed: so threads are started and pools of buffers full, which
        are bounded by what is under way, and what memory does afterwards is due to what is over."""
        crowd = Crowd(self._target, 2 * self._links, WARM_UP_PIECES, 16 * KIB)
        crowd.gather(lambda _count: None)
        crowd.trickle(WARM_UP_SECONDS, lambda _piece: None)
        self.engine.errors += crowd.outcome.errors
        self._old += crowd.paths
        self._run(self._clean)

    def run(self) -> None:
        self._run(self._script)

    def _run(self, script: Callable[[], Script]) -> None:
        self.engine.connect(script() for _ in range(self._links))
        try:
            self.engine.run()
        except StalledError as error:
            self.engine.errors[str(error)] += 1

    def _script(self) -> Script:
        for number in self._numbers:
            chance = random.Random(number)
            size = _choose_size(chance)
            fate = _choose_fate(chance)
            start = number * BODY_STRIDE
            steps = {
                "whole": self._send_whole,
                "with creation": self._send_with_creation,
                "resumed": self._send_resumed,
                "ended": self._end_early,
            }[fate]
            if (yield from steps(chance, start, size)):
                self.fates[fate] += 1
            self.done += 1
            self.body_bytes += size
            self.is_removing = self.is_removing or len(self._old) >= KEPT_MOST
            if self.is_removing:
                yield from self._clean()
        yield from self._clean()

    def _clean(self) -> Script:
        """All connections do this together until nothing is left."""
        self.is_removing = bool(self._old)
        while self._old:
            yield from self._delete(self._old.pop())
        self.is_removing = False

    def _send_whole(self, chance: random.Random, start: int, size: int) -> Steps:
        path = yield from self._create(size)
        if not path:
            return False
        piece = max(1, -(-size // chance.randint(1, 3)))
        for offset in range(0, size, piece):
            length = min(piece, size - offset)
            answer = yield Request("PATCH", self._target.patch(path, offset, length), start + offset, length)
            if not self._expect("PATCH", answer, (204, 200)):
                return False
        return (yield from self._compare(path, start, size))

    def _send_with_creation(self, _chance: random.Random, start: int, size: int) -> Steps:
        answer = yield Request("POST", self._target.post(size, size), start, size)
        if not self._expect("POST", answer, (201,)):
            return False
        assert answer is not None
        path = self._target.path_of(location_of(answer.head))
        return (yield from self._compare(path, start, size))

    def _send_resumed(self, chance: random.Random, start: int, size: int) -> Steps:
        """Cut in the middle of a body, then asked where to go on, as often as the server still takes in the rest."""
        path = yield from self._create(size)
        if not path:
            return False
        sent = chance.randrange(size)
        yield Request("PATCH", self._target.patch(path, 0, size), start, size, cut_after=sent)
        for _ in range(TRIES):
            answer = yield Request("HEAD", self._target.plain("HEAD", path), has_no_body=True)
            assert answer is not None
            offset = offset_of(answer.head)
            if answer.status == 423:
                continue
            if answer.status not in (200, 204) or not 0 <= offset <= sent:
                self.engine.errors[f"HEAD: {answer.status} at offset {offset} after {sent} were sent"] += 1
                return False
            left = size - offset
            answer = yield Request("PATCH", self._target.patch(path, offset, left), start + offset, left)
            assert answer is not None
            if answer.status in (204, 200):
                return (yield from self._compare(path, start, size))
            if answer.status not in (409, 423):
                break
        self._expect("PATCH to resume", answer, (204, 200))
        return False

    def _end_early(self, chance: random.Random, start: int, size: int) -> Steps:
        path = yield from self._create(size)
        if not path:
            return False
        part = chance.randrange(size)
        if part:
            answer = yield Request("PATCH", self._target.patch(path, 0, part), start, part)
            if not self._expect("PATCH", answer, (204, 200)):
                return False
        self._old.append(path)  # its end comes when the others' does
        return True

    def _create(self, size: int) -> Generator[Request, Answer | None, str]:
        answer = yield Request("POST", self._target.post(size))
        if not self._expect("POST", answer, (201,)):
            return ""
        assert answer is not None
        return self._target.path_of(location_of(answer.head))

    def _compare(self, path: str, start: int, size: int) -> Steps:
        file = self._folder / path.rpartition("/")[2]
        if random.Random(start).random() >= DOWNLOADED_SHARE and file.exists():
            body = file.read_bytes()
        else:
            answer = yield Request("GET", self._target.plain("GET", path))
            if not self._expect("GET", answer, (200,)):
                return False
            assert answer is not None
            body = answer.body
        if body != bytes(window(start, size)):
            self.engine.errors[f"read back: other bytes than were sent, {len(body)} of {size}"] += 1
            return False
        self._old.append(path)
        return True

    def _delete(self, path: str) -> Steps:
        answer = yield Request("DELETE", self._target.plain("DELETE", path))
        if not self._expect("DELETE", answer, (204,)):
            return False
        answer = yield Request("HEAD", self._target.plain("HEAD", path), has_no_body=True)
        return self._expect("HEAD of a deleted one", answer, (404, 410))

    def _expect(self, kind: str, answer: Answer | None, statuses: tuple[int, ...]) -> bool:
        assert answer is not None
        if answer.status in statuses:
            return True
        if answer.status:
            self.engine.errors[f"{kind}: {answer.status} {answer.body[:80]!r}"] += 1
        return False


def _choose_size(chance: random.Random) -> int:
    at = chance.random()
    for share, low, high in SIZES:
        at -= share
        if at < 0:
            return chance.randint(low, high)
    return SIZES[0][2]


def _choose_fate(chance: random.Random) -> str:
    at = chance.random()
    for share, fate in ((RESUMED_SHARE, "resumed"), (ENDED_SHARE, "ended"), (WITH_CREATION_SHARE, "with creation")):
        at -= share
        if at < 0:
            return fate
    return "whole"
