"""A server under attack, a healthy client beside it, and what the attack costs: latency, processor, memory, leftovers.

What the attacks are is left to `attackcrowd` and the tests.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles

from attackcrowd import Crowd, being_nice
from faultclient import Client

from tests.benchmark.benchwatch import MemorySampler, cpu_seconds, memory_bytes
from tests.server.supervised import Supervised, wait_until

MIB = 1 << 20
FACTOR = 2.0
# A round is four requests, and with more busy processes than processors each of them waits for a slice of the
# scheduler's (3 ms) at both ends, whoever is to blame: a test beside this one, or the attackers.
NOISE_SECONDS = 0.012
QUIET_SECONDS = 0.8
FEWEST_PAIRS, MOST_PAIRS = 2, 6
# A heap grows by steps (MALLOC_TOP_PAD_ is 16 MiB), and is used more thinly the second time. Of what leaks, objects of
# the server are counted exactly.
KEPT_MIB = 24.0
CLEAN_SECONDS = 8.0

Window = tuple[float, float]


@dataclass
class Outcome:
    """A line of the table; times in seconds, `processor` is the server's share of one core during the attack."""

    name: str
    quiet: float
    attacked: float
    worst: float
    pairs: int
    processor: float
    pss_mib: tuple[float, float, float]

    def __str__(self) -> str:
        before, peak, after = self.pss_mib
        return (
            f"{self.name:34} {1e3 * self.quiet:6.1f} {1e3 * self.attacked:8.1f} {1e3 * self.worst:8.0f}"
            f" {self.pairs:5} {100 * self.processor:5.0f}% {before:7.1f} {peak:6.1f} {after:6.1f}"
        )


HEADING = f"{'':34} p95 ms: attacked  worst ms pairs   CPU PSS MiB:  peak  after\n{'attack':34} {'quiet':>6}"
OUTCOMES: list[Outcome] = []


