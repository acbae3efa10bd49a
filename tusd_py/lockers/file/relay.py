"""The `core.feed.Relay` of the processes of one machine that share a directory: lines over Unix sockets.

Each process has a socket there. Who wants to hear connects to all others and says `listen`; from then on they send it
their news. A process that is new tells those that are there `new`, and those that listen connect to it. Who reads
slowly hears only the newest of each upload; who does not read, or ends, is hung up on, and connects again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import ClassVar

from tusd_py.core.upload import UploadId
from tusd_py.lockers.file.folder import Folder
from tusd_py.lockers.file.lines import Lines
from tusd_py.logs import Seldom, event

log = logging.getLogger("tusd_py.feed")

_AGAIN_SECONDS = 0.25
_TOUCH_SECONDS = 60.0
_LONGEST_LINE_BYTES = 512 * 1024  # a request's head bounds the metadata, whose escapes are six times as long at most
_LONGEST_BACKLOG_BYTES = 4 * _LONGEST_LINE_BYTES
_LONGEST_WAIT_BYTES = 16 * 1024 * 1024  # news of some 20,000 uploads


class FileRelay:
    """Over the sockets in `directory`, on a local file system. Where that does not work, each process is alone."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._folder = Folder(directory)
        self._server: asyncio.Server | None = None
        self._keeping: asyncio.TimerHandle | None = None
        self._callers: set[Lines] = set()
        self._calls: set[Lines] = set()
        self._audience: set[_Line] = set()
        self._called: dict[str, _Line] = {}
        self._heard: Callable[[bytes], None] | None = None
        self._missed: Callable[[], None] = _nothing
        self._again: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._seldom = Seldom()

    async def start(self) -> None:
        """Be there for the others. Never raises."""
        try:
            await self._be_listed()
            self._folder.sweep()
        except OSError as error:
            self._fail(error)

    async def aclose(self) -> None:
        self.leave()
        if self._keeping is not None:
            self._keeping.cancel()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._folder.close()
        if self._server is not None:
            self._server.close()
        for line in [*self._callers, *self._calls]:
            line.abort()
            await line.is_lost.wait()

    # core.feed.Relay

    @property
    def has_listeners(self) -> bool:
        return bool(self._audience)

    def send(self, upload_id: UploadId, message: bytes) -> None:
        for line in list(self._audience):
            line.tell(upload_id, message.decode("ascii"))

    def listen(self, heard: Callable[[bytes], None], missed: Callable[[], None]) -> None:
        self._heard, self._missed = heard, missed
        self._call_others()
        self._run(self._be_listed())  # in case that the folder was removed

    def leave(self) -> None:
        self._heard, self._missed = None, _nothing
        if self._again is not None:
            self._again.cancel()
            self._again = None
        self._called.clear()
        for line in list(self._calls):
            line.abort()

    # What the lines bring.

    def understood(self, line: _Line, text: str) -> None:
        if line.name is not None:  # one that we called
            if self._heard is not None and self._called.get(line.name) is line:
                self._heard(text.encode())
        elif text == "listen":
            self._audience.add(line)
        elif text == "new" and self._heard is not None:
            self._call_others()

    def lost(self, line: _Line) -> None:
        self._audience.discard(line)
        if line.name is not None and self._called.get(line.name) is line:
            self._missed()
        self._lose(line)

    # Steps.

    def _call_others(self) -> None:
        self._again = None
        for name in self._others():
            if name not in self._called:
                self._called[name] = line = _Line(self, self._calls, name)
                self._run(self._call(line, name, "listen"))

    def _call_again(self) -> None:
        if self._again is None and self._heard is not None:
            self._again = asyncio.get_running_loop().call_later(_AGAIN_SECONDS, self._call_others)

    async def _call(self, line: _Line, name: str, word: str) -> None:
        connection = self._folder.call(name)
        if connection is None:
            self._lose(line)
            return
        try:
            await asyncio.get_running_loop().create_unix_connection(lambda: line, sock=connection)
        except BaseException as error:
            connection.close()
            self._lose(line)
            if not isinstance(error, OSError):
                raise
            return
        line.say(word)
        if line.name is None or self._called.get(line.name) is not line:  # it was only told, or is not needed any more
            line.close()

    def _lose(self, line: _Line) -> None:
        if line.name is not None and self._called.get(line.name) is line:
            del self._called[line.name]
            self._call_again()

    async def _be_listed(self) -> None:
        """Have a socket that the others find, also where somebody removes files, or the whole folder."""
        loop = asyncio.get_running_loop()
        if self._keeping is not None:
            self._keeping.cancel()
        self._keeping = loop.call_later(_TOUCH_SECONDS, lambda: self._run(self._be_listed()))
        if self._folder.touch():
            return
        self._folder.open()
        listener = self._folder.publish()
        if self._server is not None:
            self._server.close()
        self._server = await loop.create_unix_server(lambda: _Line(self, self._callers, None), sock=listener)
        for name in self._others():
            self._run(self._call(_Line(self, self._calls, None), name, "new"))
        if self._heard is not None:
            self._call_others()

    def _others(self) -> list[str]:
        try:
            return self._folder.others()
        except OSError as error:
            self._fail(error)
            return []

    def _run(self, coroutine: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and isinstance(error := task.exception(), OSError):
            self._fail(error)

    def _fail(self, error: OSError) -> None:
        if self._seldom.is_due(error.errno or 0):
            advice = "what other processes do shows only in their answers: is the directory writable?"
            event(
                log,
                "FeedFailed",
                level=logging.WARNING,
                directory=self._directory,
                reason=str(error),
                advice=advice,
            )


class _Line(Lines):
    """`name` is that of the process that we called to hear it; None: it called, or was only told of us."""

    longest_line_bytes: ClassVar[int] = _LONGEST_LINE_BYTES
    longest_backlog_bytes: ClassVar[int] = _LONGEST_BACKLOG_BYTES
    longest_wait_bytes: ClassVar[int] = _LONGEST_WAIT_BYTES

    def __init__(self, relay: FileRelay, lines: set[Lines], name: str | None) -> None:
        super().__init__(lines)
        self.name = name
        self._relay = relay
        self._is_paused = False
        self._waiting: dict[UploadId, str] = {}  # of each upload the newest, while the other side does not read
        self._waiting_bytes = 0

    def tell(self, upload_id: UploadId, line: str) -> None:
        """Say what happened to an upload. It may take the place of what was not said of it yet."""
        if not self._is_paused:
            self.say(line)
            return
        self._waiting_bytes += len(line) - len(self._waiting.pop(upload_id, ""))
        self._waiting[upload_id] = line
        if self._waiting_bytes > self.longest_wait_bytes:
            self.abort()

    def pause_writing(self) -> None:
        self._is_paused = True

    def resume_writing(self) -> None:
        self._is_paused = False
        while self._waiting and not self._is_paused:
            line = self._waiting.pop(next(iter(self._waiting)))
            self._waiting_bytes -= len(line)
            self.say(line)

    def heard(self, line: str) -> None:
        self._relay.understood(self, line)

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._relay.lost(self)


def _nothing() -> None: ...
