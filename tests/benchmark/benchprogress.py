"""Says what runs, which round of how many, and how long it still takes: as a bar in a terminal, else line by line."""

from __future__ import annotations

import sys
import time
from types import TracebackType

try:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
except ImportError:
    Progress = None  # type: ignore[assignment,misc]

LINE_EVERY_SECONDS = 5.0


def spell(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


class Steps:
    """A known number of steps, each of a kind; the time left follows from what steps of the same kind took so far."""

    def __init__(self, kinds: list[str]) -> None:
        self._left = list(kinds)
        self._total = len(kinds)
        self._took: dict[str, list[float]] = {}
        self._bar = None
        if Progress is not None and sys.stderr.isatty():
            from rich.console import Console

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed:.0f}/{task.total:.0f}"),
                TimeElapsedColumn(),
                TextColumn("{task.fields[left]}"),
                console=Console(stderr=True),
            )
            self._task = self._bar.add_task("", total=len(kinds), left="")
        self._last_line = 0.0

    def __enter__(self) -> Steps:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._bar:
            self._bar.stop()

    def say(self, text: str) -> None:
        """A line that stays."""
        if self._bar:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=sys.stderr, flush=True)

    def begin(self, text: str) -> None:
        self._started = time.monotonic()
        if self._bar:
            self._bar.update(self._task, description=text, left=self.time_left())
        elif self._started - self._last_line >= LINE_EVERY_SECONDS:
            self._last_line = self._started
            self.say(f"[{self._total - len(self._left) + 1}/{self._total}] {text}  {self.time_left()}")

    def end(self, kind: str) -> None:
        self._left.remove(kind)
        self._took.setdefault(kind, []).append(time.monotonic() - self._started)
        if self._bar:
            self._bar.update(self._task, completed=self._total - len(self._left), left=self.time_left())

    def skip(self, kind: str, count: int) -> None:
        for _ in range(count):
            self._left.remove(kind)
        self._total -= count
        if self._bar:
            self._bar.update(self._task, total=self._total)

    def time_left(self) -> str:
        if not self._took:
            return ""
        all_took = [each for took in self._took.values() for each in took]
        mean = sum(all_took) / len(all_took)
        seconds = 0.0
        for kind in self._left:
            took = self._took.get(kind)
            seconds += sum(took) / len(took) if took else mean
        return f"about {spell(seconds)} left"
