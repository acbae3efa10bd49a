"""What a reader must know before believing the figures of a run: errors, and what disturbed it."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Any

from benchdisk import SLOW_CREATE_MICROSECONDS
from benchprogress import spell
from benchreport import Results

MUCH_CLIENT = 0.9
MUCH_OTHER = 0.25  # of one processor
MUCH_IDLE = 0.05  # of one processor; one tick of a clock is 0.01 s


def remarks(results: Results) -> str:
    good = [row for row in results.rounds if row["speed"] is not None]
    lines = [f"- errors in {_name(row)}: {'; '.join(row['error_samples'])}" for row in results.rounds if row["errors"]]
    if good:
        lines += [
            _client(good),
            _disturbed(good, "somebody else worked", MUCH_OTHER, _share("other_cpu_s"), "{:.0%} of a processor"),
            _disturbed(good, "idle peers worked", MUCH_IDLE, _share("idle_peers_cpu_s"), "{:.0%} of a processor"),
            _disturbed(good, "creating a file was slow", SLOW_CREATE_MICROSECONDS, _create, "{:.0f} us of CPU"),
        ]
    took = sum(row["seconds"] for row in good)
    measured = f"{spell(took)} of it were measured; the rest is preparing, warming up and comparing."
    return "\n".join(["", measured, *(line for line in lines if line)])


def _name(row: dict[str, Any]) -> str:
    return f"{row['case']}, {row['peer']}, round {row['round']}"


def _share(figure: str) -> Callable[[dict[str, Any]], float]:
    return lambda row: float(row[figure] / row["window_s"])


def _create(row: dict[str, Any]) -> float:
    return float(row["create_us"])


def _client(rows: list[dict[str, Any]]) -> str:
    busiest = max(rows, key=lambda row: row["client_busy"])
    limited = [_name(row) for row in rows if row["client_busy"] > MUCH_CLIENT]
    text = f"- the client worked {busiest['client_busy']:.0%} of its time at most ({_name(busiest)})"
    return f"{text}; it limits {'; '.join(limited)}" if limited else text


def _disturbed(
    rows: list[dict[str, Any]], what: str, bound: float, of: Callable[[dict[str, Any]], float], form: str
) -> str:
    values = [of(row) for row in rows]
    count = sum(value > bound for value in values)
    if not count:
        return ""
    worst = max(rows, key=of)
    middle, most = form.format(median(values)), form.format(max(values))
    return f"- {what} in {count} of {len(rows)} rounds: {middle} in the median, {most} at most ({_name(worst)})"
