"""What a server costs: CPU seconds and memory of its whole process tree; and what the rest of the machine did.

Memory is PSS: a page that several processes share counts once, so a server of many workers is not charged for the
interpreter once per worker. RSS is kept beside it.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress

TICKS = os.sysconf("SC_CLK_TCK")
SAMPLE_SECONDS = 0.1


def process_tree(pid: int) -> list[int]:
    tree = [pid]
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError), open(f"/proc/{pid}/task/{thread}/children") as file:
                for child in file.read().split():
                    tree += process_tree(int(child))
    return tree


def cpu_seconds(pid: int) -> float:
    """User and system time of the tree; children that ended and were waited for are in their parent's account."""
    ticks = 0
    for each in process_tree(pid):
        with suppress(OSError), open(f"/proc/{each}/stat") as file:
            ticks += sum(int(field) for field in file.read().rpartition(")")[2].split()[11:15])
    return ticks / TICKS


def machine_cpu_seconds() -> float:
    """What all processors worked since the machine started (not idle, not waiting for disks, not given to others)."""
    with open("/proc/stat") as file:
        user, nice, system, _idle, _iowait, irq, softirq = (int(each) for each in file.readline().split()[1:8])
    return (user + nice + system + irq + softirq) / TICKS


def memory_bytes(pid: int) -> tuple[int, int]:
    """PSS and RSS of the tree."""
    pss = rss = 0
    for each in process_tree(pid):
        with suppress(OSError), open(f"/proc/{each}/smaps_rollup") as file:
            for line in file:
                if line.startswith("Pss:"):
                    pss += int(line.split()[1]) << 10
                elif line.startswith("Rss:"):
                    rss += int(line.split()[1]) << 10
    return pss, rss


def open_files(pid: int) -> int:
    count = 0
    for each in process_tree(pid):
        with suppress(OSError):
            count += len(os.listdir(f"/proc/{each}/fd"))
    return count


def thread_count(pid: int) -> int:
    count = 0
    for each in process_tree(pid):
        with suppress(OSError):
            count += len(os.listdir(f"/proc/{each}/task"))
    return count


class MemorySampler(threading.Thread):
    """Keeps the peak, and each sample as (seconds, PSS). Reading PSS holds the server up a little, so it is read at
    most a twentieth of the time."""

    def __init__(self, pid: int, every_seconds: float = SAMPLE_SECONDS) -> None:
        super().__init__(daemon=True)
        self.peak_pss = self.peak_rss = 0
        self.samples: list[tuple[float, int]] = []
        self._pid = pid
        self._every_seconds = every_seconds
        self._stopping = threading.Event()

    def run(self) -> None:
        start = time.monotonic()
        while True:
            before = time.monotonic()
            self._sample(before - start)
            took = time.monotonic() - before
            if self._stopping.wait(max(self._every_seconds - took, 20 * took)):
                return

    def _sample(self, at: float) -> None:
        pss, rss = memory_bytes(self._pid)
        self.samples.append((at, pss))
        self.peak_pss, self.peak_rss = max(self.peak_pss, pss), max(self.peak_rss, rss)

    def stop(self) -> None:
        self._stopping.set()
        self.join()


def usable_cores() -> int:
    return len(os.sched_getaffinity(0))
