"""What we want to reach, beside the figures of a run: on disk, and in S3."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchcases import MIB, WORKS
from benchreport import BASE_PEER, Results, number
from benchs3peers import OUR_MEMORY_MIB

OURS = "tusd-py"
PLAIN = "tusd-py-uvicorn"
POWER = "tusd-py-power"
SHARED = "tusd-py-redis"
INTERPRETER_MIB = 80.0


@dataclass(frozen=True)
class Goal:
    """`figure` of `ours` over that of `peer` (or plain, memory per worker, without one) is at least or at most `bound`.

    `calls` is the figure of a piece of work, all others are of a case.
    """

    case: str
    figure: str
    ours: str
    peer: str
    is_least: bool
    bound: float

    @property
    def is_per_worker(self) -> bool:
        return not self.peer and self.figure.startswith("peak")

    @property
    def wanted(self) -> str:
        figure = {"p95": "PATCH p95", "calls": "calls to S3"}.get(self.figure, self.figure)
        of = f" of {self.peer}" if self.peer else " MiB a worker" if self.is_per_worker else ""
        bound = f"{self.bound:g}" if self.is_per_worker or self.figure == "calls" else number(self.bound)
        return f"{self.ours}: {figure} {'≥' if self.is_least else '≤'} {bound}{of}"


def _least(case: str, **peers: float) -> list[Goal]:
    return [Goal(case, "speed", OURS, peer.replace("_", "-"), True, bound) for peer, bound in peers.items()]


def _most(case: str, figure: str, bound: float, peer: str = BASE_PEER) -> Goal:
    return Goal(case, figure, OURS, peer, False, bound)


_CASE_NAMES = ("one", "chunks", "small", "cwu", "many", "head")
GOALS = [
    *_least("one", tusd=1.6, tus_node=2.5),
    _most("one", "cpu", 0.6),
    *_least("chunks", tusd=1.6, tus_node=2.5),
    _most("chunks", "cpu", 0.6),
    *_least("small", tusd=1.2, rustus=1.0, tus_node=3.0),
    _most("small", "cpu", 0.8),
    *_least("cwu", tusd=1.4, rustus=0.9, tus_node=3.5),
    *_least("many", tusd=1.2, rustus=1.2, tus_node=2.3),
    _most("many", "p95", 0.3),
    _most("many", "peak_pss_mib", 70.0, peer=""),
    *_least("head", tusd=60.0, tuspyserver=2.5, rustus=0.6),
    *(Goal(case, "speed", PLAIN, "tuspyserver", True, 1.0) for case in _CASE_NAMES),
    *(Goal(case, "speed", POWER, BASE_PEER, True, 0.7) for case in _CASE_NAMES),
]

_S3_GOALS = [
    *_least("small", tusd=2.0, tus_node=4.0),
    *_least("many", tusd=1.5),
    _most("many", "peak_rss_mib", OUR_MEMORY_MIB + INTERPRETER_MIB, peer=""),
    _most("patches", "calls", 75, peer=""),
    _most("small", "calls", 3, peer=""),
    _most("cwu", "calls", 2, peer=""),
    *(Goal(work, "calls", SHARED, "", False, 0) for work in ("head", "head-finished")),
    *(_most(work, "calls", 2, peer="") for work in ("head-cold", "head-finished-cold")),
]
S3_GOALS = {
    "minio": [
        *_least("one", tusd=1.5, tus_node=2.3),
        _most("one", "cpu", 0.3),
        _most("one", "cpu", 0.8, peer=""),
        *_least("chunks", tusd=1.5),
        *_S3_GOALS,
    ],
    "versitygw": [*_least("one", tusd=1.3), *_S3_GOALS],
}


def goals_of(results: Results) -> list[Goal]:
    return S3_GOALS.get(results.storage, []) if results.storage else GOALS


def check_goal(results: Results, goal: Goal) -> tuple[float, bool] | None:
    """What was reached, and whether that is enough; None if a figure is not there."""
    reached = _figure(results, goal, goal.ours)
    if reached is None:
        return None
    if goal.peer:
        theirs = _figure(results, goal, goal.peer)
        if not theirs:
            return None
        reached /= theirs
    elif goal.is_per_worker:
        reached /= results.peers[goal.ours]["workers"]
    return reached, reached >= goal.bound if goal.is_least else reached <= goal.bound


def _figure(results: Results, goal: Goal, peer: str) -> float | None:
    if goal.figure == "calls":
        count = results.calls.get(peer, {}).get(goal.case)
        return sum(count["calls"].values()) if count and "calls" in count else None
    return results.median(goal.case, peer, goal.figure) if goal.case in results.cases else None


def targets_table(results: Results) -> str:
    lines = ["| work | wanted | reached | |", "|---|---|--:|---|"]
    for goal in goals_of(results):
        if (checked := check_goal(results, goal)) is not None:
            reached, is_met = checked
            told = f"{reached:g}" if goal.figure == "calls" else number(reached)
            lines.append(f"| {goal.case} | {goal.wanted} | {told} | {'yes' if is_met else 'NO'} |")
    if len(lines) == 2:
        return "No target can be judged: all of them compare two peers, or need a case that was left out.\n"
    return "\n".join([*lines, ""])


def calls_table(results: Results) -> str:
    """A row for each piece of work, a column for each peer."""
    wanted = {goal.case: goal.bound for goal in goals_of(results) if goal.figure == "calls"}
    titles = [about["title"] for about in results.peers.values()]
    lines = [
        f"| calls to S3, and what is sent to it | {' | '.join(titles)} | wanted |",
        f"|---|{'---|' * len(titles)}--:|",
    ]
    for name, title in WORKS.items():
        cells = [_cell(results.calls.get(peer, {}).get(name)) for peer in results.peers]
        lines.append(f"| {title} | {' | '.join(cells)} | {f'≤ {wanted[name]:g}' if name in wanted else ''} |")
    return "\n".join([*lines, ""])


def _cell(count: dict[str, Any] | None) -> str:
    if count is None or "refused" in count:
        return f"- ({count['refused']})" if count else "-"
    calls = sorted(count["calls"].items(), key=lambda each: -each[1])
    sent = f", {count['sent_bytes'] / MIB:.0f} MiB" if count["sent_bytes"] >= MIB else ""
    return f"**{sum(count['calls'].values())}**{sent}<br>" + ", ".join(f"{times} {name}" for name, times in calls)
