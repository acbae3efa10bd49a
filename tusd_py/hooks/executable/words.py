"""What a hook says on standard error: its lines become lines of the log, of which one run has a limited number, and
the last of them are kept for whoever says how it ended. Owns that pipe, as long as somebody holds its other end.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from typing import IO

from tusd_py.logs import event as log_event

_log = logging.getLogger(__name__)

_MOST_BYTES = 64 << 10  # of a run that get into the log
_PIECE_BYTES = 4096  # so that the lines of one turn are soon written
_MOST_DRAINED = 32  # pieces; two pipes full


class Words:
    """`listen(words, is_open)` is told when the pipe outlives its run, and when it is closed then."""

    LAST_BYTES = 160  # a value of the log is not much longer

    def __init__(self, pipe: IO[bytes], hook: str, upload_id: str, listen: Callable[[Words, bool], None]) -> None:
        self.upload_id = upload_id
        self.hook = hook
        self._pipe = pipe
        self._listen = listen
        self._is_listened = False
        self._left_bytes = _MOST_BYTES
        self._dropped_bytes = 0
        self._line = b""
        self._last = b""
        self._loop = asyncio.get_running_loop()
        os.set_blocking(pipe.fileno(), False)
        self._loop.add_reader(pipe.fileno(), self._read)

    @property
    def last(self) -> str:
        return self._last.decode("utf-8", "replace").strip()

    def end(self, *, is_killed: bool) -> None:
        """The run is over: take what it said. What goes on in the background may go on to say something."""
        for _ in range(_MOST_DRAINED):
            if self._pipe.closed or not self._read():
                break
        if self._pipe.closed:
            return
        if is_killed:
            self.close()
        else:
            self._is_listened = True
            self._listen(self, True)

    def close(self) -> None:
        if self._pipe.closed:
            return
        self._loop.remove_reader(self._pipe.fileno())
        self._pipe.close()
        self._tell(self._line)
        self._line = b""
        if self._dropped_bytes:
            log_event(
                _log,
                "HookLinesDropped",
                level=logging.WARNING,
                hook=self.hook,
                id=self.upload_id or None,
                bytes=self._dropped_bytes,
                advice="it says more than anybody reads: let it write to a file of its own",
            )
        if self._is_listened:
            self._listen(self, False)

    def _read(self) -> bool:
        """Whether there may be more."""
        try:
            data = os.read(self._pipe.fileno(), _PIECE_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self.close()
            return False
        self._last = (self._last + data)[-self.LAST_BYTES :]
        taken = data[: self._left_bytes]
        self._left_bytes -= len(taken)
        self._dropped_bytes += len(data) - len(taken)
        *lines, self._line = (self._line + taken).split(b"\n")
        for line in lines:
            self._tell(line)
        return True

    def _tell(self, line: bytes) -> None:
        if text := line.decode("utf-8", "replace").rstrip():
            log_event(_log, "HookSaid", hook=self.hook, id=self.upload_id or None, text=text)
