"""The way to a hook that is an executable: each event starts it anew, with the event as JSON on standard input, TUS_ID,
TUS_SIZE and TUS_OFFSET beside the server's environment, and its own folder as the working directory, all as in tusd.
Its answer counts when it ended with exit code 0 and, as in tusd, nobody holds its standard output any more: what is
to go on in the background lets go of that (`work > /dev/null &`), and then goes on. How a run goes is left to `run`.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import signal
import subprocess
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tusd_py.core.events import EventType
from tusd_py.hooks.contract import GO_ON, Answer, Event, HookError
from tusd_py.hooks.executable.run import Process, Run, undisturbed
from tusd_py.hooks.executable.words import Words
from tusd_py.hooks.wire import decode_answer, encode_event
from tusd_py.logs import Seldom
from tusd_py.logs import event as log_event

_log = logging.getLogger(__name__)

MOST_OUTPUT_BYTES = 1 << 20
"""tusd knows no limit here. An answer may give back all metadata, which fill a head of 64 KiB and six times that as
JSON, and a page for the client; more than this is no answer but something that went wrong."""

_MOST_LISTENED = 64
_MOST_FIRST_LINE_BYTES = 128


class Executable:
    """A `transport.Transport`. `path` is absolute, `environment` what its processes get beside the three of tusd."""

    def __init__(
        self,
        name: str,
        path: Path,
        events: frozenset[EventType],
        environment: Mapping[str, str],
        max_output_bytes: int = MOST_OUTPUT_BYTES,
    ) -> None:
        self.path = path
        self._name = name
        self._events = events
        self._environment = environment
        self._max_output_bytes = max_output_bytes
        # One thread: the interpreter stands still while a process is started, so more would start none sooner.
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="tusd-py-hook")
        self._listened: dict[Words, None] = {}  # of processes in the background, the oldest first
        self._vanished = Seldom()

    @property
    def name(self) -> str:
        return self._name

    @property
    def events(self) -> frozenset[EventType]:
        return self._events

    async def start(self) -> None:
        """Nothing: a program that cannot run now may be mended before it is needed."""

    async def call(self, event: Event) -> Answer:
        upload = event.upload
        variables = {"TUS_ID": upload.id, "TUS_SIZE": str(upload.length or 0), "TUS_OFFSET": str(upload.offset)}
        starting = asyncio.get_running_loop().run_in_executor(self._starter, self._start, variables)
        try:
            process = await undisturbed(starting)
        except asyncio.CancelledError:
            if not starting.exception() and (process := starting.result()) is not None:
                await self._run(process, upload.id, b"").stop()
            raise
        if process is None:
            return self._pass_over()
        run = self._run(process, upload.id, encode_event(event))
        try:
            await run.over
        finally:
            await run.stop()
        self._check(run)
        return decode_answer(bytes(run.output), event.type)

    async def aclose(self) -> None:
        for words in list(self._listened):
            words.close()
        self._starter.shutdown(wait=False)

    # Starting.

    def _start(self, variables: dict[str, str]) -> Process | None:
        """In a thread. None if there is no such program (any more)."""
        try:
            return subprocess.Popen(  # noqa: S603  (what the operator put there)
                [self.path],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=self.path.parent,
                env={**self._environment, **variables},
                start_new_session=True,
            )
        except OSError as error:
            if isinstance(error, FileNotFoundError) and not self.path.exists():
                return None
            raise HookError(f"{self.path} cannot be started: {self._reason(error)}") from error

    def _reason(self, error: OSError) -> str:
        match error.errno:
            case errno.ENOENT:
                return f"it needs a program that is not there, see its first line: {self._first_line()}"
            case errno.EACCES:
                return "this server's user may not execute it; chmod +x may help"
            case errno.ENOEXEC:
                return f"it is no program, nor a script that begins with #! and its interpreter: {self._first_line()}"
            case errno.ETXTBSY:
                return "somebody is writing to it; put a new hook in place with mv"
        return error.strerror or str(error)

    def _first_line(self) -> str:
        try:
            with self.path.open("rb") as file:
                return repr(file.readline(_MOST_FIRST_LINE_BYTES).removesuffix(b"\n"))[1:]  # shows a \r of Windows
        except OSError as error:
            return f"(cannot be read: {error.strerror})"

    def _run(self, process: Process, upload_id: str, content: bytes) -> Run:
        assert process.stderr is not None  # noqa: S101
        words = Words(process.stderr, self._name, upload_id, self._listen)
        return Run(process, content, words, self._max_output_bytes)

    # Ending.

    def _check(self, run: Run) -> None:
        if run.is_too_much:
            raise HookError(
                f"it wrote more than {self._max_output_bytes} bytes to standard output, which is for the answer only,"
                " and was killed; other words belong on standard error"
            )
        code = run.exit_code
        if code == 0:
            return
        last_words = run.words.last or run.output[-run.words.LAST_BYTES :].decode("utf-8", "replace").strip()
        said = f": {last_words}" if last_words else ", without a word"
        if code > 0:
            raise HookError(f"it ended with exit code {code}{said}")
        names = {each.value: each.name for each in signal.Signals}  # not all that there are
        raise HookError(f"it was ended by {names.get(-code, f'signal {-code}')}{said}")

    def _pass_over(self) -> Answer:
        if self._vanished.is_due(None):
            advice = "put it back, or restart the server without it; until then all goes on without asking it"
            log_event(_log, "HookVanished", level=logging.WARNING, hook=self._name, path=str(self.path), advice=advice)
        return GO_ON

    def _listen(self, words: Words, is_open: bool) -> None:
        """To what goes on in the background and still says something; to so many only, each costs a descriptor."""
        if not is_open:
            self._listened.pop(words, None)
            return
        self._listened[words] = None
        if len(self._listened) > _MOST_LISTENED:
            oldest = next(iter(self._listened))
            advice = "it may end of that; what goes on in the background should write to a file of its own"
            log_event(
                _log, "HookUnheard", level=logging.WARNING, hook=self._name, id=oldest.upload_id or None, advice=advice
            )
            oldest.close()
