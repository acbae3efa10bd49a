"""Hooks at work in one process: who is asked, and the queue and the worker of what they are owed.

A part of the composition root: it opens and closes them in their order. Which hooks there are is `hooking`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Protocol, TypeAlias

from tusd_py.assembly.backends import (
    AnyStore,
    Locker,
    made_own_folder,
    make_locker,
    make_store,
    own_folder,
    start_backends,
)
from tusd_py.assembly.hooking import make_listeners
from tusd_py.config import Config
from tusd_py.core.events import EventType
from tusd_py.core.jobs import Job
from tusd_py.core.observer import NOBODY, Observer
from tusd_py.core.ports import Expires, Places, ServesRanges
from tusd_py.core.upload import UploadId
from tusd_py.errors import BackendError, ConfigError
from tusd_py.hooks.contract import Upload
from tusd_py.hooks.dispatch import Dispatcher, Listener
from tusd_py.jobs.memory import MemoryQueue
from tusd_py.jobs.redis import RedisQueue
from tusd_py.jobs.settler import Settler
from tusd_py.jobs.sqlite import SqliteQueue
from tusd_py.jobs.worker import Beat, Worker
from tusd_py.lockers.redis.address import parse

AnyQueue: TypeAlias = MemoryQueue | SqliteQueue | RedisQueue


class HookStore(Expires, Places, ServesRanges, Protocol):
    """What hooks need of a store."""


def queue_file(config: Config) -> str:
    """Beside what else the processes of this machine share that share uploads."""
    return config.jobs_file or str(own_folder(config) / "jobs.sqlite")


def make_queue(config: Config, on_loss: Callable[[], None] = lambda: None) -> AnyQueue:
    """`on_loss` hears that what is owed is to be found again by the uploads. Raises ConfigError."""
    if config.jobs == "memory":
        return MemoryQueue()
    if config.jobs == "redis":
        return RedisQueue(parse(config.jobs_redis_url or config.redis_url), config.redis_prefix, on_loss=on_loss)
    if not config.jobs_file:
        made_own_folder(config)
    return SqliteQueue(queue_file(config), on_loss=on_loss)


class Deliveries:
    """`queue` is closed with it. `lost` is set when the queue has lost jobs: then `Uploads.sweep` finds them again."""

    def __init__(
        self,
        listeners: Sequence[Listener],
        queue: AnyQueue,
        store: HookStore,
        *,
        progress_seconds: float = 1.0,
        observer: Observer = NOBODY,
    ) -> None:
        self.queue = queue
        self.lost = asyncio.Event()
        self.dispatcher = Dispatcher(listeners, queue, store, progress_seconds=progress_seconds, observer=observer)
        self._settler = Settler(store.settle)

    async def owed(self) -> tuple[dict[str, int], float]:
        """How many jobs there are of each state, and for how long the one that is due for longest is. Raises
        BackendError."""
        counts = {str(state): count for state, count in (await self.queue.counts()).items()}
        return counts, await self.queue.overdue_seconds(list(self.dispatcher.concurrency))

    def tell_loss(self) -> None:
        """The queue has lost jobs."""
        self.dispatcher.forget_told()
        self.lost.set()

    @asynccontextmanager
    async def running(self, *, has_worker: bool, grace_seconds: float) -> AsyncIterator[None]:
        """Hooks can be asked while the context is open; with a worker they hear of what they are owed. Raises
        ConfigError for a hook or a queue that cannot work."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.queue.aclose)
            if not isinstance(self.queue, MemoryQueue):
                await self.queue.start()
            stack.push_async_callback(self._settler.aclose)
            stack.push_async_callback(self.dispatcher.aclose)
            await self.dispatcher.start()
            if has_worker:
                worker = Worker(self.queue, self._run, self.dispatcher.concurrency, settled=self._settle)
                worker.start()
                stack.push_async_callback(worker.stop, grace_seconds)
            yield

    def _settle(self, job: Job) -> None:
        """The last that was owed about an upload, so far. Until it is finished, or while it is not known whether all
        that its end owes is in the queue, it must not be forgotten: the next sweep looks again."""
        if job.event == EventType.POST_FINISH:
            self._settler.add([job.upload_id])

    async def _run(self, job: Job, _beat: Beat) -> None:
        await self.dispatcher.deliver(job)


def make_store_and_deliveries(config: Config, locker: Locker, observer: Observer) -> tuple[AnyStore, Deliveries | None]:
    """The store, and its hooks if there are any: they read from it, and it must wait for those that are to agree."""
    listeners = make_listeners(config, lambda upload: StoredBytes(store, upload))
    is_asked_first = any(EventType.PRE_FINISH in each.transport.events for each in listeners)
    store = make_store(config, locker, is_asked_first=is_asked_first)
    if not listeners:
        return store, None

    def on_loss() -> None:
        deliveries.tell_loss()

    queue = make_queue(config, on_loss)
    seconds = config.progress_hooks_interval
    deliveries = Deliveries(listeners, queue, store, progress_seconds=seconds, observer=observer)
    return store, deliveries


@asynccontextmanager
async def open_deliveries(config: Config) -> AsyncIterator[list[str]]:
    """Hooks and a worker without a server; the names of the hooks. Raises ConfigError."""
    locker = make_locker(config)
    store, deliveries = make_store_and_deliveries(config, locker, NOBODY)
    if deliveries is None:
        raise ConfigError("there are no hooks to tell anything: --hooks, --hooks-dir or --hooks-http name some")
    async with AsyncExitStack() as stack:
        stack.push_async_callback(store.aclose)
        try:
            await start_backends(stack, locker, store)
        except BackendError as error:
            raise ConfigError(f"what uploads need cannot be used just now: {error.message}") from error
        running = deliveries.running(has_worker=True, grace_seconds=config.shutdown_timeout)
        await stack.enter_async_context(running)
        yield list(deliveries.dispatcher.concurrency)


class StoredBytes:
    """The bytes of an upload, for hooks in Python (`hooks.reading.Bytes`)."""

    def __init__(self, store: ServesRanges, upload: Upload) -> None:
        self.length = upload.offset
        self._store = store
        self._id = UploadId(upload.id)

    async def pieces(self, start: int, end: int) -> AsyncIterator[bytes]:
        async with aclosing(self._store.read_range(self._id, start, end)) as pieces:
            async for piece in pieces:
                yield bytes(piece)
