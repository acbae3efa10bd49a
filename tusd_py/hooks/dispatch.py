"""Which hooks are asked and told, in which order, for how long, and what is done when one fails.

It is the `core.events.Hooks` of a process. How a hook is reached is left to its transport; what is told afterwards goes
into a queue, from which workers take it and give it back to `deliver`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from tusd_py.core.body import Body
from tusd_py.core.events import NO_CALLER, AccessMode, Caller, EventType, Reply
from tusd_py.core.jobs import Job, Queue
from tusd_py.core.observer import NOBODY, Observer
from tusd_py.core.ports import Places, StoredUpload
from tusd_py.core.upload import Upload, UploadId
from tusd_py.errors import HookFailed, Refused
from tusd_py.hooks import contract, records, wire
from tusd_py.hooks.contract import EVENT_CLASSES, Access, Answer, Event, HookError, PreAccess
from tusd_py.hooks.outbox import Outbox
from tusd_py.hooks.progress import Progress
from tusd_py.hooks.transport import Transport
from tusd_py.logs import event as log_event

log = logging.getLogger("tusd_py.hooks")

_REMEMBERED = (EventType.POST_CREATE, EventType.POST_FINISH)
"""What a store can tell of again. In this order."""

_MOST_CREATED = 10_000
_KNOWN_SECONDS = 6 * 24 * 3600.0
"""For so long, surely, a queue knows what it had."""

_LEAST_REFUSAL = 400
_REFUSALS = {  # tusd's, and ours for what it does not have
    EventType.PRE_ACCESS: ("ERR_ACCESS_REJECTED", 403, "a hook of this server does not allow it"),
    EventType.PRE_CREATE: ("ERR_UPLOAD_REJECTED", 400, "upload creation has been rejected by server"),
    EventType.PRE_FINISH: ("ERR_UPLOAD_REJECTED", 400, "the finished upload has been rejected by server"),
    EventType.PRE_TERMINATE: (
        "ERR_UPLOAD_TERMINATION_REJECTED", 400, "upload termination has been rejected by server",
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Listener:
    """One hook as the operator wants it. A client waits for it `timeout_seconds` at most, and a job takes
    `job_timeout_seconds`. `is_required`: when it fails, what it was asked about does not happen. `concurrency`: of its
    jobs, so many at once in each worker."""

    transport: Transport
    timeout_seconds: float = 15.0
    job_timeout_seconds: float = 3600.0
    is_required: bool = True
    concurrency: int = 8

    @property
    def name(self) -> str:
        return self.transport.name


class Dispatcher:
    """`listeners` in the order in which they are asked; their names are all different."""

    def __init__(
        self,
        listeners: Sequence[Listener],
        queue: Queue,
        places: Places,
        *,
        progress_seconds: float = 1.0,
        observer: Observer = NOBODY,
    ) -> None:
        self._listeners = {each.name: each for each in listeners}
        self._listening = {
            event: tuple(each for each in listeners if event in each.transport.events) for event in EventType
        }
        self._queue = queue
        self._outbox = Outbox(queue)
        self._places = places
        self._observer = observer
        self._created: OrderedDict[UploadId, None] = OrderedDict()  # by this process, and the queue was told
        self._progress = Progress(self._ask_about_progress, progress_seconds)

    async def start(self) -> None:
        """Raises ConfigError for a hook that cannot work."""
        for listener in self._listeners.values():
            await listener.transport.start()
            events = listener.transport.events
            if events:
                log_event(
                    log, "HookReady", hook=listener.name, events=", ".join(each for each in EventType if each in events)
                )
            else:
                advice = "it listens to no event: see --hooks-enabled-events"
                log_event(log, "HookHearsNothing", level=logging.WARNING, hook=listener.name, advice=advice)

    async def aclose(self) -> None:
        await self._progress.aclose()
        await self._outbox.aclose()
        for listener in self._listeners.values():
            await listener.transport.aclose()

    @property
    def concurrency(self) -> dict[str, int]:
        """How many jobs a worker may run at once, by hook."""
        return {each.name: each.concurrency for each in self._listeners.values()}

    # core.events.Hooks

    def wants(self, event: EventType) -> bool:
        return bool(self._listening[event])

    async def ask(
        self, event: EventType, upload: Upload | None, caller: Caller, mode: AccessMode | None = None
    ) -> Upload | None:
        for listener in self._listening[event]:
            answer = await self._ask(listener, event, upload, caller, mode)
            if answer is None:
                continue
            reply, upload = answer.reply, answer.upload
            if answer.is_rejected:
                refusal = _refusal(event, reply)
                reason, upload_id = refusal.body or None, upload.id if upload is not None else None
                log_event(log, "HookRejected", hook=listener.name, type=event, id=upload_id, reason=reason)
                raise refusal
            caller.add(reply)
        return upload

    async def tell(self, event: EventType, upload: Upload, caller: Caller) -> None:
        jobs = self._jobs(event, upload, caller)
        if event is EventType.POST_CREATE:
            if self._outbox.add(jobs):
                self._created[upload.id] = None
                if len(self._created) > _MOST_CREATED:
                    self._created.popitem(last=False)
        elif event is EventType.POST_FINISH:
            # That it was made may have been lost since: by a crash, with the queue, or for want of room.
            is_known = self._created.pop(upload.id, upload) is None
            if not is_known and time.time() - upload.created_at < _KNOWN_SECONDS:
                jobs = self._jobs(EventType.POST_CREATE, upload, NO_CALLER) + jobs
            self._outbox.add(jobs)
        else:
            await self._queue.put(jobs)

    async def remind(self, uploads: Sequence[Upload]) -> set[UploadId]:
        jobs = [job for each in uploads for event in _REMEMBERED for job in self._jobs(event, each, NO_CALLER)]
        await self._outbox.sent()
        return await self._queue.put_again(jobs)

    def forget_told(self) -> None:
        """The queue has lost what it was told."""
        self._created.clear()

    async def forget(self, upload_id: UploadId) -> None:
        await self._outbox.drop(upload_id)
        # Its end may have been told already, by who tried before, or by one that had its id.
        await self._queue.cancel(upload_id, EventType.POST_TERMINATE)

    def watch(self, stored: StoredUpload, body: Body, caller: Caller) -> AbstractContextManager[None]:
        return self._progress.watch(stored, body, caller)

    # For workers.

    async def deliver(self, job: Job) -> None:
        """Tell a hook what it is owed. Raises HookError when that must be tried again."""
        listener = self._listeners.get(job.hook)
        if listener is None:
            raise HookError(f"there is no hook {job.hook!r}; start with it, or drop the job")
        try:
            event = wire.decode_event(job.payload)
        except ValueError as error:
            raise HookError(f"the job cannot be read: {error}", is_final=True) from error
        await self._call(listener, event, listener.job_timeout_seconds)

    # Steps.

    async def _ask(
        self, listener: Listener, event_type: EventType, upload: Upload | None, caller: Caller, mode: AccessMode | None
    ) -> _Said | None:
        """What a hook says, in words of the core; None where it failed and that does not matter."""
        event = self._event(event_type, upload, caller, mode)
        try:
            answer = await self._call(listener, event, listener.timeout_seconds)
            if event_type is EventType.PRE_CREATE and answer.change is not None and upload is not None:
                upload = records.changed(upload, answer.change, self._places)
            return _Said(answer.is_rejected, records.reply_of(answer.response), upload)
        except HookError as error:
            log_event(
                log,
                "HookFailed",
                level=logging.ERROR,
                hook=listener.name,
                type=event_type,
                id=upload.id if upload is not None else None,
                reason=error,
                goes_on=not listener.is_required,
            )
            if listener.is_required:
                raise HookFailed("a check that has to be passed first did not answer; try again later") from error
            return None

    async def _call(self, listener: Listener, event: Event, limit_seconds: float) -> Answer:
        began_at = time.monotonic()
        has_failed = True
        try:
            async with asyncio.timeout(limit_seconds):
                answer = await listener.transport.call(event)
            has_failed = False
            return answer
        except TimeoutError:
            raise HookError(f"no answer within {limit_seconds:g} s") from None
        finally:
            self._observer.hook_ended(event.type, time.monotonic() - began_at, has_failed=has_failed)

    async def _ask_about_progress(self, upload: Upload, caller: Caller) -> Reply | None:
        """What the client is told if a hook wants the upload stopped; None: it goes on."""
        for listener in self._listening[EventType.POST_RECEIVE]:
            event = self._event(EventType.POST_RECEIVE, upload, caller)
            try:
                answer = await self._call(listener, event, listener.timeout_seconds)
                reply = records.reply_of(answer.response)
            except HookError as error:
                level = logging.ERROR
                log_event(
                    log, "HookFailed", level=level, hook=listener.name, type=event.type, id=upload.id, reason=error
                )
                continue
            if answer.is_stopped:
                log_event(log, "HookStopUpload", hook=listener.name, id=upload.id)
                return reply or Reply()
            caller.add(reply)
        return None

    def _event(
        self, event_type: EventType, upload: Upload | None, caller: Caller, mode: AccessMode | None = None
    ) -> Event:
        request = records.describe_request(caller)
        if event_type is EventType.PRE_CREATE and upload is not None:
            return EVENT_CLASSES[event_type](records.describe_new(upload), request)
        told = records.describe(upload, self._places.storage(upload)) if upload is not None else None
        if event_type is EventType.PRE_ACCESS:
            access = Access(mode or AccessMode.READ, (told,) if told is not None else ())
            return PreAccess(told or _NO_UPLOAD, request, access=access)
        return EVENT_CLASSES[event_type](told or _NO_UPLOAD, request)

    def _jobs(self, event_type: EventType, upload: Upload, caller: Caller) -> list[Job]:
        return [self._job(each, event_type, upload, caller) for each in self._listening[event_type]]

    def _job(self, listener: Listener, event_type: EventType, upload: Upload, caller: Caller) -> Job:
        key = records.key_of(upload, event_type, listener.name)
        event = replace(self._event(event_type, upload, caller), key=key)
        return Job(key, upload.id, event_type, listener.name, wire.encode_event(event))


_NO_UPLOAD = contract.Upload()


@dataclass(frozen=True, slots=True)
class _Said:
    is_rejected: bool
    reply: Reply | None
    upload: Upload | None


def _refusal(event: EventType, reply: Reply | None) -> Refused:
    code, status, message = _REFUSALS[event]
    if reply is None:
        return Refused(message, code=code, status=status)
    status = reply.status if reply.status >= _LEAST_REFUSAL else status
    return Refused(message, code=code, status=status, headers=reply.headers, body=reply.body)
