"""How far an upload is, for people and for programs: a bar on a terminal, else a line now and then, or JSON lines."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections import deque
from collections.abc import Callable
from typing import TextIO

from tusd_py.client import streams
from tusd_py.client.answers import shown

BAR_SECONDS = 0.1
LINE_SECONDS = 10.0
WINDOW_SECONDS = 10.0
BAR_COLUMNS = 24


class Progress:
    """Of one file at a time: `begin`, `at` for each offset, `end`. `say` is for what happens meanwhile."""

    def __init__(self, out: TextIO, *, is_json: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._out = out
        self._is_json = is_json
        self._is_bar = out.isatty() and not is_json
        self._every_seconds = BAR_SECONDS if self._is_bar else LINE_SECONDS
        self._clock = clock
        self._is_bar_shown = False

    def begin(self, name: str, path: str, total: int) -> None:
        """`name` is for people, `path` for programs."""
        self._name = name
        self._path = path
        self._total = total
        self._offset = 0
        self._marks: deque[tuple[float, int]] = deque()
        self._shown_at = -math.inf if self._is_bar else self._clock()

    def at(self, offset: int) -> None:
        now = self._clock()
        if offset < self._offset or not self._marks:
            self._marks.clear()  # what is sent again is no speed
        self._offset = offset
        if len(self._marks) > 1 and now - self._marks[-2][0] < BAR_SECONDS:
            self._marks.pop()  # a few of them suffice, and pieces are many
        self._marks.append((now, offset))
        while len(self._marks) > 2 and now - self._marks[0][0] > WINDOW_SECONDS:
            self._marks.popleft()
        if now - self._shown_at >= self._every_seconds:
            self._shown_at = now
            self._show()

    def resume(self, offset: int) -> None:
        """Bytes that the server had before do not count as speed."""
        self._marks.clear()
        self.at(offset)

    def say(self, text: str, event: str = "note") -> None:
        if self._is_json:
            self._tell(event, text=text)
        else:
            self._wipe()
            self._write(f"{shown(self._name)}: {shown(text)}\n")

    def end(self, url: str) -> None:
        if self._is_json:
            self._tell("done", bytes=self._total, url=url)
        elif self._is_bar:
            self._show()
            self._write("\n")
            self._is_bar_shown = False
        else:
            self._write(f"{shown(self._name)}: done, {size(self._total)}\n")

    def clear(self) -> None:
        self._wipe()

    @property
    def percent(self) -> int:
        return 100 * self._offset // self._total if self._total else 100

    @property
    def speed(self) -> float:
        """Bytes a second over the last seconds; 0 while that is not known."""
        if len(self._marks) < 2:
            return 0.0
        (begun, first), (now, last) = self._marks[0], self._marks[-1]
        return (last - first) / (now - begun) if now > begun else 0.0

    def _show(self) -> None:
        speed = self.speed
        left_seconds = (self._total - self._offset) / speed if speed else None
        if self._is_json:
            self._tell(
                "progress", offset=self._offset, length=self._total, bytes_per_second=round(speed), left=left_seconds
            )
            return
        moving = f", {size(round(speed))}/s" if speed else ""
        if left_seconds:
            moving += f", {span(left_seconds)} left"
        told = f"{self.percent:3}% {size(self._offset)} of {size(self._total)}{moving}"
        if not self._is_bar:
            self._write(f"{shown(self._name)}: {told.strip()}\n")
            return
        full = BAR_COLUMNS * self.percent // 100
        line = f"{shown(self._name)[-30:]} [{'#' * full}{'.' * (BAR_COLUMNS - full)}] {told}"
        columns = shutil.get_terminal_size().columns
        self._write(f"\r{line[: columns - 1]:{columns - 1}}")
        self._is_bar_shown = True

    def _tell(self, event: str, **fields: object) -> None:
        self._write(json.dumps({"file": self._path, "event": event, **fields}) + "\n")

    def _wipe(self) -> None:
        if self._is_bar_shown:
            self._write(f"\r{' ' * (shutil.get_terminal_size().columns - 1)}\r")
            self._is_bar_shown = False

    def _write(self, text: str) -> None:
        streams.write(self._out, text)


def size(count: int) -> str:
    for unit, power in (("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if count >= 1 << power:
            return f"{count / (1 << power):.1f} {unit}"
    return f"{count} bytes"


def span(seconds: float) -> str:
    whole = math.ceil(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
