"""The plot for the README: each peer's speed and CPU relative to tusd, a row for each case.

Readable on light and dark pages: no background, and texts whose colour follows the reader's scheme.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import fill
from typing import Any

from benchreport import BASE_PEER, Results

INK = "#24292f"
DARK_INK = "#d1d7e0"
GRID = "#8b949e"
LOOKS = {  # colour, marker, size
    "tusd-py": ("#e3651d", "D", 70),
    "tusd-py-power": ("#e3651d", "o", 42),
    "tusd-py-uvicorn": ("#e3a01d", "o", 42),
    "tusd-py-redis": ("#e3651d", "o", 42),
    "tusd": ("#1f9ed1", "s", 42),
    "tus-node": ("#3fa34d", "o", 42),
    "tuspyserver": ("#8e6fd8", "o", 42),
    "resumable-upload": ("#c45ab3", "o", 42),
    "rustus": ("#9a6b4f", "o", 42),
}
STYLE = (
    f'<style>@media (prefers-color-scheme: dark) {{ [style*="fill: {INK}"] {{ fill: {DARK_INK} !important }} '
    f'[style*="stroke: {INK}"] {{ stroke: {DARK_INK} !important }} }}</style>'
)


def write_plot(results: Results, path: Path) -> None:
    """Raises ImportError if matplotlib is not there."""
    base = BASE_PEER if BASE_PEER in results.peers else next(iter(results.peers))
    with _drawing() as plt:
        height = 1.4 + 0.55 * len(results.cases)
        figure, axes = plt.subplots(1, 2, figsize=(9.2, height), sharey=True)
        title = results.peers[base]["title"]
        _draw(axes[0], results, base, "speed", f"speed, {title} = 1 (right is better)")
        _draw(axes[1], results, base, "cpu", f"CPU per work, {title} = 1 (left is better)")
        axes[0].set_yticks(range(len(results.cases)), [fill(case["title"], 26) for case in results.cases.values()])
        axes[0].invert_yaxis()
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="lower center", ncols=4, frameon=False)
        figure.tight_layout(rect=(0, 0.2 - 0.015 * len(results.cases), 1, 1))
        _save(figure, path)
        plt.close(figure)


def write_memory_plot(
    minutes: list[float], mebibytes: list[float], removing: list[bool], title: str, path: Path
) -> None:
    """The memory of a server over a soak, shaded while uploads are deleted. Raises ImportError without matplotlib."""
    with _drawing() as plt:
        figure, axes = plt.subplots(figsize=(7.2, 2.6))
        axes.plot(minutes, mebibytes, color=LOOKS["tusd-py"][0], linewidth=1.4)
        highest = max(mebibytes) * 1.2
        axes.fill_between(minutes, highest, where=removing, color=GRID, alpha=0.25, linewidth=0)
        axes.set_ylim(0, highest)
        axes.set_xlim(0, max(minutes))
        axes.set_xlabel("minutes (shaded: uploads are deleted)")
        axes.set_ylabel("MiB (PSS)")
        axes.set_title(title, fontsize=9)
        axes.grid(color=GRID, alpha=0.25, linewidth=0.6)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        figure.tight_layout()
        _save(figure, path)
        plt.close(figure)


@contextmanager
def _drawing() -> Iterator[Any]:
    import matplotlib as mpl

    mpl.use("svg")
    import matplotlib.pyplot as plt

    options: Any = {"svg.fonttype": "none", "font.size": 9, "font.family": "sans-serif", "svg.hashsalt": "tusd_py"}
    for name in ("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.edgecolor"):
        options[name] = INK
    with mpl.rc_context(options):
        yield plt


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, transparent=True, metadata={"Date": None, "Creator": None})
    # The reader's own font, and the colours of his scheme.
    text = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font: \1 system-ui, sans-serif", path.read_text())
    text = re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE)
    path.write_text(re.sub(r"(<svg[^>]*>)", lambda found: found[1] + STYLE, text, count=1))


def _draw(axes: Any, results: Results, base: str, figure: str, label: str) -> None:
    count = len(results.peers)
    for index, (peer, about) in enumerate(results.peers.items()):
        colour, marker, size = LOOKS[peer]
        points = [
            (value / of_base, row)
            for row, case in enumerate(results.cases)
            if (value := results.median(case, peer, figure)) and (of_base := results.median(case, base, figure))
        ]
        is_hollow = peer in ("tusd-py-power", "tusd-py-redis")
        axes.scatter(
            [ratio for ratio, _ in points],
            [row + 0.5 * (index - (count - 1) / 2) / count for _, row in points],  # side by side where they meet
            s=size,
            marker=marker,
            facecolors="none" if is_hollow else colour,
            edgecolors=colour,
            linewidths=1.4,
            label=about["title"].replace("`", ""),
            zorder=4 if peer == "tusd-py" else 3,
        )
    axes.set_xscale("log")
    axes.axvline(1, color=GRID, linewidth=1)
    axes.grid(axis="x", color=GRID, alpha=0.25, linewidth=0.6)
    axes.grid(axis="y", color=GRID, alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
    low, high = axes.get_xlim()
    steps = (1,) if high / low > 300 else (1, 2, 5)
    axes.set_xticks([step * 10**power for power in range(-3, 4) for step in steps])
    axes.set_xlim(low, high)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
    axes.set_title(label, fontsize=9)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)
