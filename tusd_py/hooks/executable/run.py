"""One run of a program, in a session of its own: it is written to, listened to, waited for, and killed with all of its
process group if it is not to go on. A child that makes a session of its own (setsid) escapes; so it is meant to.

Works with descriptors: asyncio and uvloop give a process a socket as standard input, which cannot be opened again by
`cat /dev/stdin`; and they reap it at once, so that its number may be somebody else's when its group has to be killed.
What an answer means is left to `program`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
from collections.abc import Callable
from typing import TypeVar

import anyio

from tusd_py.hooks.executable.words import Words
from tusd_py.logs import event as log_event

_log = logging.getLogger(__name__)

Process = subprocess.Popen[bytes]
T = TypeVar("T")

GRACE_SECONDS = 0.5
"""Between SIGTERM and SIGKILL; and so long is waited for what the latter does."""

_LOOK_SECONDS = 0.02
_PIECE_BYTES = 64 << 10


async def undisturbed(future: asyncio.Future[T]) -> T:
    """The result of what must not be left half done; a cancellation is delivered after it."""
    cancelled: asyncio.CancelledError | None = None
    # Two kinds of cancellation: anyio's scopes would deliver theirs again and again, a task's comes once.
    with anyio.CancelScope(shield=True):
        while not future.done():
            try:
                await asyncio.wait([future])
            except asyncio.CancelledError as error:
                cancelled = error
    if cancelled is not None:
        raise cancelled
    return future.result()


class Run:
    """`over` is done when the process ended and its standard output is closed, or when it wrote too much there. Then,
    or when nobody wants to wait any longer, `stop` is awaited; then `output`, `exit_code` and `words` are final."""

    def __init__(self, process: Process, content: bytes, words: Words, max_output_bytes: int) -> None:
        assert process.stdin is not None  # noqa: S101
        assert process.stdout is not None  # noqa: S101
        self.words = words
        self.output = bytearray()
        self.is_too_much = False
        self._loop = asyncio.get_running_loop()
        self.over: asyncio.Future[None] = self._loop.create_future()
        self._process = process
        self._stdin = process.stdin
        self._stdout = process.stdout
        self._left = memoryview(content)
        self._max_output_bytes = max_output_bytes
        self._has_ended = False
        self._is_stopped = False
        for pipe in (self._stdin, self._stdout):
            os.set_blocking(pipe.fileno(), False)
        self._loop.add_reader(self._stdout.fileno(), self._read)
        self._write()
        self._watch()

    @property
    def exit_code(self) -> int:
        """As of subprocess; below 0 the number of the signal that ended it."""
        return self._process.returncode

    @property
    def _is_over(self) -> bool:
        """Who no longer waits for `over` has cancelled it, so that it does not tell."""
        return self.is_too_much or (self._has_ended and self._stdout.closed)

    async def stop(self) -> None:
        """Kill what is not over, then give back what the run holds. Takes about twice the grace at most."""
        is_killed = self.is_too_much or not self._is_over
        try:
            if is_killed:
                with anyio.CancelScope(shield=True):
                    await self._kill()
        finally:
            self._is_stopped = True
            self._close_stdin()
            self._close_stdout()
            self.words.end(is_killed=is_killed)
            if self._has_ended:
                self._process.poll()  # now its number may be used again

    # What comes and goes.

    def _write(self) -> None:
        try:
            while self._left:
                self._left = self._left[os.write(self._stdin.fileno(), self._left) :]
        except BlockingIOError:
            self._loop.add_writer(self._stdin.fileno(), self._write)
            return
        except BrokenPipeError:  # it does not want to know: nobody has to
            pass
        self._close_stdin()

    def _read(self) -> None:
        try:
            data = os.read(self._stdout.fileno(), _PIECE_BYTES)
        except BlockingIOError:
            return
        self.output += data
        self.is_too_much = len(self.output) > self._max_output_bytes
        if self.is_too_much or not data:
            self._close_stdout()

    def _close_stdin(self) -> None:
        if not self._stdin.closed:
            self._loop.remove_writer(self._stdin.fileno())
            self._stdin.close()

    def _close_stdout(self) -> None:
        if not self._stdout.closed:
            self._loop.remove_reader(self._stdout.fileno())
            self._stdout.close()
            self._look_whether_over()

    def _look_whether_over(self) -> None:
        if self._is_over and not self.over.done():
            self.over.set_result(None)

    # Its end.

    def _watch(self) -> None:
        """For the end of the process, which stays a zombie until the run is over."""
        try:
            descriptor = os.pidfd_open(self._process.pid)
        except (AttributeError, OSError):  # not Linux; or there are too many descriptors
            self._look_for_end()
        else:
            self._loop.add_reader(descriptor, self._end, descriptor)

    def _look_for_end(self) -> None:
        if os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            self._loop.call_later(_LOOK_SECONDS, self._look_for_end)
        else:
            self._end()

    def _end(self, descriptor: int | None = None) -> None:
        if descriptor is not None:
            self._loop.remove_reader(descriptor)
            os.close(descriptor)
        self._has_ended = True
        if self._is_stopped:  # SIGKILL took its time
            self._process.poll()
        self._look_whether_over()

    async def _kill(self) -> None:
        """With a grace, but for who cancels its task once more."""
        self._signal(signal.SIGTERM)
        is_gone = False
        try:
            is_gone = await self._happens(self._is_gone)
        finally:
            if not is_gone:
                self._signal(signal.SIGKILL)
        if is_gone or await self._happens(lambda: self._has_ended):
            return
        advice = "the system does not end it: see what it waits for, such as a disk that hangs"
        pid = self._process.pid
        log_event(_log, "HookNotEnded", level=logging.ERROR, hook=self.words.hook, pid=pid, advice=advice)

    async def _happens(self, is_so: Callable[[], bool]) -> bool:
        """Whether, within the grace. Looks now and again, since nobody tells of the end of a group."""
        until = self._loop.time() + GRACE_SECONDS
        while not is_so() and self._loop.time() < until:
            await asyncio.sleep(_LOOK_SECONDS)
        return is_so()

    def _is_gone(self) -> bool:
        """Whether nobody is left in the group. Orphans that nobody reaps, as in a container without an init, are."""
        if self._has_ended:
            self._process.poll()  # from here on, only while the group is watched, its number might be used again
        return not self._signal(0)

    def _signal(self, number: int) -> bool:
        """Whether there is anybody in the group."""
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            return False
        except PermissionError:  # they are another user's now
            return True
        return True
