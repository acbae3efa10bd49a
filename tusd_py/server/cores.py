"""How many cores this process may use: what its affinity allows, and no more than the quota of its control group."""

from __future__ import annotations

import math
import os
from pathlib import Path, PurePosixPath


def count_cores(groups: str = "/proc/self/cgroup", mounts: str = "/sys/fs/cgroup") -> int:
    """At least 1. A quota of 1.5 cores is 2: a worker more costs little, half a core left idle does."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(cores, _quota(groups, mounts))))


def _quota(groups: str, mounts: str) -> float:
    """The least of our group's and its parents'; infinity if there is none."""
    quotas = [math.inf]
    for line in _read(groups).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            quotas += [_quota_v2(mounts + folder) for folder in _upwards(path)]
        elif "cpu" in controllers.split(","):
            quotas += [_quota_v1(f"{mounts}/cpu{folder}") for folder in _upwards(path)]
    return min(quotas)


def _upwards(path: str) -> list[str]:
    # In a container the path may be the host's, of which only the root is there.
    return ["" if str(each) == "/" else str(each) for each in (PurePosixPath(path), *PurePosixPath(path).parents)]


def _quota_v2(folder: str) -> float:
    quota, _, period = _read(f"{folder}/cpu.max").partition(" ")
    return int(quota) / int(period) if quota.isdigit() else math.inf


def _quota_v1(folder: str) -> float:
    quota, period = _read(f"{folder}/cpu.cfs_quota_us").strip(), _read(f"{folder}/cpu.cfs_period_us").strip()
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else math.inf


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
