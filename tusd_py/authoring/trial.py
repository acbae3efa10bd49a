"""`tusd-py hooks run`: what a hook says to a file, event by event, without a server.

Owns the order of events, what is shown, and how the hook is reached; answers are judged as by the server.
"""

from __future__ import annotations

import asyncio
import difflib
import logging
import mimetypes
import os
import sys
import time
import traceback
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tusd_py import logs
from tusd_py.client.answers import shown
from tusd_py.client.progress import Progress
from tusd_py.config import environment
from tusd_py.core.events import EventType
from tusd_py.errors import ConfigError
from tusd_py.hooks import finding, wire
from tusd_py.hooks import settings as filling
from tusd_py.hooks.contract import EVENTS, Answer, Event, Hook, HookError, Upload
from tusd_py.hooks.executable import Executable
from tusd_py.hooks.http.settings import ReceiverSettings
from tusd_py.hooks.http.transport import Receiver
from tusd_py.hooks.inprocess import InProcess, changed
from tusd_py.hooks.testing import Sample, sample
from tusd_py.hooks.transport import Transport

_FOLDER = "hooks"
_TOLD_BY_DEFAULT = frozenset(
    {
        EventType.PRE_CREATE,
        EventType.POST_CREATE,
        EventType.POST_RECEIVE,
        EventType.POST_FINISH,
        EventType.POST_TERMINATE,
    }
)
_LONG_SECONDS = 0.5
_LOGGER = "tusd_py.hooks"
_TICK_SECONDS = 0.02
_BLOCKED_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the command line says; texts that are empty were not given."""

    hook: str
    file: str = ""
    event: str = ""
    metadata: Mapping[str, str] | None = None
    headers: Sequence[tuple[str, str]] = ()
    settings: Sequence[tuple[str, str]] = ()
    json: str = ""


def run(wishes: Wishes, tell: Callable[[str], object]) -> int:
    """The exit code. Raises ConfigError for what cannot be tried."""
    told = _told_event(wishes)
    reading = _Reading(_sample("post-finish", wishes) if told is None else _sample_of(told, wishes))
    transport = _transport(wishes, lambda _upload: reading)
    if told is not None:
        events = [told for _ in _wanted(transport, told.type)]
    else:
        events = [_sample(event, wishes).event for event in _wanted(transport, wishes.event)]
    with _Log(reading, tell):
        return asyncio.run(_try(transport, events, reading, tell))


def _transport(wishes: Wishes, open_stream: Callable[[Upload], _Reading]) -> Transport:
    """The way to the hook. Kinds of hooks are told apart here and nowhere else: programs and addresses plug in here."""
    use = wishes.hook
    is_address = use.startswith(("http://", "https://"))
    if is_address or _is_program(use):
        if wishes.settings:
            raise ConfigError(f"only hooks in Python have settings; to {use} --setting means nothing")
        if is_address:
            return Receiver(ReceiverSettings(name=use, events=_events(use, wishes), url=use))
        return Executable(use, Path(use).absolute(), _events(use, wishes), environment.inherited())
    name, hook = _find(use)
    if hook.settings is None:
        if wishes.settings:
            raise ConfigError(f"{name} has no settings, so --setting {wishes.settings[0][0]} means nothing to it")
        return InProcess(name, hook, None, open_stream)
    where = f"settings of {name} (--setting KEY=VALUE)"
    return InProcess(name, hook, filling.fill(hook.settings, _nested(wishes.settings), where), open_stream)


def _events(use: str, wishes: Wishes) -> frozenset[EventType]:
    """What programs and addresses hear of: what is wished for, what they are called, or what tusd tells by default."""
    words = [wishes.event, os.path.basename(use), os.path.basename(os.path.dirname(use)).removesuffix(".d")]
    for word in words:
        if word in EVENTS:
            return frozenset({EventType(word)})
    return frozenset(EventType) if wishes.json else _TOLD_BY_DEFAULT


def _is_program(use: str) -> bool:
    return os.sep in use and not use.endswith(".py") and os.path.isfile(use)


def _find(use: str) -> tuple[str, Hook]:
    """As the server, and by its mere name in ./hooks."""
    installed = finding.entry_points()
    if use in installed or not use.isidentifier():
        return finding.find(use)
    beside = {finding.name_of(path): path for path in finding.candidates(_FOLDER)} if os.path.isdir(_FOLDER) else {}
    if use not in beside and (near := difflib.get_close_matches(use, [*installed, *beside], n=1)):
        raise ConfigError(f"there is no hook {use!r}; did you mean {near[0]}?")
    return finding.find(beside.get(use, use))


def _nested(pairs: Sequence[tuple[str, str]]) -> dict[str, object]:
    """With a.b=1 as the b of the table a."""
    whole: dict[str, object] = {}
    for key, value in pairs:
        table = whole
        *tables, last = key.split(".")
        for name in tables:
            inner = table.setdefault(name, {})
            if not isinstance(inner, dict):
                raise ConfigError(f"--setting {name} is given as a value and as a table")
            table = inner
        if last in table:
            raise ConfigError(f"--setting {key} is given twice; a list has commas: {key}=a,b")
        table[last] = value
    return whole


def _wanted(transport: Transport, event: str) -> list[str]:
    if not event:
        return [each for each in EVENTS if each in transport.events]
    if event not in EVENTS:
        raise ConfigError(f"there is no event {event!r}; there are {', '.join(EVENTS)}")
    if event not in transport.events:
        raise ConfigError(f"{transport.name} does not listen to {event}, but to {_listed(transport)}")
    return [event]


def _listed(transport: Transport) -> str:
    return ", ".join(each for each in EVENTS if each in transport.events)


# The event and its bytes.


def _file(wishes: Wishes) -> Path:
    if not wishes.file:
        raise ConfigError(f"which file? tusd-py hooks run {wishes.hook} --file FILE")
    if not os.path.isfile(wishes.file):
        raise ConfigError(f"there is no file {wishes.file!r}; --file names the bytes of the upload")
    return Path(wishes.file)


def _sample(event: str, wishes: Wishes) -> Sample:
    path = _file(wishes)
    metadata = dict(wishes.metadata or {})
    if not metadata:
        metadata = {"filename": path.name}
        if kind := mimetypes.guess_type(path.name)[0]:
            metadata["filetype"] = kind
    headers: dict[str, list[str]] = {}
    for name, value in wishes.headers:
        headers.setdefault("-".join(part.capitalize() for part in name.split("-")), []).append(value)
    made = sample(event, path=path, headers=headers, mode="write")
    return replace(made, event=_with_metadata(made.event, metadata))


def _sample_of(event: Event, wishes: Wishes) -> Sample:
    """With the bytes of --file, or of the place that the event names, if there are any."""
    place = event.upload.storage.get("Path", "")
    if wishes.file:
        return Sample(event, path=_file(wishes))
    return Sample(event, path=Path(place)) if os.path.isfile(place) else Sample(event)


def _with_metadata(event: Event, metadata: Mapping[str, str]) -> Event:
    return replace(event, upload=replace(event.upload, metadata=metadata))


def _told_event(wishes: Wishes) -> Event | None:
    if not wishes.json:
        return None
    if wishes.event or wishes.metadata or wishes.headers:
        raise ConfigError("--json names a whole event: --event, --metadata and --header do not go with it")
    try:
        return wire.decode_event(Path(wishes.json).read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"--json {wishes.json!r}: {error}") from error


class _Reading:
    """The bytes, with a bar on a terminal when reading them takes long."""

    def __init__(self, source: Sample) -> None:
        self._source = source
        self._progress = Progress(sys.stdout, is_json=False) if sys.stdout.isatty() else None

    @property
    def length(self) -> int:
        return self._source.length

    async def pieces(self, start: int, end: int) -> AsyncIterator[bytes]:
        begun = time.monotonic()
        progress = self._progress
        if progress is not None:
            progress.begin("reading", "", self.length)
        async for piece in self._source.pieces(start, end):
            start += len(piece)
            if progress is not None and time.monotonic() - begun > _LONG_SECONDS:
                progress.at(start)
            yield piece

    def clear(self) -> None:
        """Take the bar away."""
        if self._progress is not None:
            self._progress.clear()


# What is shown.


async def _try(transport: Transport, events: Sequence[Event], reading: _Reading, tell: Callable[[str], object]) -> int:
    await transport.start()
    try:
        change = None
        for each in events:
            event = each if change is None else changed(each, change)
            tell(f"{event.type}\n")
            begun = time.perf_counter()
            try:
                async with _ticking() as blocked:
                    answer = await transport.call(event)
            except HookError as error:
                reading.clear()
                tell(f"  failed: {_one_line(error)} ({_span(begun)})\n{_advice(error)}")
                return 1
            reading.clear()
            tell(f"  {_in_words(answer, event)} ({_span(begun)})\n")
            if max(blocked) > _BLOCKED_SECONDS:
                tell(_BLOCKED.format(max(blocked)))
            if answer.is_rejected or answer.is_stopped:
                return 1
            change = answer.change or change
        return 0
    finally:
        await transport.aclose()


_BLOCKED = """\
  but for {:.1f} s nothing else could run: in a server, all uploads would have stood still. An async function must not
  wait or compute for long; one with def instead of async def may
