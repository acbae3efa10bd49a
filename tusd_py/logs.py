"""Log lines on standard error, one event a line: time, level, event, its fields, the request they belong to.

`event(log, "UploadCreated", id=...)` is how events are told, from any room. Without `configure`, as in an app that
embeds this one, they are ordinary records of `logging`. With it, as in the command, they are written past that
machinery, which costs more than the line; records of other libraries are written in the same form.

Only plain values are shown, never what is inside a mapping or a list: metadata of uploads does not get here. Nothing
that came from a client can start a line, end one, or send signs to a terminal. Writing waits for nobody: lines that
standard error does not take at once are dropped and counted. How lines get out is left to `_Output`.
"""

from __future__ import annotations

import json
import logging
import os
import re
import select
import stat
import sys
import time
import traceback
from contextvars import ContextVar
from datetime import UTC, datetime
from itertools import count
from math import isfinite
from typing import Any

Fields = dict[str, object]

request_id: ContextVar[str | None] = ContextVar("tusd_py_request_id", default=None)
"""Of the request that the running code is for; every line has it."""

_requests = logging.getLogger("tusd_py.requests")

LONGEST_VALUE = 256
LONGEST_LINE = 1000
"""Beyond this each value is cut to `LONGEST_VALUE`."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}", re.ASCII)
_PREFIX = os.urandom(5).hex()
_NUMBERS = count(1)

# What is clear without quotes: visible ASCII but for the signs that a line is made of.
_BARE = re.compile(r"[!#-<>-\[\]-~]{0,256}").fullmatch
_encode = json.JSONEncoder(ensure_ascii=True).encode


def choose_request_id(given: str | None) -> str:
    """The value of X-Request-ID if it is a good one, else an id that no other request of any process has."""
    if given is not None and _REQUEST_ID.fullmatch(given):
        return given
    return f"{_PREFIX}-{next(_NUMBERS):x}"


def event(
    log: logging.Logger,
    name: str,
    /,
    *,
    level: int = logging.INFO,
    error: BaseException | None = None,
    **fields: object,
) -> None:
    """Tell that something happened; `error` adds its traceback. Fields that are None are left out."""
    if not log.isEnabledFor(level):
        return
    if _output is not None:
        _output.write(level, log.name, name, fields, error)
    else:
        trace = None if error is None else (type(error), error, error.__traceback__)
        log.log(level, Event(name, fields), exc_info=trace, stacklevel=2)


def answered(
    method: str,
    path: str,
    status: int,
    code: str | None,
    upload_id: str | None,
    body_bytes: int,
    seconds: float,
    client: str | None,
) -> None:
    """The one line of a request, told when it is answered. tusd's name, and its fields with more beside them.

    `path` without the query, which may hold secrets; `body_bytes` of an upload, received or sent. What is the same as
    `event` for the requests that are many, which all look alike, takes half its time.
    """
    if not _requests.isEnabledFor(logging.INFO):
        return
    current = request_id.get()
    if _output is None or code or not upload_id or not current or not _BARE(f"{method}{path}{client}"):
        event(
            _requests,
            "ResponseOutgoing",
            method=method,
            path=path,
            status=status,
            code=code,
            id=upload_id,
            bytes=body_bytes,
            seconds=seconds,
            client=client or "unix",
        )
        return
    values = (_now(), method, path, status, upload_id, body_bytes, seconds, client or "unix", current)
    _output.write_line(_output.request_line % values)


_TEXT_REQUEST = (
    "%s INFO ResponseOutgoing method=%s path=%s status=%d id=%s bytes=%d seconds=%.6g client=%s request_id=%s\n"
)
_JSON_REQUEST = (
    '{"time": "%s", "level": "INFO", "event": "ResponseOutgoing", "logger": "tusd_py.requests", "method": "%s",'
    ' "path": "%s", "status": %d, "id": "%s", "bytes": %d, "seconds": %.6g, "client": "%s", "request_id": "%s"}\n'
)


class Seldom:
    """What goes on failing is worth a line now and then: of each kind one in five minutes."""

    _QUIET_SECONDS = 300.0

    def __init__(self) -> None:
        self._told_at: dict[object, float] = {}

    def is_due(self, kind: object) -> bool:
        """Whether to tell of this kind now; then it is told."""
        now = time.monotonic()
        if now - self._told_at.get(kind, -self._QUIET_SECONDS) < self._QUIET_SECONDS:
            return False
        self._told_at[kind] = now
        return True


class Event:
    """The message of an event's record: as text it is the event and its fields, for any handler."""

    __slots__ = ("fields", "name")

    def __init__(self, name: str, fields: Fields) -> None:
        self.name = name
        self.fields = fields

    def __str__(self) -> str:
        return self.name + _pairs(self.fields)


