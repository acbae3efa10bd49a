"""The kit to test a hook with, without a server:

    from tusd_py.hooks.testing import sample, tell

    def test_it_refuses_programs() -> None:
        assert tell(hook, sample("pre-create", filename="setup.exe")).is_rejected

`tell` asks the handlers as the server would: settings are checked, and answers that an event does not allow are errors.
What a handler raises comes out of `tell` as it is, and its log lines are in pytest's `caplog`. Other errors are
ConfigError for settings, HookError for wrong answers. `atell` is for tests that are async themselves (asyncio).
"""

from __future__ import annotations

import asyncio
import io
import logging
import os
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import anyio.to_thread

from tusd_py.errors import ConfigError
from tusd_py.hooks import finding
from tusd_py.hooks import settings as filling
from tusd_py.hooks.contract import (
    EVENT_CLASSES,
    EVENTS,
    Access,
    Answer,
    Event,
    Hook,
    HookError,
    PreAccess,
    Request,
    Response,
    Upload,
)
from tusd_py.hooks.inprocess import HandlerRaised, InProcess

__all__ = ["Answer", "ConfigError", "HookError", "Response", "Sample", "atell", "load", "sample", "tell"]

_NAME = "sample"
_PIECE_BYTES = 1 << 20
_NO_ID_YET = ("pre-access", "pre-create")
_NO_BYTES_YET = ("pre-create", "post-create")


@dataclass(frozen=True, slots=True)
class Sample:
    """An event of an upload, and where its bytes are: in memory, or in the file `path`, however large it is."""

    event: Event
    data: bytes = b""
    path: Path | None = None

    @property
    def length(self) -> int:
        return len(self.data) if self.path is None else self.path.stat().st_size

    async def pieces(self, start: int, end: int) -> AsyncIterator[bytes]:
        file = await anyio.to_thread.run_sync(self._open)
        try:
            await anyio.to_thread.run_sync(file.seek, start)
            while start < end:
                piece = await anyio.to_thread.run_sync(file.read, min(_PIECE_BYTES, end - start))
                if not piece:
                    return
                start += len(piece)
                yield piece
        finally:
            file.close()

    def _open(self) -> BinaryIO:
        return io.BytesIO(self.data) if self.path is None else self.path.open("rb")


def sample(
    event: str,
    data: bytes | str = b"",
    *,
    path: str | os.PathLike[str] | None = None,
    length: int | None = None,
    headers: Mapping[str, str | Sequence[str]] | None = None,
    remote_address: str = "127.0.0.1:50000",
    mode: str = "read",
    **metadata: str,
) -> Sample:
    """An event as a server would tell it: `metadata` is what the client says, such as filename="a.csv".

    The upload consists of `data` (text is taken as UTF-8), or of the file at `path`, which is not loaded. `length` is
    for an upload that is announced as long as that, and has no bytes yet. `headers` are those of the client's request,
    `mode` is what it wants at pre-access: read, write or list. For all else take `dataclasses.replace` to its event.
    """
    if event not in EVENTS:
        raise ValueError(f"there is no event {event!r}; there are {', '.join(EVENTS)}")
    file = None if path is None else Path(path)
    if file is not None and data:
        raise ValueError("an upload is either `data` or the file at `path`, not both")
    content = data.encode() if isinstance(data, str) else data
    size = len(content) if file is None else file.stat().st_size
    known = event not in _NO_ID_YET
    upload = Upload(
        id=_NAME if known else "",
        length=size if length is None else length,
        offset=0 if event in _NO_BYTES_YET else size,
        metadata=metadata,
        storage={"Type": "filestore", "Path": str(file)} if known and file is not None else {},
        created_at=time.time() if known else 0.0,
    )
    method, uri = _request_of(event, mode)
    told = {name: (value,) if isinstance(value, str) else tuple(value) for name, value in (headers or {}).items()}
    request = Request(method, uri, remote_address, told)
    if event == PreAccess.TYPE:
        return Sample(PreAccess(upload, request, access=Access(mode, (upload,))), content, file)
    key = f"{_NAME}:{event}:{_NAME}" if event.startswith("post-") else ""
    return Sample(EVENT_CLASSES[event](upload, request, key), content, file)


def tell(hook: Hook, told: Sample | Event, settings: object = None) -> Answer:
    """What the hook answers. `settings`: a mapping, checked as the server checks it, or an instance of its class."""
    __tracebackhide__ = True
    if _is_in_loop():
        raise RuntimeError("tell is for plain tests; in an async one: await atell(...)")
    outcome = asyncio.run(_outcome(*_made(hook, told, settings)))
    if isinstance(outcome, BaseException):
        raise outcome  # here, so that its traceback is the test's and the hook's own
    return outcome


async def atell(hook: Hook, told: Sample | Event, settings: object = None) -> Answer:
    """`tell`, for async tests under asyncio."""
    __tracebackhide__ = True
    outcome = await _outcome(*_made(hook, told, settings))
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


def load(path: str | os.PathLike[str]) -> Hook:
    """The hook of a file or of a package's folder, loaded as the server does it."""
    return finding.find(os.path.abspath(path))[1]


def _made(hook: Hook, told: Sample | Event, settings: object) -> tuple[InProcess, Event]:
    given = told if isinstance(told, Sample) else Sample(told)
    listens = sorted({each.event for each in hook.handlers}, key=EVENTS.index)
    if given.event.type not in listens:
        raise ValueError(f"the hook does not listen to {given.event.type}, but to {', '.join(listens) or 'nothing'}")
    logging.getLogger(f"tusd_py.hooks.{_NAME}").setLevel(logging.DEBUG)
    return InProcess(_NAME, hook, _settings(hook, settings), lambda _upload: given), given.event


async def _outcome(transport: InProcess, event: Event) -> Answer | BaseException:
    """The answer, or what was raised instead."""
    try:
        return await transport.call(event)
    except HandlerRaised as error:
        return error.__cause__ or error
    except HookError as error:
        return error
    finally:
        await transport.aclose()


def _is_in_loop() -> bool:
    with suppress(RuntimeError):
        asyncio.get_running_loop()
        return True
    return False


def _settings(hook: Hook, given: object) -> object:
    if hook.settings is None:
        if given:
            raise ConfigError("the hook has no settings: Hook(Settings) declares them")
        return None
    if isinstance(given, hook.settings):
        return given
    if given is None or isinstance(given, Mapping):
        return filling.fill(hook.settings, given or {}, "settings")
    raise TypeError(f"settings are a mapping or a {hook.settings.__name__}, not of type {type(given).__name__}")


def _request_of(event: str, mode: str) -> tuple[str, str]:
    if event in ("pre-create", "post-create"):
        return "POST", "/files/"
    if event == "pre-access" and mode != "write":
        return "GET", "/files/" if mode == "list" else f"/files/{_NAME}"
    return ("DELETE" if "terminate" in event else "PATCH"), f"/files/{_NAME}"
