"""A server under attack, a healthy client beside it, and what the attack costs: latency, processor, memory, leftovers.

What the attacks are is left to `attackcrowd` and the tests, the bound on latencies to `attackreport`.
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
from statistics import quantiles

from attackcrowd import Crowd
from attackpriority import go_last
from attackreport import OUTCOMES, Outcome, Pair, is_borne
from faultclient import Client

from tests.benchmark.benchwatch import MemorySampler, cpu_seconds, memory_bytes
from tests.server.supervised import Supervised, wait_until

MIB = 1 << 20
QUIET_SECONDS = 0.8
# The second attack shows what the first has left; the others are for the healthy client's latency.
FEWEST_PAIRS, MOST_PAIRS = 2, 8
# A heap keeps up to 16 MiB that were freed (tusd_py.memory), and is used more thinly the second time. Of what leaks,
# objects of the server are counted exactly.
KEPT_MIB = 24.0
CLEAN_SECONDS = 8.0
# Rounds that do not wait for another's end: it is quiet again.
EVEN_ROUNDS, EVEN_SECONDS = 5, 0.05

Window = tuple[float, float]
Attack = Callable[[Crowd], float | None]


class Bystander:
    """The healthy client's process. A round is (due, ended, error)."""

    def __init__(self, port: int, kept: int) -> None:
        program = Path(__file__).with_name("attackbystander.py")
        self.rounds: list[tuple[float, float, str]] = []
        self._process = subprocess.Popen(
            [sys.executable, str(program), str(port), str(kept)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            due, ended, error = json.loads(line)
            self.rounds.append((due, ended, error))

    def wait_until_even(self) -> None:
        """Until rounds begin when they are due, for a while."""
        now = time.monotonic()

        def is_even() -> bool:
            last = self.rounds[-EVEN_ROUNDS:]
            return len(last) == EVEN_ROUNDS and all(due > now and ended - due < EVEN_SECONDS for due, ended, _ in last)

        wait_until(is_even, lambda: f"the healthy client does not get through: {self.rounds[-3:]}")

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

    def latencies(self, window: Window) -> list[float]:
        """Of the rounds that were due in it or ended in it; returns when all of them have."""
        began, end = window
        wait_until(lambda: self.rounds[-1][0] >= end, lambda: f"it gets no answer: {self.rounds[-3:]}")
        return [ended - due for due, ended, _ in self.rounds if due < end and ended > began]


def p95(latencies: list[float]) -> float:
    return quantiles(latencies, n=20, method="inclusive")[-1] if len(latencies) > 1 else latencies[0]


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
        with self.bystander():  # what is made once is made now
            wait_until(lambda: len(self.healthy.rounds) >= 30)
        assert not self.healthy.errors, self.healthy.errors[:5]
        self.at_start = self.leftovers()

    @contextmanager
    def bystander(self, kept: int = 0) -> Iterator[None]:
        """`healthy` until the end."""
        self.healthy = Bystander(self.server.port, kept)
        try:
            yield
        finally:
            self.healthy.end()

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
        attack: Attack,
        *,
        prepare: Callable[[], object] = lambda: None,
        most_mib: float,
        kept: int = 0,
    ) -> Outcome:
        """Attack again and again, each time after a quiet time, until the healthy client has borne it or it is beyond
        doubt that it cannot. `attack` ends when the server has got rid of all that it brought; `prepare` is called
        before each. What happens before the time that `attack` returns does not count. It may cost `most_mib` of
        memory, and later ones no more than the first. `kept`: the healthy client's connections."""
        pid = self.server.process.pid
        pairs: list[Pair] = []
        spent, lasted = 0.0, 0.0
        pss = [memory_bytes(pid)[0] / MIB]
        with _sampling(pid) as sampler, self.bystander(kept):
            while len(pairs) < FEWEST_PAIRS or not (is_borne(pairs) or len(pairs) == MOST_PAIRS):
                prepare()
                self.healthy.wait_until_even()
                quiet = _window(lambda: time.sleep(QUIET_SECONDS))
                spent -= cpu_seconds(pid)
                attacked = _window(lambda: self._run(attack))
                spent += cpu_seconds(pid)
                lasted += attacked[1] - quiet[1]
                suffered = self.healthy.latencies(attacked)
                pairs.append(Pair(p95(self.healthy.latencies(quiet)), p95(suffered), max(suffered)))
                self.wait_until_few()
                self.leftovers()  # also collects garbage, so that one wave does not pay for another
                pss.append(memory_bytes(pid)[0] / MIB)
        errors = self.healthy.errors
        self.check_clean()
        peak, after = sampler.peak_pss / MIB, memory_bytes(pid)[0] / MIB
        outcome = Outcome(name, pairs, spent / lasted, (pss[0], peak, after))
        OUTCOMES.append(outcome)
        assert not errors, f"{len(errors)} errors of the healthy client: {errors[:5]}"
        assert is_borne(pairs), f"the healthy client suffers each time: {', '.join(map(str, pairs))}"
        assert peak <= pss[0] + most_mib, f"it takes {peak - pss[0]:.1f} MiB and may take {most_mib:.1f}"
        assert after <= pss[1] + KEPT_MIB, f"it grows with each attack: {pss}, {after}"
        return outcome

    def _run(self, attack: Attack) -> float | None:
        def run() -> float | None:
            with Crowd(self.server.port) as crowd:
                return attack(crowd)

        with ThreadPoolExecutor(1, initializer=go_last) as executor:
            return executor.submit(run).result()


Make = Callable[..., Scene]


def _window(happening: Callable[[], float | None]) -> Window:
    began = time.monotonic()
    later = happening()
    return later or began, time.monotonic()


@contextmanager
def _sampling(pid: int) -> Iterator[MemorySampler]:
    sampler = MemorySampler(pid)
    sampler.start()
    try:
        yield sampler
    finally:
        sampler.stop()