def configure(*, is_verbose: bool, form: str = "text") -> None:
    """Show this package's events (`is_verbose`), or only warnings and errors. `form`: text or json.

    For the command, not for embedders.
    """
    global _output  # noqa: PLW0603  # the process has one standard error
    descriptor = os.open(os.devnull, os.O_WRONLY) if sys.stderr is None else 2  # a closed 2 will be something else
    _output = _Output(descriptor, form)
    # What each record would look up, and no line shows.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    root = logging.getLogger()
    for handler in [each for each in root.handlers if isinstance(each, _Handler)]:
        root.removeHandler(handler)
    root.addHandler(_Handler(_output))
    root.setLevel(logging.WARNING)
    logging.getLogger("tusd_py").setLevel(logging.INFO if is_verbose else logging.WARNING)


class _Handler(logging.Handler):
    """What others tell `logging`, in the form of our lines."""

    def __init__(self, output: _Output) -> None:
        super().__init__()
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        message = record.msg
        fields: Fields = {}
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(message, Event):
            name, fields = message.name, message.fields
        else:
            try:
                name = record.getMessage()
            except Exception as broken:  # its arguments do not fit
                name, fields, error = "BadLogRecord", {"message": str(message)}, broken
        self._output.write(record.levelno, record.name, name, fields, error)


# Lines. Most values need no quotes, so a line is put together without and then looked at as a whole: that costs a
# third of looking at each value, and of the encoder of JSON.

_clock = (0, "")
_LEVELS = {level: logging.getLevelName(level) for level in range(logging.DEBUG, logging.CRITICAL + 1, 10)}


def _now() -> str:
    """RFC 3339 in UTC; the seconds are written once for all lines in them."""
    global _clock  # noqa: PLW0603  # threads may write it at once, and write the same
    now = time.time()
    second = int(now)
    known, text = _clock
    if known != second:
        text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        _clock = (second, text)
    return f"{text}.{int((now - second) * 1000):03d}Z"


def _text_line(level: int, _logger: str, name: str, fields: Fields, error: BaseException | None) -> str:
    current = request_id.get()
    request = "" if current is None or "request_id" in fields else f" request_id={current}"
    line = f"{_now()} {_level(level)} {_one_line(name)}{_pairs(fields)}{request}\n"
    if error is not None:
        # Marked, so that no line of it can be taken for one of ours.
        line += "".join(f"  | {_one_line(each)}\n" for each in _trace(error).splitlines())
    return line


def _pairs(fields: Fields) -> str:
    line = ""
    number = 0
    for key, value in fields.items():
        if value is None:
            continue
        number += 1
        line += f" {key}={value if type(value) is str or type(value) is int else _plain(value)}"
    if _is_plain(line) and line.count(" ") == number == line.count("=") and '"' not in line:
        return line
    return "".join(f" {key}={_value(value)}" for key, value in fields.items() if value is not None)


def _value(value: object) -> str:
    text = _plain(value)
    return text if _BARE(text) else _escaped(_encode(text))


def _json_line(level: int, logger: str, name: str, fields: Fields, error: BaseException | None) -> str:
    current = request_id.get()
    line = f'{{"time": "{_now()}", "level": "{_level(level)}", "event": "{name}", "logger": "{logger}"'
    quotes = 16
    for key, value in fields.items():
        if value is None:
            continue
        if type(value) is int:
            line += f', "{key}": {value}'
            quotes += 2
        elif type(value) is float and isfinite(value):
            line += f', "{key}": {value:.6g}'
            quotes += 2
        else:
            line += f', "{key}": "{value if type(value) is str else _plain(value)}"'
            quotes += 4
    if error is not None or not _is_plain(line) or line.count('"') != quotes:
        return _odd_json_line(level, logger, name, fields, error)
    return line + ("}\n" if current is None or "request_id" in fields else f', "request_id": "{current}"}}\n')


