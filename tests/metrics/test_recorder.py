"""What is told is counted, in the right cells, and nothing that clients say makes new ones."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.metrics.parsed import samples
from tusd_py.core.observer import NOBODY, Observer
from tusd_py.metrics import Metrics, catalogue

PACKAGE = Path(__file__).parents[2] / "tusd_py"


def shown(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample of the exposition, parsed by prometheus-client."""
    body, _ = metrics.expose("")
    return {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for sample in samples(body.decode())}


def sample(metrics: Metrics, name: str, **labels: str) -> float:
    return shown(metrics)[name, tuple(sorted(labels.items()))]


@pytest.fixture(params=["alone", "shared"])
def metrics(request: pytest.FixtureRequest, tmp_path: Path) -> Metrics:
    return Metrics() if request.param == "alone" else Metrics(str(tmp_path))


def test_it_is_the_observer_of_the_core(metrics: Metrics) -> None:
    observer: Observer = metrics
    for each in (observer, NOBODY):
        each.body_started()
        each.bytes_received(1)
        each.body_ended(0.0, 0.0)


def test_requests(metrics: Metrics) -> None:
    metrics.request_ended("PATCH", 204, None, 0.25)
    metrics.request_ended("PATCH", 409, "ERR_MISMATCHED_OFFSET", 0.5)
    metrics.request_ended("BREW", 405, "ERR_METHOD_NOT_ALLOWED", 0.0)
    assert sample(metrics, "tusd_requests_total", method="PATCH") == 2
    assert sample(metrics, "tusd_requests_total", method="other") == 1
    assert sample(metrics, "tusd_requests_total", method="HEAD") == 0
    assert sample(metrics, "tusd_errors_total", status="409", code="ERR_MISMATCHED_OFFSET") == 1
    name = "tusd_py_request_duration_seconds"
    assert sample(metrics, name + "_sum", method="PATCH") == 0.75
    assert sample(metrics, name + "_count", method="PATCH") == 2
    assert sample(metrics, name + "_bucket", method="PATCH", le="0.1") == 0
    assert sample(metrics, name + "_bucket", method="PATCH", le="0.25") == 1  # a bound is part of its bucket
    assert sample(metrics, name + "_bucket", method="PATCH", le="+Inf") == 2


def test_errors_are_shown_when_there_were_some(metrics: Metrics) -> None:
    metrics.request_ended("GET", 404, "ERR_UPLOAD_NOT_FOUND", 0.001)
    errors = [labels for name, labels in shown(metrics) if name == "tusd_errors_total"]
    assert errors == [(("code", "ERR_UPLOAD_NOT_FOUND"), ("status", "404"))]


def test_bodies(metrics: Metrics) -> None:
    metrics.body_started()
    metrics.body_started()
    assert sample(metrics, "tusd_py_bodies_open") == 2
    metrics.bytes_received(1000)
    metrics.bytes_received(24)
    metrics.body_ended(2.0, 0.003)
    assert sample(metrics, "tusd_py_bodies_open") == 1
    assert sample(metrics, "tusd_bytes_received") == 1024
    assert sample(metrics, "tusd_py_body_client_duration_seconds_sum") == 2.0
    assert sample(metrics, "tusd_py_body_store_duration_seconds_bucket", le="0.0025") == 0
    assert sample(metrics, "tusd_py_body_store_duration_seconds_bucket", le="0.005") == 1


def test_uploads_locks_connections_and_interruptions(metrics: Metrics) -> None:
    for tell, name in (
        (metrics.upload_created, "tusd_uploads_created"),
        (metrics.upload_finished, "tusd_uploads_finished"),
        (metrics.upload_terminated, "tusd_uploads_terminated"),
        (metrics.upload_expired, "tusd_py_uploads_expired_total"),
        (metrics.connection_opened, "tusd_connections_open"),
    ):
        before = shown(metrics)
        tell()
        after = shown(metrics)
        changed = {key: after[key] - before[key] for key in before if not key[0].startswith("process_")}
        assert {key: value for key, value in changed.items() if value} == {(name, ()): 1.0}
    metrics.connection_closed()
    assert sample(metrics, "tusd_connections_open") == 0
    metrics.refused(503, "ERR_TOO_MANY_CONNECTIONS")
    assert sample(metrics, "tusd_errors_total", status="503", code="ERR_TOO_MANY_CONNECTIONS") == 1
    for code, reason in catalogue.REASONS.items():
        metrics.interrupted(code)
        assert sample(metrics, "tusd_py_interruptions_total", reason=reason) == 1
    metrics.interrupted("ERR_SOMETHING_NEW")
    assert sample(metrics, "tusd_py_interruptions_total", reason="other") == 2
    metrics.lock_waited(0.75)
    assert sample(metrics, "tusd_py_lock_wait_duration_seconds_sum") == 0.75


