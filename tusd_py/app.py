"""The composition root: the one place that names concrete stores and lockers, and puts the house together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from tusd_py import __version__, memory, tracing
from tusd_py.assembly.backends import Locker, make_locker, make_relay, start_backends, start_relay
from tusd_py.assembly.deliveries import Deliveries, make_store_and_deliveries
from tusd_py.bundled import bundled
from tusd_py.config import Config, environment
from tusd_py.core.announcer import Announcer
from tusd_py.core.events import NO_HOOKS
from tusd_py.core.feed import Feed
from tusd_py.core.observer import NOBODY
from tusd_py.core.patience import Patience
from tusd_py.core.rules import Rules
from tusd_py.core.uploads import Uploads
from tusd_py.errors import BackendError, ConfigError, RequestError, TusError
from tusd_py.logs import event
from tusd_py.metrics import Jobs, Metrics
from tusd_py.stores.disk import DiskStore
from tusd_py.web import health, page
from tusd_py.web.access import Access
from tusd_py.web.api.endpoint import ApiEndpoint
from tusd_py.web.application import Application, Fork
from tusd_py.web.cors import Cors
from tusd_py.web.requests import Proxies
from tusd_py.web.routes import TusEndpoint

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

    from tusd_py.stores.s3 import S3Store

log = logging.getLogger("tusd_py.app")


def create_app(config: Config | None = None, *, shared_folder: str | None = None, slot: int = 0) -> Application:
    """The upload server as an ASGI application (tus 1.0), to be served alone or mounted anywhere in another one.

    `config` is taken as it is, defaults without one; flags, environment and files are `tusd_py.config.load`'s. Makes
    the upload directory and raises ConfigError where it cannot; a setting that is wrong has raised that already.

    Run its lifespan once in each event loop that serves it (`app.router.lifespan_context(app)`): it sweeps what
    expired, closes what was opened, and sets malloc for the process. `app.state.uploads` is the application's
    `core.uploads.Uploads`, to be called in that loop. Middleware that is added stands in front of every request.

    Workers of one server are given a `shared_folder`, in which they keep their metrics, and each a `slot`, its number
    from 0; all others leave both alone.
    """
    config = config or Config()
    locker = make_locker(config)
    metrics = Metrics(shared_folder, slot) if config.expose_metrics else None
    store, deliveries = make_store_and_deliveries(config, locker, metrics or NOBODY)
    relay = make_relay(config, locker)
    operations = _operations(config, lambda: uploads.is_stopping, store, metrics, deliveries)
    provider = tracing.start() if config.tracing else None
    announcer = Announcer(metrics or NOBODY, Feed(relay), deliveries.dispatcher if deliveries else NO_HOOKS)
    uploads = Uploads(store, locker, _rules(config), announcer)
    proxies = Proxies(config.trusted_networks)
    endpoint = _endpoint(config, uploads, proxies)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            if metrics is not None:
                stack.callback(metrics.close)
            stack.push_async_callback(store.aclose)
            if provider is not None:
                stack.push_async_callback(tracing.finish, provider)
            await _start(app, stack, locker, store, deliveries, config)
            await start_relay(stack, relay)
            stack.callback(uploads.feed.stop)
            async with anyio.create_task_group() as tasks:
                endpoint.has_lifespan = True
                memory.tune(environment.inherited())
                tasks.start_soon(_tend, uploads, config.sweep_interval, slot, deliveries)
                yield
                tasks.cancel_scope.cancel()

    app = Application(
        endpoint,
        api=_api(config, uploads, proxies),
        cors=None if config.disable_cors else _cors(config),
        observer=metrics or NOBODY,
        proxies=proxies,
        others=_page(config, uploads) | ({} if config.metrics_port else operations),
        shared={config.base_path, config.base_path.rstrip("/")},
        outermost=_tracing(config, provider, frozenset(operations)),
        lifespan=lifespan,
        exception_handlers={HTTPException: _answer_error},
    )
    _show(app, uploads, metrics, operations)
    return app


def _show(app: Application, uploads: Uploads, metrics: Metrics | None, operations: dict[str, ASGIApp]) -> None:
    """What the server, and whoever embeds the application, finds in its state."""
    app.state.uploads = uploads
    app.state.metrics = metrics
    app.state.refusal = None
    app.state.operations = Fork(operations, health.missing())


async def _start(
    app: Application,
    stack: AsyncExitStack,
    locker: Locker,
    store: DiskStore | S3Store,
    deliveries: Deliveries | None,
    config: Config,
) -> None:
    """What needs others to be there. Raises ConfigError, which is then the application's refusal to start."""
    try:
        await start_backends(stack, locker, store)
        if deliveries is not None:
            running = deliveries.running(has_worker=config.run_jobs, grace_seconds=config.shutdown_timeout)
            await stack.enter_async_context(running)
    except BackendError as error:
        app.state.refusal = "what uploads need cannot be used just now: the log says why"
        raise ConfigError(app.state.refusal) from error
    except ConfigError as error:
        app.state.refusal = str(error)
        raise


