"""One round of one case on one server, with the traps of shared virtual machines kept outside the clock."""

from __future__ import annotations

import time
from array import array
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchcases import GIB, MIB, Case
from benchdisk import create_microseconds, prepare_machine
from benchload import Load, Outcome, run_load, shrink
from benchserver import Server
from benchwatch import MemorySampler, cpu_seconds, machine_cpu_seconds

WARM_UP_SHARE = 0.1  # of a bulk load
WARM_UP_SECONDS_SHARE = 0.3
SETTLE_SECONDS = 0.05
HEADS_EACH_LEAST = 50


class Measurer:
    """Measures rounds; keeps the numbers of uploads apart, so that no upload has the bytes of another.

    Where servers store in S3, `storage_pid` is who works for them, and each upload of a first round is compared.
    """

    def __init__(self, folder: Path, client_processes: int, storage_pid: int | None = None) -> None:
        self._folder = folder
        self._client_processes = client_processes
        self._storage_pid = storage_pid
        self._next_number = 0
        self._heads_each: dict[str, int] = {}

    def warm_up(self, case: Case, server: Server) -> None:
        """Compilers compile, pools fill: what a server does once is not measured."""
        share = WARM_UP_SHARE if case.is_bulk else WARM_UP_SECONDS_SHARE
        load = self._load(shrink(case.load, share), server)
        outcome = run_load(server.target, load, self._client_processes)
        if load.verb == "head":
            wanted = case.load.seconds * outcome.done / outcome.seconds
            self._heads_each[server.name] = max(HEADS_EACH_LEAST, round(wanted / load.links))
        if case.is_bulk:
            server.empty_large_files()

    def measure(self, case: Case, server: Server, others: Sequence[Server], is_first: bool) -> dict[str, Any]:
        load = replace(self._load(case.load, server), notes_all=is_first and self._storage_pid is not None)
        prepare_machine(self._folder, case.round_bytes)
        create_us = create_microseconds(server.stored_in)
        sampler = MemorySampler(server.pid)
        before: dict[str, float] = {}
        idle_before = 0.0

        def start() -> None:
            nonlocal idle_before
            idle_before = sum(cpu_seconds(other.pid) for other in others)
            sampler.start()
            before.update(
                time=time.monotonic(),
                server=cpu_seconds(server.pid),
                storage=self._storage_cpu(),
                machine=machine_cpu_seconds(),
                own=time.process_time(),
            )

        try:
            outcome = run_load(server.target, load, self._client_processes, start)
        except OSError:
            if sampler.is_alive():
                sampler.stop()
            raise
        time.sleep(SETTLE_SECONDS)  # files are closed and records written after the last answer, too
        own, window = time.process_time() - before["own"], time.monotonic() - before["time"]
        server_cpu = cpu_seconds(server.pid) - before["server"]
        storage_cpu = self._storage_cpu() - before["storage"]
        machine_cpu = machine_cpu_seconds() - before["machine"]
        idle_cpu = sum(cpu_seconds(other.pid) for other in others) - idle_before
        sampler.stop()
        known_cpu = server_cpu + storage_cpu + outcome.cpu_seconds + own + idle_cpu
        result = _figures(case, outcome, server_cpu)
        if self._storage_pid is not None:
            result |= {"storage_cpu_s": round(storage_cpu, 3), "storage_cpu": _per_work(case, outcome, storage_cpu)}
        result |= {
            "create_us": create_us,
            "peak_pss_mib": round(sampler.peak_pss / MIB, 1),
            "peak_rss_mib": round(sampler.peak_rss / MIB, 1),
            "idle_peers_cpu_s": round(idle_cpu, 3),
            "window_s": round(window, 3),
            "other_cpu_s": round(max(0.0, machine_cpu - known_cpu), 3),
        }
        self._check(case, server, outcome, result)
        if case.is_bulk:
            server.empty_large_files()
        return result

    def _load(self, load: Load, server: Server) -> Load:
        self._next_number += 10_000_000 + load.count
        load = replace(load, first_number=self._next_number)
        if load.verb == "head":
            path = server.target.create(load.size_bytes, bytes(load.offset))
            load = replace(load, path=path, each=self._heads_each.get(server.name, 0))
        return load

    def _storage_cpu(self) -> float:
        return cpu_seconds(self._storage_pid) if self._storage_pid is not None else 0.0

    def _check(self, case: Case, server: Server, outcome: Outcome, result: dict[str, Any]) -> None:
        for path, start, length in outcome.samples:
            if wrong := server.check(path, start, length):
                outcome.errors[f"read back: {wrong}"] += 1
        result["verified"] = len(outcome.samples)
        result["errors"] = sum(outcome.errors.values())
        result["error_samples"] = [f"{count} times {text}" for text, count in outcome.errors.most_common(3)]


def _figures(case: Case, outcome: Outcome, server_cpu: float) -> dict[str, Any]:
    seconds, done = outcome.seconds, outcome.done
    work = done * case.load.size_bytes / MIB if case.unit == "MiB/s" else done
    return {
        "seconds": round(seconds, 4),
        "done": done,
        "speed": round(work / seconds, 2),
        "server_cpu_s": round(server_cpu, 3),
        "cpu": _per_work(case, outcome, server_cpu),
        "client_cpu_s": round(outcome.cpu_seconds, 3),
        "client_busy": round(outcome.busiest, 3),
        "latency_ms": {kind: _latency(values) for kind, values in outcome.latencies.items()},
    }


def _per_work(case: Case, outcome: Outcome, cpu: float) -> float | None:
    """CPU seconds in the case's unit."""
    work = outcome.done * case.load.size_bytes / GIB if case.cpu_unit == "s/GiB" else outcome.done / 1000
    return round(cpu / work, 4) if outcome.done else None


def _latency(values: array[float]) -> dict[str, float]:
    ordered = sorted(values)

    def at(share: float) -> float:
        return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000, 3)

    return {"count": len(ordered), "p50": at(0.5), "p95": at(0.95), "p99": at(0.99), "max": at(1.0)}
