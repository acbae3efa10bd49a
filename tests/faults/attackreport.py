"""What attacks cost the healthy client beside them and the server, as a table: in the terminal at the end of a run, and
as attacks.json and attacks.md in the folder that the environment variable ATTACK_REPORT names.

How it is measured is left to `attackscene`. Times are in seconds here, and in milliseconds where they are shown.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "benchmark"))

from benchmachine import describe_machine, now

FACTOR = 2.0
# A round of the healthy client is four requests, and on a machine with more to do than processors each side waits for
# the other's slice of the scheduler (3 ms) once, whoever is to blame.
FLOOR_SECONDS = 0.006


@dataclass(frozen=True)
class Pair:
    """A quiet time and the attack right after it: the healthy client's p95 in both, its worst round under attack."""

    quiet: float
    attacked: float
    worst: float

    @property
    def is_borne(self) -> bool:
        return self.attacked <= FACTOR * self.quiet + FLOOR_SECONDS

    def __str__(self) -> str:
        return f"{1e3 * self.quiet:.1f} -> {1e3 * self.attacked:.1f} ms{'' if self.is_borne else ' (too slow)'}"


@dataclass(frozen=True)
class Outcome:
    """A row of the table. `processor` is the server's share of one core during the attack, `pss_mib` its memory before,
    at most and after."""

    name: str
    pairs: list[Pair]
    processor: float
    pss_mib: tuple[float, float, float]

    @property
    def middle(self) -> Pair:
        return middle(self.pairs)

    def cells(self) -> list[str]:
        return [
            self.name,
            f"{1e3 * self.middle.quiet:.1f}",
            f"{1e3 * self.middle.attacked:.1f}",
            f"{1e3 * self.middle.worst:.0f}",
            f"{sum(pair.is_borne for pair in self.pairs)}/{len(self.pairs)}",
            f"{100 * self.processor:.0f}%",
            *(f"{mib:.1f}" for mib in self.pss_mib),
        ]


HEADING = ["attack", "p95 quiet", "attacked", "worst ms", "pairs", "CPU", "PSS MiB", "peak", "after"]
OUTCOMES: list[Outcome] = []


def middle(pairs: list[Pair]) -> Pair:
    """The medians, and the worst of all."""
    quiet, attacked = (median(getattr(pair, name) for pair in pairs) for name in ("quiet", "attacked"))
    return Pair(quiet, attacked, max(pair.worst for pair in pairs))


def is_borne(pairs: list[Pair]) -> bool:
    """Noise of the machine comes and goes; a server that suffers does so in every pair. (Where no pair is within the
    bound, neither are the medians.)"""
    return any(pair.is_borne for pair in pairs)


def lines(outcomes: list[Outcome]) -> list[str]:
    rows = [HEADING, *(outcome.cells() for outcome in outcomes)]
    return ["".join([f"{name:34}", *(f"{cell:>10}" for cell in cells)]) for name, *cells in rows]


def write(folder: Path, outcomes: list[Outcome]) -> None:
    """attacks.json and attacks.md."""
    folder.mkdir(parents=True, exist_ok=True)
    machine = describe_machine(folder, clients=1)
    date = now()
    (folder / "attacks.json").write_text(
        json.dumps({"date": date, "machine": machine, "attacks": [_row(each) for each in outcomes]}, indent=1) + "\n"
    )
    heading = ["attack", "p95 ms, quiet", "p95 ms, attacked", "worst ms", "pairs within bound", "CPU of one core"]
    heading += ["MiB (PSS) before", "at most", "after"]
    about = (
        f"Measured {date} on {machine['cores']} cores ({machine['cpu']}): two workers, the attackers and a healthy"
        f" client that creates, fills, asks for and reads an upload of 64 KiB, 50 times a second. Its p95 may be twice"
        f" the quiet one and {1e3 * FLOOR_SECONDS:g} ms. Medians over pairs of a quiet time and an attack right after."
    )
    text = [
        about,
        "",
        f"| {' | '.join(heading)} |",
        f"|---|{'--:|' * (len(heading) - 1)}",
        *(f"| {' | '.join(outcome.cells())} |" for outcome in outcomes),
    ]
    (folder / "attacks.md").write_text("\n".join(text) + "\n")


def _row(outcome: Outcome) -> dict[str, Any]:
    def in_ms(pair: Pair) -> dict[str, float]:
        return {f"{name}_ms": round(1e3 * seconds, 2) for name, seconds in vars(pair).items()}

    before, peak, after = (round(mib, 1) for mib in outcome.pss_mib)
    return {
        "name": outcome.name,
        "median": in_ms(outcome.middle),
        "pairs": [in_ms(pair) for pair in outcome.pairs],
        "processor": round(outcome.processor, 3),
        "pss_mib": {"before": before, "peak": peak, "after": after},
    }
