"""A process that uses the queue in the file at PATH, or in Redis if it is a URL, and writes what happened.

put PATH PREFIX COUNT      put so many jobs, 16 tasks at a time; `put KEY` when each is acknowledged
once PATH PREFIX COUNT     put the same ones as others do, one after the other; waits for a line before it begins
work PATH LEASE EFFECTS    run jobs: each adds its key to the file EFFECTS; `began KEY` for each
hang PATH LEASE            take jobs and never end them; `began KEY`
lock PATH                  hold SQLite's lock until a line comes; `locked`
small PATH BYTES           no file may be larger: put until it fails; `put COUNT`, `error CODE`, then once more without
"""

from __future__ import annotations

import asyncio
import os
import resource
import sqlite3
import sys

from tests.jobs.owed import job
from tusd_py.core.jobs import Job, Queue
from tusd_py.errors import BackendError
from tusd_py.jobs.redis import RedisQueue
from tusd_py.jobs.sqlite import SqliteQueue
from tusd_py.jobs.worker import Beat, Worker
from tusd_py.lockers.redis.address import parse


def say(line: str) -> None:
    os.write(1, line.encode() + b"\n")


def made(path: str) -> Queue:
    return RedisQueue(parse(path)) if "://" in path else SqliteQueue(path, busy_seconds=30)


async def put(path: str, prefix: str, count: str) -> None:
    queue = made(path)
    numbers = iter(range(int(count)))

    async def some() -> None:
        for number in numbers:
            await queue.put([job(f"{prefix}{number}")])
            say(f"put {job(f'{prefix}{number}').key}")

    await asyncio.gather(*(some() for _ in range(16)))
    await queue.aclose()


async def once(path: str, prefix: str, count: str) -> None:
    say("ready")
    sys.stdin.readline()
    queue = made(path)
    for number in range(int(count)):
        await queue.put([job(f"{prefix}{number}", payload=str(os.getpid()).encode())])
    await queue.aclose()
    say("done")


async def work(path: str, lease_seconds: str, effects: str) -> None:
    effect = os.open(effects, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    async def run(job: Job, _beat: Beat) -> None:
        say(f"began {job.key}")
        await asyncio.sleep(0.002)
        os.write(effect, job.key.encode() + b"\n")
        await asyncio.sleep(0.002)

    await serve(path, float(lease_seconds), run)


async def hang(path: str, lease_seconds: str) -> None:
    async def run(job: Job, _beat: Beat) -> None:
        say(f"began {job.key}")
        await asyncio.Event().wait()

    await serve(path, float(lease_seconds), run)


async def serve(path: str, lease_seconds: float, run) -> None:
    worker = Worker(made(path), run, {"scan": 8}, lease_seconds)
    worker.start()
    say("ready")
    await asyncio.Event().wait()


async def lock(path: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    say("locked")
    sys.stdin.readline()
    connection.execute("COMMIT")


async def small(path: str, most_bytes: str) -> None:
    queue = SqliteQueue(path)
    await queue.start()
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(most_bytes), resource.RLIM_INFINITY))
    number = 0
    try:
        while True:
            await queue.put([job(f"u{number}", payload=bytes(4000))])
            number += 1
    except BackendError as error:
        say(f"put {number}")
        say(f"error {error.code}")
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await queue.put([job("last")])
    await queue.aclose()
    say("put last")


if __name__ == "__main__":
    asyncio.run(globals()[sys.argv[1]](*sys.argv[2:]))