"""


@asynccontextmanager
async def _ticking() -> AsyncIterator[list[float]]:
    """For how long the event loop could not go on, each time that it was noticed."""
    blocked = [0.0]

    async def tick() -> None:
        while True:
            begun = time.monotonic()
            await asyncio.sleep(_TICK_SECONDS)
            blocked.append(time.monotonic() - begun - _TICK_SECONDS)

    ticking = asyncio.create_task(tick())
    await asyncio.sleep(0)
    try:
        yield blocked
        await asyncio.sleep(_TICK_SECONDS / 10)  # what is overdue is noticed
    finally:
        ticking.cancel()
        await asyncio.wait([ticking])


def _advice(error: HookError) -> str:
    if error.is_final:
        return "  the server would not try again\n"
    if error.retry_after_seconds is not None:
        return f"  the server would try again after {error.retry_after_seconds:g} s\n"
    return ""


def _in_words(answer: Answer, event: Event) -> str:
    response = answer.response
    said = []
    if response is not None:
        usual = 0 if not (answer.is_rejected or answer.is_stopped) else 403 if event.type == "pre-access" else 400
        if response.status or usual:
            said.append(f"status {response.status or usual}")
        said += [f"{shown(name)}: {shown(value)}" for name, value in response.headers.items()]
        if response.body:
            said.append(f'"{shown(response.body)}"')
    to_client = f"; the client gets {', '.join(said)}" if said else ""
    if answer.is_rejected:
        return f"rejects it{to_client}"
    if answer.is_stopped:
        return f"stops the upload and removes it{to_client}"
    if answer.change is not None:
        parts = {"id": answer.change.id, "metadata": answer.change.metadata, "storage": answer.change.storage}
        changes = [f"{name} {shown(_value(value))}" for name, value in parts.items() if value is not None]
        return f"goes on with {', '.join(changes) or 'no change'}{to_client}"
    return f"goes on{to_client}"


def _value(value: str | Mapping[str, str]) -> str:
    if isinstance(value, str):
        return value
    return " ".join(f"{name}={each}" for name, each in value.items()) or "of nothing"


def _one_line(error: BaseException) -> str:
    return shown(" ".join(str(error).split()))


def _span(begun: float) -> str:
    seconds = time.perf_counter() - begun
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"


class _Log(logging.Handler):
    """Log lines and tracebacks of the hook, below the event during which they came."""

    def __init__(self, reading: _Reading, tell: Callable[[str], object]) -> None:
        super().__init__()
        self._reading = reading
        self._tell = tell
        self._logger = logging.getLogger(_LOGGER)

    def __enter__(self) -> None:
        self._before = self._logger.level, self._logger.propagate
        self._logger.setLevel(logging.DEBUG)
        self._logger.propagate = False
        self._logger.addHandler(self)

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self)
        self._logger.setLevel(self._before[0])
        self._logger.propagate = self._before[1]

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
        except Exception as error:  # its arguments do not fit
            text = f"{record.msg!r} cannot be written: {error}"
        lines = []
        if not (isinstance(record.msg, logs.Event) and record.exc_info):  # what failed is told as the answer
            lines += [f"log {record.levelname.lower()}: {line}" for line in text.splitlines() or [""]]
        if record.exc_info and record.exc_info[1] is not None:
            trace = "".join(traceback.format_exception(record.exc_info[1]))
            lines += [f"| {line}" for line in trace.splitlines()]
        self._reading.clear()
        self._tell("".join(f"  {shown(line)}\n" for line in lines))