def test_a_rounding_below_zero_does_not_make_a_sum_go_down(metrics: Metrics) -> None:
    metrics.body_ended(-1e-9, 0.0)
    metrics.lock_waited(-0.001)
    assert sample(metrics, "tusd_py_body_client_duration_seconds_sum") == 0
    assert sample(metrics, "tusd_py_lock_wait_duration_seconds_sum") == 0
    assert sample(metrics, "tusd_py_lock_wait_duration_seconds_count") == 1


@given(
    st.lists(
        st.tuples(
            st.text(max_size=8) | st.sampled_from(catalogue.METHODS),
            st.integers(100, 999),
            st.none() | st.text(max_size=12) | st.sampled_from(catalogue.CODES),
            st.floats(0, 1e6),
        ),
        max_size=20,
    )
)
def test_no_client_can_make_a_series(asked: list[tuple[str, int, str | None, float]]) -> None:
    metrics = Metrics()
    for each in asked:
        metrics.request_ended(*each)
        metrics.interrupted(each[2] or "")
    seen = shown(metrics)
    methods = {dict(labels)["method"] for name, labels in seen if name == "tusd_requests_total"}
    assert methods == set(catalogue.METHODS)
    assert sum(value for (name, _), value in seen.items() if name == "tusd_requests_total") == len(asked)
    errors = {labels: value for (name, labels), value in seen.items() if name == "tusd_errors_total"}
    assert sum(errors.values()) == sum(status >= 400 for _, status, _, _ in asked)
    for labels in map(dict, errors):
        assert labels["status"] in catalogue.STATUSES
        assert labels["code"] in catalogue.CODES
    for method in catalogue.METHODS:
        key = (("method", method),)
        assert seen["tusd_py_request_duration_seconds_count", key] == seen["tusd_requests_total", key]


def test_every_code_of_the_house_has_its_series() -> None:
    text = "\n".join(path.read_text() for path in PACKAGE.rglob("*.py") if path.parent.name != "metrics")
    codes = set(re.findall(r'"(ERR_[A-Z_]+[A-Z])"', text))
    assert codes <= set(catalogue.CODES)
    assert set(catalogue.CODES) - {catalogue.OTHER} <= codes, "no code of the past"
    assert set(catalogue.REASONS) <= set(catalogue.CODES)


def test_every_status_of_an_error_has_its_series() -> None:
    text = "\n".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    statuses = set(re.findall(r"\bstatus(?:: int)? ?= ?([45]\d\d)\b", text))
    assert statuses
    assert statuses <= set(catalogue.STATUSES)


def test_cells_do_not_overlap() -> None:
    used = [cell for family in catalogue.FAMILIES for cell in range(family.start, family.end)]
    assert used == list(range(catalogue.CELLS))
    for family in catalogue.FAMILIES:
        assert list(family.bounds) == sorted(set(family.bounds))


def test_after_the_end_nothing_counts_and_nothing_breaks(tmp_path: Path) -> None:
    metrics = Metrics(str(tmp_path))
    metrics.upload_created()
    metrics.body_started()
    metrics.close()
    metrics.close()
    metrics.upload_created()
    metrics.body_ended(0.1, 0.1)
    other = Metrics(str(tmp_path))
    assert sample(other, "tusd_uploads_created") == 1
    assert sample(other, "tusd_py_bodies_open") == 0


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", "text/plain; version=0.0.4"),
        ("*/*", "text/plain; version=0.0.4"),
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", "application/openmetrics-text; version=1.0.0"),
        ("application/openmetrics-text; version=none", ""),
        ("text/plain; version=.", ""),
    ],
)
def test_the_asker_chooses_the_format(accept: str, expected: str) -> None:
    body, content_type = Metrics().expose(accept)
    assert content_type.startswith(expected)
    assert b"tusd_requests_total{" in body
    assert body.endswith(b"# EOF\n") == content_type.startswith("application/openmetrics-text")


def test_openmetrics_is_valid() -> None:
    from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse

    metrics = Metrics()
    metrics.request_ended("PATCH", 423, "ERR_UPLOAD_LOCKED", 0.1)
    body, _ = metrics.expose("application/openmetrics-text; version=1.0.0")
    names = {family.name for family in parse(body.decode())}
    assert {"tusd_requests", "tusd_bytes_received", "tusd_uploads_created", "tusd_py_build"} <= names


def test_jobs_are_shown_as_the_queue_says_and_not_at_all_when_it_says_nothing() -> None:
    metrics = Metrics()
    jobs = catalogue.Jobs({"waiting": 3, "dead": 2, "done": 9}, 1.5)
    found = {
        tuple(each.labels.values()): each.value
        for each in samples(metrics.expose("", jobs)[0].decode())
        if "_job" in each.name
    }
    assert found == {("waiting",): 3, ("running",): 0, ("dead",): 2, (): 1.5}
    assert b"tusd_py_job" not in metrics.expose("")[0]


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="missing: /proc")
def test_the_process_is_shown(metrics: Metrics) -> None:
    labels = {"worker": "0", "pid": str(os.getpid())}
    assert sample(metrics, "process_resident_memory_bytes", **labels) > 1e6
    assert sample(metrics, "process_cpu_seconds_total", **labels) > 0
    assert sample(metrics, "tusd_py_workers") == 1
