"""A hook whose handlers run in this process: async ones in the loop, plain ones in threads. Owns what they are given,
what of their answers is taken, and how answers of several handlers become one. Whatever a handler raises is a HookError
to whoever called, also what would end a process. How long a call may take is left to whoever calls.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import Any

import anyio

from tusd_py import logs
from tusd_py.core.events import EventType, Reply
from tusd_py.hooks.contract import GO_ON, Answer, Change, Event, Handler, Hook, HookError, Response, Upload
from tusd_py.hooks.reading import AsyncStream, Bytes, ThreadStream
from tusd_py.hooks.threads import Errand, Threads

_log = logging.getLogger(__name__)

_ALLOWED: Mapping[str, tuple[str, ...]] = {
    "pre-access": ("reject",),
    "pre-create": ("reject", "change", "respond"),
    "post-receive": ("stop", "respond"),
    "pre-finish": ("reject", "respond"),
    "pre-terminate": ("reject",),
}


GRACE_SECONDS = 1.0
"""What an async handler has, when its time is up, to end."""


_CLOSED = "it raised GeneratorExit"  # which, as it is, would mean that we are being closed


class HandlerRaised(HookError):
    """A handler raised something else than HookError: that is its cause."""


class InProcess:
    """The `Transport` to a `contract.Hook`. `settings` is what `settings.fill` made of the hook's class, or None.

    `open_stream` gives the bytes of an upload; it is called for handlers that ask for them, and must not wait.
    """

    def __init__(
        self, name: str, hook: Hook, settings: object, open_stream: Callable[[Upload], Bytes], *, threads: int = 16
    ) -> None:
        self.name = name
        self.events = frozenset(EventType(each.event) for each in hook.handlers)
        self._handlers = tuple(hook.handlers)
        self._settings = settings
        self._open_stream = open_stream
        self._threads = Threads(name, threads)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._handlers_log = logging.getLogger(f"tusd_py.hooks.{name}")

    @property
    def abandoned(self) -> int:
        """How many plain functions still run for which nobody waits any more; each holds a thread."""
        return self._threads.abandoned

    async def start(self) -> None:
        """Nothing needs to be started."""

    async def aclose(self) -> None:
        self._threads.close()

    async def call(self, event: Event) -> Answer:
        whole = GO_ON
        for handler in self._handlers:
            if handler.event != event.type:
                continue
            answer = checked(await self._run(handler, event), handler, self.name)
            if answer.is_rejected or answer.is_stopped:
                return answer  # alone: what was to be said with a success does not fit
            whole = _both(whole, answer)
            if answer.change is not None:
                event = changed(event, answer.change)
        return whole

    async def _run(self, handler: Handler, event: Event) -> object:
        name = _name(handler)
        task = asyncio.current_task()
        try:
            return await self._answer(handler, event)
        except HookError:
            raise
        except BaseException as raised:
            # What would end a process or its tasks ends a handler only, unless it was us who were cancelled.
            is_ours = isinstance(raised, asyncio.CancelledError) and task is not None and task.cancelling() > 0
            if is_ours or isinstance(raised, GeneratorExit):
                raise
            error = raised.__cause__ if isinstance(raised.__cause__, StopIteration) else raised  # PEP 479 wraps it
            logs.event(
                _log,
                "HookRaised",
                level=logging.ERROR,
                error=_without_ours(error),
                hook=self.name,
                function=name,
                type=event.type,
                id=event.upload.id or None,
            )
            raise HandlerRaised(_told(error)) from error

    async def _answer(self, handler: Handler, event: Event) -> object:
        if "stream" not in handler.parameters:
            return await self._invoke(handler, event, None)
        stream = AsyncStream(self._open_stream(event.upload))
        try:
            return await self._invoke(handler, event, stream)
        finally:
            await stream.aclose()

    async def _invoke(self, handler: Handler, event: Event, stream: AsyncStream | None) -> object:
        given: dict[str, Any] = {
            "event": event,
            "upload": event.upload,
            "request": event.request,
            "settings": self._settings,
            "stream": stream,
            "log": self._handlers_log,
        }
        arguments = {name: given[name] for name in handler.parameters}
        if _is_async(handler):
            return await self._apart(handler, arguments)

        def function(errand: Errand) -> object:
            if stream is not None:
                arguments["stream"] = ThreadStream(stream, errand)
            try:
                return handler.function(**arguments)
            except GeneratorExit as error:
                raise RuntimeError(_CLOSED) from error

        return await self._threads.run(_name(handler), function)

    async def _apart(self, handler: Handler, arguments: Mapping[str, Any]) -> object:
        """What an async handler returns or raises. It has a task of its own, so that one that swallows its cancellation
        or cancels its task holds nobody: it is abandoned."""

        async def work() -> tuple[object, BaseException | None]:
            try:
                return await handler.function(**arguments), None
            except BaseException as error:  # of whatever kind: a loop would end of some
                return None, RuntimeError(_CLOSED) if isinstance(error, GeneratorExit) else error

        task = asyncio.create_task(work())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            await asyncio.wait([task])
        except BaseException:
            task.cancel()
            with anyio.CancelScope(shield=True):
                await asyncio.wait([task], timeout=GRACE_SECONDS)
            if not task.done():
                advice = "it swallows CancelledError and goes on for ever: let it raise that again"
                name = _name(handler)
                logs.event(_log, "HookAbandoned", level=logging.WARNING, hook=self.name, function=name, advice=advice)
            raise
        answer, error = task.result()
        if error is not None:
            raise error
        return answer


def changed(event: Event, change: Change) -> Event:
    """The event, with the upload as it becomes by this change."""
    parts: dict[str, Any] = {"id": change.id, "metadata": change.metadata, "storage": change.storage}
    given = {name: value for name, value in parts.items() if value is not None}
    return replace(event, upload=replace(event.upload, **given))


def checked(answer: object, handler: Handler, hook: str) -> Answer:
    """What a handler returned, if it is an answer that its event allows. Raises HookError saying what would be."""
    allowed = _ALLOWED.get(handler.event, ())
    where = f"{_name(handler)} of hook {hook}"
    may = f"at {handler.event} it may answer None" + "".join(f", {word}(...)" for word in allowed)
    if answer is None:
        return GO_ON
    if not isinstance(answer, Answer):
        if inspect.isawaitable(answer) or inspect.isasyncgen(answer):
            close = getattr(answer, "close", None)
            if close is not None:
                close()  # else Python warns that nobody awaited it
            raise HookError(f"{where} gave something to await; make it an async function that returns its answer")
        hint = f"; call it: return {_name_of(answer)}(...)" if callable(answer) else ""
        raise HookError(f"{where} answered {_shown(answer)}{hint}; {may}")
    for word in _words(answer):
        if word not in allowed:
            raise HookError(f"{where} answered {word}(...); {may}")
    for wrong in (*_wrong_in_response(answer.response), *_wrong_in_change(answer.change)):  # types may lie
        raise HookError(f"{where}: {wrong}")
    return answer


def _words(answer: Answer) -> Iterable[str]:
    if answer.is_rejected:
        yield "reject"
    if answer.is_stopped:
        yield "stop"
    if answer.change is not None:
        yield "change"
    elif answer.response is not None and not (answer.is_rejected or answer.is_stopped):
        yield "respond"


def _wrong_in_response(response: Response | None) -> Iterable[str]:
    if response is None:
        return
    status: Any = response.status
    body: Any = response.body
    if type(status) is not int or (status and not 200 <= status <= 599):
        yield f"status is {_shown(status)}; it is a whole number from 200 to 599"
    if not isinstance(body, str):
        yield f"the body is {_shown(body)}; it is text (of other values: json.dumps)"
    if not _is_texts(response.headers):
        yield "the headers are not texts by their names, as in headers={'Retry-After': '60'}"


def _wrong_in_change(change: Change | None) -> Iterable[str]:
    if change is None:
        return
    upload_id: Any = change.id
    if upload_id is not None and not isinstance(upload_id, str):
        yield f"the id is {_shown(upload_id)}; it is text"
    if change.metadata is not None and not _is_texts(change.metadata):
        yield "the metadata are not texts by their names, as in metadata={'filename': 'a.csv'}"
    if change.storage is not None and not _is_texts(change.storage):
        yield "the storage is not texts by their names, as in storage={'Path': 'a.csv'}"


def _is_texts(given: object) -> bool:
    return isinstance(given, Mapping) and all(
        isinstance(name, str) and isinstance(value, str) for name, value in given.items()
    )


def _both(first: Answer, later: Answer) -> Answer:
    """Of two answers that let it happen; where both say something the later one wins."""
    return Answer(response=_both_responses(first.response, later.response), change=_both_changes(first, later))


def _both_responses(first: Response | None, later: Response | None) -> Response | None:
    if first is None or later is None:
        return later or first
    reply = _reply(first).then(_reply(later))
    return Response(reply.status, reply.headers, reply.body)


def _reply(response: Response) -> Reply:
    return Reply(response.status, response.headers, response.body)


def _both_changes(first: Answer, later: Answer) -> Change | None:
    a, b = first.change, later.change
    if a is None or b is None:
        return b or a
    return Change(
        a.id if b.id is None else b.id,
        a.metadata if b.metadata is None else b.metadata,
        a.storage if b.storage is None else b.storage,
    )


def _is_async(handler: Handler) -> bool:
    """Also of an object whose __call__ is async."""
    return handler.is_async or inspect.iscoroutinefunction(getattr(handler.function, "__call__", None))  # noqa: B004


def _name(handler: Handler) -> str:
    return _name_of(handler.function)


def _name_of(function: object) -> str:
    if isinstance(function, partial):
        return _name_of(function.func)
    return str(getattr(function, "__name__", type(function).__name__))


def _shown(value: object) -> str:
    text = repr(value)
    return f"{text if len(text) <= 100 else text[:100] + '...'} ({type(value).__name__})"


def _told(error: BaseException) -> str:
    """What went wrong, in a line. Of a group of one: that one, as task groups wrap whatever is raised in them."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    message = " ".join(str(error).split())
    if isinstance(error, StopIteration) and not message:
        message = "next() found nothing more"
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def _without_ours(error: BaseException) -> BaseException:
    """The traceback begins where the hook does."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None and trace.tb_frame.f_code.co_filename in _OURS:
        trace = trace.tb_next
    return error.with_traceback(trace)


_OURS = (__file__, inspect.getfile(Threads), inspect.getfile(Future))
