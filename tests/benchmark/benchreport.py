"""Results kept as JSON, and what is made of them in words: the tables, and the section of docs/performance.md."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

SECTION = re.compile(r"(<!-- benchmark -->\n).*?(<!-- /benchmark -->)", re.DOTALL)
BASE_PEER = "tusd"


@dataclass
class Results:
    """One run. `rounds` has a row of figures for each case, peer and round; see `benchmeasure`.

    `calls` to S3 are by peer and piece of work; see `benchcalls`.
    """

    date: str
    machine: dict[str, Any]
    options: dict[str, Any]
    cases: dict[str, dict[str, str]]
    peers: dict[str, dict[str, Any]]
    left_out: dict[str, str]
    rounds: list[dict[str, Any]]
    calls: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)

    @property
    def storage(self) -> str:
        """The kind of S3 server; empty: a disk."""
        return str(self.options.get("storage", ""))

    @classmethod
    def read(cls, path: Path) -> Results:
        return cls(**json.loads(path.read_text()))

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    def values(self, case: str, peer: str, figure: str) -> list[float]:
        """A figure of all rounds that worked; `p95` and its like are of the case's main request."""
        rows = [row for row in self.rounds if (row["case"], row["peer"]) == (case, peer) and row.get("speed")]
        if figure in ("p50", "p95", "p99"):
            kind = self.cases[case]["kind"]
            return [row["latency_ms"][kind][figure] for row in rows if kind in row["latency_ms"]]
        return [row[figure] for row in rows if row[figure] is not None]

    def median(self, case: str, peer: str, figure: str) -> float | None:
        values = self.values(case, peer, figure)
        return median(values) if values else None

    def errors(self, case: str, peer: str) -> int:
        return sum(row["errors"] for row in self.rounds if (row["case"], row["peer"]) == (case, peer))


def number(value: float) -> str:
    """Three digits are known; more would pretend."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _cell(results: Results, case: str, peer: str, figure: str) -> str:
    values = results.values(case, peer, figure)
    errors = results.errors(case, peer)
    failed = f" ({errors:,} errors)" if errors and figure == "speed" else ""
    if not values:
        return f"-{failed}"
    middle = median(values)
    spread = (max(values) - min(values)) / 2 / middle if middle else 0
    text = f"{number(middle)} ±{spread:.0%}" if len(values) > 1 else number(middle)
    return f"**{text}**{failed}" if peer == "tusd-py" else text + failed


def _table(results: Results, corner: str, unit: str, cell: Callable[[str, str], str]) -> list[str]:
    """A row for each peer; `cell` is asked for case and peer. What `unit` names is under each case's title."""
    head = [corner]
    for case in results.cases.values():
        head.append(case["title"] + (f"<br>{case[unit]}" if unit else ""))
    lines = [f"| {' | '.join(head)} |", f"|---|{'--:|' * len(results.cases)}"]
    for peer, about in results.peers.items():
        cells = [cell(case, peer) or "-" for case in results.cases]
        lines.append(f"| {about['title']} | {' | '.join(cells)} |")
    return lines


def _median_table(results: Results, corner: str, figure: str, unit: str = "") -> list[str]:
    return _table(results, corner, unit, lambda case, peer: _cell(results, case, peer, figure))


def _latency_table(results: Results) -> list[str]:
    def cell(case: str, peer: str) -> str:
        three = [results.median(case, peer, figure) for figure in ("p50", "p95", "p99")]
        return " / ".join(number(each) for each in three if each is not None)

    return _table(results, "latency", "kind", cell)


def _fastest_table(results: Results) -> list[str]:
    def cell(case: str, peer: str) -> str:
        speeds = results.values(case, peer, "speed")
        return number(max(speeds)) if speeds else ""

    return _table(results, "fastest round", "unit", cell)


def _storage_tables(results: Results) -> list[str]:
    return [
        *_median_table(results, "CPU of the S3 server for it", "storage_cpu", "cpu_unit"),
        "",
        *_median_table(results, "peak memory of all processes, MiB (RSS)", "peak_rss_mib"),
        "",
    ]


def tables(results: Results) -> str:
    machine = results.machine
    rounds = results.options["rounds"]
    storage = results.options.get("storage_version", "")
    lines = [
        f"Measured {results.date} on {machine['cores']} cores ({machine['cpu']}, {machine['memory_gib']} GiB,"
        f" Linux {machine['kernel']}, {machine['file_system']}), client on the same cores."
        f" Medians of {rounds} rounds, ± half the range."
        + ("" if results.options["scale"] == 1 else f" Loads were scaled by {results.options['scale']:g}.")
        + (f" All store in {storage}, on the same cores and disk." if storage else ""),
        "",
        *_median_table(results, "speed (more is better)", "speed", "unit"),
        "",
        *_median_table(results, "CPU of the server (less is better)", "cpu", "cpu_unit"),
        "",
        *(_storage_tables(results) if results.storage else ()),
        *_median_table(results, "peak memory of all processes, MiB (PSS)", "peak_pss_mib"),
        "",
        "<details><summary>Latencies, versions and settings</summary>",
        "",
        "Milliseconds, p50 / p95 / p99, as the client sees them:",
        "",
        *_latency_table(results),
        "",
        "Each one's fastest round, since what a shared machine takes away it takes at random:",
        "",
        *_fastest_table(results),
        "",
        *(
            f"- {about['title']}: {about['version']}{'; ' + about['note'] if about['note'] else ''}"
            for about in results.peers.values()
        ),
        *(f"- left out: {name} ({reason})" for name, reason in results.left_out.items()),
        "",
        "</details>",
        "",
    ]
    return "\n".join(lines)


def write_page(results: Results, page: Path, folder: Path) -> None:
    """Put plot and tables between the markers `<!-- benchmark -->` and `<!-- /benchmark -->`."""
    text = page.read_text()
    plot = os.path.relpath(folder / "plot.svg", page.parent)
    section = f"\n![speed and CPU relative to tusd]({plot})\n\n{tables(results)}\n"
    if not SECTION.search(text):
        raise SystemExit(f"{page} has no line <!-- benchmark --> with a <!-- /benchmark --> after it")
    page.write_text(SECTION.sub(lambda found: found[1] + section + found[2], text, count=1))
