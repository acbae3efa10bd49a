"""How the numbers are shown: families of prometheus-client, in the text format or OpenMetrics, as the asker prefers.

tusd's counters without `_total` in their names have no type in OpenMetrics, where no counter may be called that; under
another name no dashboard would find them. What Prometheus computes of them is the same.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator

from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, InfoMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from tusd_py import __version__
from tusd_py.metrics.catalogue import (
    ERRORS,
    FAMILIES,
    JOB_OLDEST_SECONDS,
    JOB_STATES,
    JOBS,
    TICKS_PER_SECOND,
    Family,
    Jobs,
    Kind,
)
from tusd_py.metrics.cells import Worker
from tusd_py.metrics.folder import Snapshot

_TUSDS_COUNTERS = frozenset(
    family.name for family in FAMILIES if family.kind is Kind.COUNTER and not family.name.endswith("_total")
)


def expose(snapshot: Snapshot, accept: str, jobs: Jobs | None = None) -> tuple[bytes, str]:
    """The numbers as who sent this Accept header wants them, and their content type."""
    collector = Exposition(snapshot, jobs)
    try:
        encode, content_type = choose_encoder(accept)
        content = encode(collector)
    except (TypeError, ValueError):  # a version that is no number
        encode, content_type = choose_encoder("")
        content = encode(collector)
    if content_type.startswith("text/plain"):
        for name in _TUSDS_COUNTERS:  # prometheus-client would add _total to them
            content = content.replace(f"# TYPE {name} untyped\n".encode(), f"# TYPE {name} counter\n".encode())
    return content, content_type


class Exposition(Collector):
    """A snapshot as a collector of prometheus-client, for whoever has a registry of his own."""

    def __init__(self, snapshot: Snapshot, jobs: Jobs | None = None) -> None:
        self._snapshot = snapshot
        self._jobs = jobs

    def collect(self) -> Iterator[Metric]:
        for family in FAMILIES:
            yield _metric(family, self._snapshot.values)
        if self._jobs is not None:
            yield from _owed(self._jobs)
        workers = {worker.pid: worker for worker in self._snapshot.workers}.values()  # one may run several apps
        yield _single("tusd_py_workers", "Processes that serve now.", "gauge", float(len(workers)))
        yield InfoMetricFamily(
            "tusd_py_build",
            "What serves here.",
            value={"version": __version__, "python": platform.python_version()},
        )
        yield from _processes(workers)


def _metric(family: Family, values: list[float]) -> Metric:
    if family.kind is Kind.HISTOGRAM:
        return _histogram(family, values)
    is_tusds_counter = family.name in _TUSDS_COUNTERS
    metric: Metric
    if family.kind is Kind.COUNTER and not is_tusds_counter:
        metric = CounterMetricFamily(family.name, family.text, labels=family.labels)
    else:
        metric = Metric(family.name, family.text, "unknown" if is_tusds_counter else "gauge")
    for number, row in enumerate(family.rows):
        value = values[family.start + number]
        if value or family is not ERRORS:  # of the pairs of status and code few ever meet
            metric.add_sample(family.name, dict(zip(family.labels, row, strict=True)), value)
    return metric


def _histogram(family: Family, values: list[float]) -> Metric:
    metric = HistogramMetricFamily(family.name, family.text, labels=family.labels)
    bounds = [*(str(bound) for bound in family.bounds), "+Inf"]
    for number, row in enumerate(family.rows):
        start = family.start + number * family.width
        count, buckets = 0.0, []
        for cell, bound in enumerate(bounds, start):
            count += values[cell]
            buckets.append((bound, count))
        metric.add_metric(row, buckets, values[start + family.width - 1] / TICKS_PER_SECOND)
    return metric


def _owed(jobs: Jobs) -> Iterator[Metric]:
    metric = Metric(JOBS, "Jobs for hooks in the queue, by state: of all who share it, so not to be added up.", "gauge")
    for state in JOB_STATES:
        metric.add_sample(JOBS, {"state": state}, float(jobs.counts.get(state, 0)))
    yield metric
    text = "For how long the job that is due for longest could have been run; 0 if none is due."
    yield _single(JOB_OLDEST_SECONDS, text, "gauge", jobs.oldest_seconds)


def _single(name: str, text: str, kind: str, value: float) -> Metric:
    metric = Metric(name, text, kind)
    metric.add_sample(name, {}, value)
    return metric


def _processes(workers: Iterable[Worker]) -> Iterator[Metric]:
    """prometheus-client's figures of a process, of each worker. Where there is no /proc there are none."""
    families: dict[str, Metric] = {}
    for worker in workers:
        labels = {"worker": str(worker.slot), "pid": str(worker.pid)}
        for metric in ProcessCollector(pid=lambda worker=worker: worker.pid, registry=None).collect():  # type: ignore[misc]
            family = families.setdefault(metric.name, Metric(metric.name, metric.documentation, metric.type))
            for sample in metric.samples:
                family.add_sample(sample.name, labels, sample.value)
    yield from families.values()