def _odd_json_line(level: int, logger: str, name: str, fields: Fields, error: BaseException | None) -> str:
    line: Fields = {"time": _now(), "level": _level(level), "event": name, "logger": logger}
    for key, value in fields.items():
        if value is not None:
            is_number = type(value) is int or (type(value) is float and isfinite(value))
            line[key] = value if is_number else _plain(value)
    if (current := request_id.get()) is not None:
        line.setdefault("request_id", current)
    if error is not None:
        line["error"] = _cut("".join(traceback.format_exception_only(error)).strip())
        line["trace"] = _trace(error)
    return _escaped(_encode(line)) + "\n"


def _is_plain(line: str) -> bool:
    return line.isascii() and line.isprintable() and len(line) < LONGEST_LINE and "\\" not in line


def _level(level: int) -> str:
    return _LEVELS.get(level) or str(logging.getLevelName(level)).replace(" ", "-")


def _plain(value: object) -> str:
    """Text of what has one; of everything that may contain more, only what it is."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | BaseException):
        return _cut(str(value))
    return f"<{type(value).__name__}>"


def _cut(text: str) -> str:
    """What a client makes long stays a line that the kernel takes in one piece."""
    return text if len(text) <= LONGEST_VALUE else text[:LONGEST_VALUE] + "..."


def _one_line(text: str) -> str:
    """Without what ends a line, moves a cursor or changes the direction of writing; quotes may stay."""
    if text.isascii() and text.isprintable():
        return text
    return text.encode("ascii", "backslashreplace").decode().translate(_SIGNS)


def _escaped(quoted: str) -> str:
    return quoted.replace("\x7f", "\\u007f")  # JSON lets it stand


_SIGNS = {number: f"\\x{number:02x}" for number in (*range(0x20), 0x7F)}


def _trace(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)).rstrip("\n")


# Writing.


class _Output:
    """One write a line, which the kernel does not mix with those of other processes, and which never waits."""

    def __init__(self, descriptor: int, form: str) -> None:
        self.request_line = _JSON_REQUEST if form == "json" else _TEXT_REQUEST
        self._form = _json_line if form == "json" else _text_line
        self._dropped = 0
        self._is_in_line = False  # only part of the last one got out
        self._descriptor = descriptor
        self._poll: Any = None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            self._never_wait(descriptor)

    def write(self, level: int, logger: str, name: str, fields: Fields, error: BaseException | None) -> None:
        self.write_line(self._form(level, logger, name, fields, error))

    def write_line(self, line: str) -> None:
        if not self._write(line):
            self._dropped += 1
            return
        if self._dropped:
            told = self._form(logging.WARNING, __name__, "LogLinesDropped", {"count": self._dropped}, None)
            self._dropped = 0 if self._write(told) else self._dropped

    def _never_wait(self, descriptor: int) -> None:
        """By an opening of our own: to make the given one non-blocking would do so for the shell it came from."""
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
        try:
            self._descriptor = os.open(f"/proc/self/fd/{descriptor}", flags)
        except OSError:  # a socket, or a pipe of another user: to ask first leaves a small chance to wait
            self._poll = select.poll()
            self._poll.register(descriptor, select.POLLOUT)

    def _write(self, line: str) -> bool:
        content = line.encode()
        if self._is_in_line:
            content = b"\n" + content
        left = content
        try:
            if self._poll is None:
                left = left[os.write(self._descriptor, left) :]
            while left and (self._poll is None or self._poll.poll(0)):
                left = left[os.write(self._descriptor, left[: select.PIPE_BUF]) :]
        except OSError:  # full, or nobody reads any more
            pass
        if len(left) < len(content):
            self._is_in_line = bool(left)
        return not left


_output: _Output | None = None