def _tracing(config: Config, provider: TracerProvider | None, untraced: frozenset[str]) -> Callable[[ASGIApp], ASGIApp]:
    if provider is None:
        return lambda app: app
    return lambda app: tracing.Tracing(app, provider, config.base_path, untraced)


def _operations(
    config: Config,
    is_stopping: Callable[[], bool],
    store: DiskStore | S3Store,
    metrics: Metrics | None,
    deliveries: Deliveries | None,
) -> dict[str, ASGIApp]:
    """What those ask who run the server, by path."""
    apps: dict[str, ASGIApp] = {
        "/healthz": health.alive(),
        "/readyz": health.ready(health.Probe(_can_write(store)), is_stopping),
    }
    if metrics is not None:
        look = partial(_owed, deliveries) if deliveries is not None else None
        apps[config.metrics_path] = health.metrics(metrics.expose, look)
    return apps


async def _owed(deliveries: Deliveries) -> Jobs | None:
    """None while the queue cannot say: the other numbers are shown without it."""
    try:
        return Jobs(*await deliveries.owed())
    except BackendError:
        return None


def _page(config: Config, uploads: Uploads) -> dict[str, ASGIApp]:
    """What people see in a browser, by path."""
    if config.disable_page:
        return {}
    facts = {
        "maxSize": config.max_size,
        "version": __version__,
        "listing": config.list_uploads,
        "canTerminate": uploads.offers.termination,
        "canDownload": uploads.offers.download,
        "expires": uploads.offers.expiration,
        "digest": config.digest,
    }
    return page.make_apps(bundled("static"), config.page_path, config.base_path, config.api_path, facts)


def _can_write(store: DiskStore | S3Store) -> Callable[[], Awaitable[None]]:
    return health.in_thread(store.probe) if isinstance(store, DiskStore) else store.probe


def _endpoint(config: Config, uploads: Uploads, proxies: Proxies) -> TusEndpoint:
    return TusEndpoint(
        uploads,
        config.base_path,
        proxies,
        Patience(config.stall_timeout, config.network_timeout, config.least_rate),
        config.max_unwanted_body,
    )


def _api(config: Config, uploads: Uploads, proxies: Proxies) -> ApiEndpoint | None:
    if not config.has_api:
        return None
    hosts = frozenset(host.lower() for host in (config.host, *config.list_hosts))
    access = Access(uploads, proxies, config.list_uploads, hosts)
    return ApiEndpoint(uploads, access, path=config.api_path, base_path=config.base_path, version=__version__)


def _rules(config: Config) -> Rules:
    return Rules(
        max_size_bytes=config.max_size or None,
        expire_after_seconds=config.expire_after or None,
        allows_termination=not config.disable_termination,
        allows_concatenation=not config.disable_concatenation,
        allows_download=not config.disable_download,
        digest="" if config.digest == "none" else config.digest,
    )


def _cors(config: Config) -> Cors:
    return Cors(
        allow_origin=config.cors_allow_origin,
        allow_credentials=config.cors_allow_credentials,
        allow_methods=config.cors_allow_methods,
        allow_headers=config.cors_allow_headers,
        max_age=config.cors_max_age,
        expose_headers=config.cors_expose_headers,
    )


async def _tend(uploads: Uploads, interval_seconds: float, slot: int, deliveries: Deliveries | None) -> None:
    """Sweep at the start, for what a crash left, and then now and again: one process for all. Each does so when its
    queue has lost what hooks are owed, since the uploads tell it."""
    lost = deliveries.lost if deliveries is not None else asyncio.Event()
    if deliveries is not None and slot == 0:
        lost.set()  # who knows what hooks had not heard of when the last process ended
    while True:
        if lost.is_set():
            lost.clear()
            await _sweep(uploads)
        elif slot == 0:
            await _sweep(uploads, interval_seconds)
        with anyio.move_on_after(interval_seconds):
            await lost.wait()


async def _sweep(uploads: Uploads, interval_seconds: float | None = None) -> None:
    """With an interval only if that is for this process to do."""
    try:
        is_due = interval_seconds is None or await uploads.is_sweep_due(interval_seconds)
        removed = await uploads.sweep() if is_due else 0
        if removed:
            event(log, "Swept", removed=removed)
    except TusError as error:
        event(log, "SweepFailed", level=logging.WARNING, reason=error.message)
    except Exception as error:
        event(log, "SweepFailed", level=logging.ERROR, error=error)  # requests go on without it


async def _answer_error(_request: Request, error: Exception) -> Response:
    """Starlette's own errors, such as no such path, in our form: the envelope answers them."""
    assert isinstance(error, HTTPException)  # noqa: S101  (registered for nothing else)
    raise RequestError("not found", code="ERR_NOT_FOUND", status=error.status_code, headers=error.headers)
