"""`tusd-py jobs`: the queue of the settings, opened as the server does. What a job is stands in `core.jobs`."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import UTC, datetime

from tusd_py.assembly.deliveries import make_queue, queue_file
from tusd_py.config import Config
from tusd_py.core.jobs import JobState, JobStatus, Queue
from tusd_py.errors import ConfigError, TusError
from tusd_py.jobs.memory import MemoryQueue
from tusd_py.queueing.words import JOBS

_OPEN = (JobState.WAITING, JobState.RUNNING, JobState.DEAD)
_PAGE = 500

Tell = Callable[[str], object]


def run(words: Sequence[str], config: Config, tell: Tell) -> int:
    """The exit code: 1 where a job is not there or the queue fails. Raises ConfigError for words that make no sense."""
    action, *rest = words or ["list"]
    if action in set(JobState):
        action, rest = "list", list(words)
    actions = {"list": _list, "show": _show, "retry": _retry, "drop": _drop}
    if action not in actions:
        raise ConfigError(f"unknown word {action!r}; there are {', '.join(actions)}: see tusd-py {JOBS} --help")
    if config.jobs == "memory":
        raise ConfigError("--jobs memory keeps nothing that could be looked at from outside the server")
    return asyncio.run(_with_queue(config, lambda queue: actions[action](queue, rest, config, tell), tell))


async def _with_queue(config: Config, act: Callable[[Queue], Awaitable[int]], tell: Tell) -> int:
    path = queue_file(config)
    if config.jobs == "sqlite" and not os.path.exists(path):
        tell(f"nothing is owed: there is no queue at {path}\n")
        return 0
    async with _opened(config) as queue:
        try:
            return await act(queue)
        except TusError as error:
            tell(f"the queue failed: {error.message}\n")
            return 1


@asynccontextmanager
async def _opened(config: Config) -> AsyncIterator[Queue]:
    queue = make_queue(config)
    try:
        if not isinstance(queue, MemoryQueue):
            await queue.start()
        yield queue
    finally:
        await queue.aclose()


async def _list(queue: Queue, words: Sequence[str], config: Config, tell: Tell) -> int:
    states = [_state(word) for word in words] or list(_OPEN)
    count = 0
    async for job in _all(queue, states):
        if config.log_format != "json" and count == 0:
            tell(f"{'STATE':9}  {'TRIES':>5}  {'AGE':>5}  {'NEXT':>5}  KEY\n")
        count += 1
        tell(_json(job) if config.log_format == "json" else _line(job))
    if config.log_format != "json":
        counts = await queue.counts()
        shown = ", ".join(f"{number} {state}" for state, number in counts.items() if number)
        tell(f"{'' if count else 'nothing is owed; '}in all: {shown or 'none'}\n")
    return 0


async def _show(queue: Queue, words: Sequence[str], config: Config, tell: Tell) -> int:
    if len(words) != 1:
        raise ConfigError(f"name one job: tusd-py {JOBS} show KEY")
    job = await queue.find(words[0])
    if job is None:
        tell(_unknown(words[0]))
        return 1
    tell(_json(job) if config.log_format == "json" else _whole(job))
    return 0


async def _retry(queue: Queue, words: Sequence[str], _config: Config, tell: Tell) -> int:
    return await _each(queue, words, queue.retry, "is tried now", "is running or over, so it is not tried", tell)


async def _drop(queue: Queue, words: Sequence[str], _config: Config, tell: Tell) -> int:
    return await _each(queue, words, queue.drop, "is dropped", "is over already", tell)


async def _each(
    queue: Queue, words: Sequence[str], act: Callable[[str], Awaitable[bool]], done: str, not_done: str, tell: Tell
) -> int:
    if not words:
        raise ConfigError(f"name jobs, or say dead for all that were given up: see tusd-py {JOBS} --help")
    keys = list(words)
    if keys == [JobState.DEAD]:
        keys = [job.job.key async for job in _all(queue, [JobState.DEAD])]
        tell("" if keys else "none is dead\n")
    code = 0
    for key in keys:
        if await act(key):
            tell(f"{key} {done}\n")
        else:
            tell(f"{key} {not_done}\n" if await queue.find(key) else _unknown(key))
            code = 1
    return code


async def _all(queue: Queue, states: Sequence[JobState]) -> AsyncIterator[JobStatus]:
    after = ""
    while page := await queue.list(states, _PAGE, after):
        for job in page:
            yield job
        after = page[-1].job.key


def _state(word: str) -> JobState:
    try:
        return JobState(word)
    except ValueError:
        raise ConfigError(f"unknown state {word!r}; there are {', '.join(JobState)}") from None


def _unknown(key: str) -> str:
    return f"there is no job {key!r}; tusd-py {JOBS} list shows what there is\n"


def _line(job: JobStatus) -> str:
    now = time.time()
    due = _span(job.due_at - now) if job.state is JobState.WAITING else ""
    line = f"{job.state:9}  {job.attempts:>5}  {_span(now - job.created_at):>5}  {due:>5}  {job.job.key}\n"
    return line + (f"           {job.error}\n" if job.error else "")


def _whole(job: JobStatus) -> str:
    lines = {
        "key": job.job.key,
        "upload": job.job.upload_id,
        "event": job.job.event,
        "hook": job.job.hook,
        "state": job.state,
        "tries": str(job.attempts),
        "since": _time(job.created_at),
        "changed": _time(job.changed_at),
        "next try": _time(job.due_at) if job.state is JobState.WAITING else "",
        "progress": f"{job.progress:.0%}" if job.progress is not None else "",
        "note": job.note,
        "error": job.error,
    }
    text = "".join(f"{name:9} {value}\n" for name, value in lines.items() if value)
    if not job.job.payload:
        return text
    return f"{text}what it is told:\n{json.dumps(json.loads(job.job.payload), indent=2, ensure_ascii=False)}\n"


def _json(job: JobStatus) -> str:
    fields = asdict(job)
    fields |= fields.pop("job")
    payload = fields.pop("payload")
    fields["told"] = json.loads(payload) if payload else None
    return json.dumps(fields, ensure_ascii=True) + "\n"


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _span(seconds: float) -> str:
    """In the largest unit that makes it at least 1."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f}{unit}"
    return f"{max(seconds, 0):.0f}s"
