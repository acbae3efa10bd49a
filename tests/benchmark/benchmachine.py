"""The machine and the moment of a run: what a reader needs to compare figures with those of another machine."""

from __future__ import annotations

import os
import platform
import re
from datetime import UTC, datetime
from pathlib import Path

from benchwatch import usable_cores


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def describe_machine(folder: Path, clients: int) -> dict[str, str | int]:
    memory = re.search(r"MemTotal: +(\d+)", Path("/proc/meminfo").read_text())
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return {
        "cpu": model[1] if model else platform.machine(),
        "cores": usable_cores(),
        "memory_gib": round(int(memory[1]) / (1 << 20)) if memory else 0,
        "kernel": platform.release(),
        "file_system": _file_system(folder),
        "python": platform.python_version(),
        "client_processes": clients,
    }


def _file_system(folder: Path) -> str:
    """Of the longest mount point that holds the folder."""
    best, kind = "", "unknown"
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _device, point, name, *_ = line.split()
        holds = os.path.commonpath([point, folder.resolve()]) == point
        if holds and len(point) >= len(best):
            best, kind = point, name
    return kind
