"""The dashboard and the alert rules ask for what is really shown: every name, with every label."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.metrics.parsed import samples
from tusd_py.metrics import Metrics, catalogue

FOLDER = Path(__file__).parents[2] / "deploy" / "grafana"
DASHBOARD = json.loads((FOLDER / "tusd-py.json").read_text())
ALERTS = (FOLDER / "alerts.yaml").read_text()

# What Prometheus adds to every sample.
SCRAPED = {"job", "instance"}
KEYWORDS = {"by", "without", "and", "or", "unless", "on", "ignoring", "group_left", "group_right", "offset", "bool"}
FUNCTIONS = {
    "sum", "max", "count", "rate", "increase", "histogram_quantile", "clamp_min", "vector", "time", "count_over_time",
    "max_over_time",
}  # fmt: skip


@pytest.fixture(scope="module")
def exposed() -> dict[str, set[str]]:
    """Names of samples and their labels, with an error among them."""
    metrics = Metrics()
    metrics.request_ended("PATCH", 500, "ERR_INTERNAL_SERVER_ERROR", 0.1)
    labels: dict[str, set[str]] = {}
    jobs = catalogue.Jobs(dict.fromkeys(catalogue.JOB_STATES, 0), 0.0)
    for sample in samples(metrics.expose("", jobs)[0].decode()):
        labels.setdefault(sample.name, set()).update(sample.labels)
    return labels


def _panels() -> Iterator[dict[str, Any]]:
    for panel in DASHBOARD["panels"]:
        yield panel
        yield from panel.get("panels", ())


def _dashboard_expressions() -> list[tuple[str, str]]:
    found = [
        (f"{panel['title']}-{target['refId']}", target["expr"])
        for panel in _panels()
        for target in panel.get("targets", ())
    ]
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            inner = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
            assert inner is not None
            found.append((f"${variable['name']}", f"sum by ({inner[2]}) ({inner[1]})"))
    return found


def _alert_expressions() -> list[tuple[str, str]]:
    rules = re.split(r"- alert: ", ALERTS)[1:]
    found = []
    for rule in rules:
        match = re.search(r"expr: (?:>-\n)?(.*?)\n        (?:for|labels):", rule, re.DOTALL)
        assert match is not None
        found.append((rule.split("\n")[0], " ".join(match[1].split())))
    return found


EXPRESSIONS = _dashboard_expressions() + _alert_expressions()


def selectors(expression: str) -> Iterator[tuple[str, set[str]]]:
    """Each metric in a PromQL expression, and the labels in its braces. Fails on a word it does not know."""
    rest = re.sub(r"\[[^\]]*\]", "", expression)
    rest = re.sub(r"\b(?:by|without|on) \([^)]*\)", "", rest)
    for match in re.finditer(r"([a-zA-Z_:][\w:]*)(\{[^}]*\})?(\s*\()?|\"[^\"]*\"|\d[\d.e+-]*", rest):
        name, braces, call = match.groups()
        if name is None or name in KEYWORDS:
            continue
        if call:
            assert name in FUNCTIONS, name
            continue
        yield name, set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", braces or ""))


def grouped_by(expression: str) -> set[str]:
    return {label.strip() for group in re.findall(r"\bby \(([^)]*)\)", expression) for label in group.split(",")}


@pytest.mark.parametrize(("title", "expression"), EXPRESSIONS, ids=[title for title, _ in EXPRESSIONS])
def test_every_expression_asks_for_what_is_shown(title: str, expression: str, exposed: dict[str, set[str]]) -> None:
    used = list(selectors(expression))
    assert used, "it asks for something"
    known = set(SCRAPED)
    for name, labels in used:
        assert name in exposed
        assert labels <= exposed[name] | SCRAPED
        known |= exposed[name]
    assert grouped_by(expression) <= known
    assert expression.count("(") == expression.count(")")
    assert expression.count("{") == expression.count("}")


@pytest.mark.parametrize(("title", "expression"), EXPRESSIONS, ids=[title for title, _ in EXPRESSIONS])
def test_every_value_asked_for_can_occur(title: str, expression: str) -> None:
    values = {
        "method": set(catalogue.METHODS),
        "status": set(catalogue.STATUSES),
        "code": set(catalogue.CODES),
        "reason": set(catalogue.REASONS.values()),
        "state": set(catalogue.JOB_STATES),
    }
    for label, operator, value in re.findall(r'(\w+)(=~|!~|!=|=)"([^"]*)"', expression):
        if label in values and operator in ("=", "!="):
            assert value in values[label]
        elif label in values:
            assert any(re.fullmatch(value, each) for each in values[label])


def test_the_check_finds_mistakes() -> None:
    assert list(selectors('sum by (le) (rate(a_total{x="1",y=~"2"}[5m])) / b')) == [
        ("a_total", {"x", "y"}),
        ("b", set()),
    ]
    with pytest.raises(AssertionError):
        list(selectors("summ(a_total)"))


def test_all_metrics_have_their_place(exposed: dict[str, set[str]]) -> None:
    shown = {name for title, expression in _dashboard_expressions() for name, _ in selectors(expression)}
    for wanted in [*(family.name for family in catalogue.FAMILIES), catalogue.JOBS, catalogue.JOB_OLDEST_SECONDS]:
        assert any(name.startswith(wanted) for name in shown), wanted


def test_legends_use_labels_that_are_left() -> None:
    for panel in _panels():
        for target in panel.get("targets", ()):
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= grouped_by(target["expr"])


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not taken & cells, panel["title"]
        taken |= cells
    ids = [panel["id"] for panel in _panels()]
    assert len(ids) == len(set(ids))


def test_every_panel_asks_the_chosen_source() -> None:
    for panel in _panels():
        if panel["type"] != "row":
            assert panel["datasource"]["uid"] == "${datasource}"
            assert panel["targets"]
            assert all('job=~"$job",instance=~"$instance"' in target["expr"] for target in panel["targets"])