class Bystander:
    """The healthy client's process. A round is (due, ended, error)."""

    def __init__(self, port: int, kept: int) -> None:
        program = Path(__file__).with_name("attackbystander.py")
        self.rounds: list[tuple[float, float, str]] = []
        self._process = subprocess.Popen(
            [sys.executable, str(program), str(port), str(kept)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            due, ended, error = json.loads(line)
            self.rounds.append((due, ended, error))

    def wait_until_even(self) -> None:
        """Until a round begins when it is due."""
        known = len(self.rounds)
        wait_until(
            lambda: any(ended - due < 0.2 for due, ended, _ in self.rounds[known:]),
            lambda: f"the healthy client does not get through: {self.rounds[-3:]}",
        )

    def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(20)
        finally:
            self._process.kill()
            self._process.wait()
            self._reader.join(5)
            assert self._process.stdout is not None
            self._process.stdout.close()

    @property
    def errors(self) -> list[str]:
        return [error for _, _, error in self.rounds if error]

    def during(self, windows: list[Window]) -> list[list[float]]:
        """Latencies of each window: of what was due in it, or ended in it."""
        return [[ended - due for due, ended, _ in self.rounds if due < end and ended > began] for began, end in windows]


def p95(latencies: list[float]) -> float:
    return quantiles(latencies, n=20, method="inclusive")[-1] if len(latencies) > 1 else sum(latencies)


@dataclass
class Leftovers:
    """What a worker has that connections and uploads leave behind if something is wrong."""

    descriptors: dict[int, int] = field(default_factory=dict)
    objects: dict[int, dict[str, int]] = field(default_factory=dict)
    locks: int = 0


class Scene:
    """One server for any number of attacks. It is shown to be clean after each."""

    def __init__(self, server: Supervised) -> None:
        self.server = server
        self.client = Client(server.port)
        self.workers = sorted(server.workers())
        with self.bystander() as bystander:  # what is made once is made now
            wait_until(lambda: len(bystander.rounds) >= 30)
        self.at_start = self.leftovers()

    @contextmanager
    def bystander(self, kept: int = 0) -> Iterator[Bystander]:
        bystander = Bystander(self.server.port, kept)
        try:
            yield bystander
        finally:
            bystander.end()

    # What is left.

    def leftovers(self) -> Leftovers:
        return Leftovers(
            {pid: len(os.listdir(f"/proc/{pid}/fd")) for pid in self.workers},
            {pid: self._objects(pid) for pid in self.workers},
            self._locks(),
        )

    def _objects(self, pid: int) -> dict[str, int]:
        path = self.server.log_path.with_name(f"left-{pid}.json")
        path.unlink(missing_ok=True)
        os.kill(pid, signal.SIGUSR2)
        wait_until(path.exists, lambda: f"worker {pid} does not answer:\n{self.server.log[-2000:]}")
        objects: dict[str, int] = json.loads(path.read_text())
        return objects

    def _locks(self) -> int:
        inode = (self.server.directory / ".tusd-py" / "locks" / "lock").stat().st_ino
        lines = Path("/proc/locks").read_text().splitlines()
        return sum(line.split()[-3].endswith(f":{inode}") for line in lines)

    def check_clean(self) -> None:
        """No connection, descriptor, task or lock is left, and nobody died or complained."""
        deadline = time.monotonic() + CLEAN_SECONDS
        while (now := self.leftovers()) != self.at_start:
            assert time.monotonic() < deadline, f"left behind:\n{now}\nat the start:\n{self.at_start}"
            time.sleep(0.1)
        assert sorted(self.server.workers()) == self.workers, f"a worker died:\n{self.server.log[-4000:]}"
        assert "Traceback" not in self.server.log, self.server.log[-8000:]

    def wait_until_few(self) -> None:
        """Until there is hardly more than a healthy client needs."""
        wait_until(
            lambda: all(
                len(os.listdir(f"/proc/{pid}/fd")) <= self.at_start.descriptors[pid] + 6 for pid in self.workers
            ),
            lambda: f"descriptors stay: {self.leftovers()}",
        )

    # The attack.

    def attack(
        self,
        name: str,
        attack: Callable[[Crowd], float | None],
        *,
        prepare: Callable[[], object] = lambda: None,
        most_mib: float,
        kept: int = 0,
    ) -> Outcome:
        """Attack again and again, with quiet between, until the bound on the healthy client's latency is kept or
        broken beyond doubt. `attack` ends when the server has got rid of all that it brought; `prepare` is called
        before each. What happens before the time that `attack` returns does not count. It may cost `most_mib` of
        memory, and the second one no more than the first. `kept`: the healthy client's connections."""
        pid = self.server.process.pid
        before, _ = memory_bytes(pid)
        quiet: list[Window] = []
        attacked: list[Window] = []
        processor = 0.0
        pss = []
        sampler = MemorySampler(pid)
        sampler.start()
        try:
            with self.bystander(kept) as bystander, ThreadPoolExecutor(1) as executor:
                while True:
                    prepare()
                    bystander.wait_until_even()
                    quiet.append(_window(lambda: time.sleep(QUIET_SECONDS)))
                    spent = cpu_seconds(pid)
                    attacked.append(_window(executor.submit(self._run, attack).result))
                    processor += cpu_seconds(pid) - spent
                    self.wait_until_few()
                    self.leftovers()  # also collects garbage, so that one wave does not pay for another
                    pss.append(memory_bytes(pid)[0] / MIB)
                    if len(quiet) >= FEWEST_PAIRS and _is_decided(bystander, quiet, attacked):
                        break
        finally:
            sampler.stop()
        self.check_clean()
        after, _ = memory_bytes(pid)
        outcome = Outcome(
            name,
            median(map(p95, bystander.during(quiet))),
            median(map(p95, bystander.during(attacked))),
            max(max(each, default=0.0) for each in bystander.during(attacked)),
            len(quiet),
            processor / sum(end - began for began, end in attacked),
            (before / MIB, sampler.peak_pss / MIB, after / MIB),
        )
        OUTCOMES.append(outcome)
        print(HEADING, outcome, sep="\n")
        assert sampler.peak_pss <= before + most_mib * MIB, outcome
        assert after / MIB <= pss[0] + KEPT_MIB, f"it grows: {pss}, {outcome}"
        assert not bystander.errors, bystander.errors[:5]
        assert _is_kept(outcome.quiet, outcome.attacked), f"the healthy client suffers:\n{HEADING}\n{outcome}"
        return outcome

    def _run(self, attack: Callable[[Crowd], float | None]) -> float | None:
        with being_nice(), Crowd(self.server.port) as crowd:
            return attack(crowd)


def _window(happening: Callable[[], float | None]) -> Window:
    began = time.monotonic()
    later = happening()
    return later or began, time.monotonic()


def _is_kept(quiet: float, attacked: float) -> bool:
    return attacked <= FACTOR * quiet + NOISE_SECONDS


def _is_decided(bystander: Bystander, quiet: list[Window], attacked: list[Window]) -> bool:
    if len(quiet) >= MOST_PAIRS:
        return True
    return _is_kept(median(map(p95, bystander.during(quiet))), median(map(p95, bystander.during(attacked))))
