"""Put into the supervisor and the workers of an attacked server: shows what is left in a process, and makes the disk
slow for writes that begin with `SLOW`. Nothing else of the server is changed but its priority.

At SIGUSR2 a worker collects garbage and writes how many asyncio tasks and objects of the server there are to
`left-<pid>.json` in $TMPDIR.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import time
from collections import Counter
from types import FrameType

from tests.faults.attackpriority import go_first

SLOW = b"slow disk"
COUNTED = {"TusProtocol", "TusCycle", "RequestParser", "Lane", "Lingering", "Deadline", "Body", "Watch"}


def _tell(_number: int, _frame: FrameType | None) -> None:
    gc.collect()
    left = Counter(type(each).__name__ for each in gc.get_objects() if type(each).__name__ in COUNTED)
    left["tasks"] = len(asyncio.all_tasks())
    path = os.path.join(os.environ["TMPDIR"], f"left-{os.getpid()}.json")
    with open(path + ".new", "w") as file:
        json.dump(left, file)
    os.rename(path + ".new", path)


def _make_slow(seconds: float) -> None:
    pwrite = os.pwrite

    def slow_pwrite(descriptor: int, data: memoryview, position: int, /) -> int:
        if data[: len(SLOW)] == SLOW:
            time.sleep(seconds)
        return pwrite(descriptor, data, position)

    os.pwrite = slow_pwrite  # type: ignore[assignment]  # the store writes memoryviews


def install() -> None:
    go_first()
    signal.signal(signal.SIGUSR2, _tell)
    if seconds := os.environ.get("ATTACK_SLOW_SECONDS"):
        _make_slow(float(seconds))
