"""`contender` with a RedisLocker: its first argument is a URL, its fourth the lease in seconds."""

from __future__ import annotations

import asyncio
import sys

import contender

from tusd_py.lockers.redis import RedisLocker


def make(url: str, timeout_seconds: float) -> RedisLocker:
    return RedisLocker(url, "test:", timeout_seconds, lease_seconds=float(sys.argv[4]))


if __name__ == "__main__":
    contender.FileLocker = make
    if sys.argv[3] == "uvloop":
        import uvloop

        uvloop.run(contender.main(*sys.argv[1:3]))
    else:
        asyncio.run(contender.main(*sys.argv[1:3]))
