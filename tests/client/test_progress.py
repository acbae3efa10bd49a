"""Progress as it is shown: a bar on a terminal, lines elsewhere; speed counts only what was sent now."""

from __future__ import annotations

import io
import json

import pytest

from tusd_py.client.progress import Progress, size, span

MIB = 1 << 20


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_bar_with_speed_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    out, clock = Terminal(), Clock()
    progress = Progress(out, is_json=False, clock=clock)
    progress.begin("data.bin", "data.bin", 100 * MIB)
    progress.resume(40 * MIB)
    clock.now += 2
    progress.at(50 * MIB)
    shown = out.getvalue().split("\r")[-1].rstrip()
    assert shown == "data.bin [############............]  50% 50.0 MiB of 100.0 MiB, 5.0 MiB/s, 10 s left"
    progress.at(100 * MIB)
    progress.end("http://h/1")
    assert out.getvalue().endswith("\n")
    assert "100% 100.0 MiB of 100.0 MiB" in out.getvalue().split("\r")[-1]


def test_a_bar_is_no_wider_than_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    out = Terminal()
    progress = Progress(out, is_json=False, clock=Clock())
    progress.begin(
        "a name that is longer than the terminal is wide.bin", "a name that is longer than the terminal is wide.bin", 5
    )
    progress.at(1)
    assert {len(line) for line in out.getvalue().split("\r")[1:]} == {39}


def test_what_happens_takes_the_bar_away_first() -> None:
    out = Terminal()
    progress = Progress(out, is_json=False, clock=Clock())
    progress.begin("a", "a", 5)
    progress.at(1)
    progress.say("trying again")
    assert out.getvalue().split("\r")[-1] == "a: trying again\n"


def test_a_line_each_ten_seconds_where_there_is_no_terminal() -> None:
    out, clock = io.StringIO(), Clock()
    progress = Progress(out, is_json=False, clock=clock)
    progress.begin("a", "a", 100 * MIB)
    for second in range(25):
        clock.now = 100.0 + second
        progress.at(second * MIB)
    assert out.getvalue().splitlines() == [
        "a: 10% 10.0 MiB of 100.0 MiB, 1.0 MiB/s, 1 min 30 s left",
        "a: 20% 20.0 MiB of 100.0 MiB, 1.0 MiB/s, 1 min 20 s left",
    ]


def test_bytes_that_are_sent_again_are_no_speed() -> None:
    clock = Clock()
    progress = Progress(io.StringIO(), is_json=False, clock=clock)
    progress.begin("a", "a", 100)
    progress.at(50)
    clock.now += 1
    progress.at(60)
    assert progress.speed == 10
    progress.at(20)
    assert progress.speed == 0


def test_json_for_programs() -> None:
    out, clock = io.StringIO(), Clock()
    progress = Progress(out, is_json=True, clock=clock)
    progress.begin("a", "a", 1000)
    progress.at(0)
    clock.now += 10
    progress.at(500)
    told = json.loads(out.getvalue())
    assert told == {
        "file": "a", "event": "progress", "offset": 500, "length": 1000, "bytes_per_second": 50, "left": 10.0
    }  # fmt: skip


def test_an_empty_file_is_all_there() -> None:
    progress = Progress(io.StringIO(), is_json=False, clock=Clock())
    progress.begin("a", "a", 0)
    assert progress.percent == 100


@pytest.mark.parametrize(("count", "text"), [(0, "0 bytes"), (1023, "1023 bytes"), (1 << 20, "1.0 MiB"),
                                             (5 << 39, "2.5 TiB")])  # fmt: skip
def test_sizes(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "1 s"), (59.5, "1 min 0 s"), (3700, "1 h 1 min")])
def test_spans(seconds: float, text: str) -> None:
    assert span(seconds) == text
