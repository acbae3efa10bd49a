"""The ASGI application: Starlette, with a short way from the envelope to the endpoint for requests of tus.

Starlette's own layers cost more than a whole small request of ours, and the envelope already does what two of them are
for. Everything else about it stays: routes, lifespan, state, and middleware that is added stands in front of all.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Container, Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from tusd_py.core.observer import Observer
from tusd_py.web.api.endpoint import ApiEndpoint
from tusd_py.web.cors import Cors
from tusd_py.web.envelope import Envelope
from tusd_py.web.requests import Proxies, path_of
from tusd_py.web.routes import TusEndpoint


class Fork:
    """An ASGI app that hands requests for certain paths to apps of their own, and all else to `rest`: of `shared` paths
    what is neither GET nor HEAD, too."""

    def __init__(self, apps: Mapping[str, ASGIApp], rest: ASGIApp, shared: Container[str] = ()) -> None:
        self._apps = apps
        self._rest = rest
        self._shared = shared

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        app = self._rest
        if scope["type"] == "http":
            path = path_of(scope)
            if path not in self._shared or scope["method"] in ("GET", "HEAD"):
                app = self._apps.get(path, app)
        return app(scope, receive, send)


class Application(Starlette):
    """`api` None: uploads tell their state by tus alone. `cors` None: no CORS headers and no refusals. `others` are
    apps by their path, that stand outside the envelope; at paths that are `shared` they get GET and HEAD. `outermost`
    wraps all of it. What follows is Starlette's.
    """

    def __init__(
        self,
        endpoint: TusEndpoint,
        *,
        api: ApiEndpoint | None,
        cors: Cors | None,
        observer: Observer,
        proxies: Proxies,
        others: Mapping[str, ASGIApp],
        shared: Container[str] = (),
        outermost: Callable[[ASGIApp], ASGIApp] = lambda app: app,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.router.redirect_slashes = False  # a redirect would lose the body
        self._endpoint = endpoint
        self._api = api
        self._cors = cors
        self._observer = observer
        self._proxies = proxies
        self._others = others
        self._shared = shared
        self._outermost = outermost

    def build_middleware_stack(self) -> ASGIApp:
        router = ExceptionMiddleware(self.router, handlers=dict(self.exception_handlers))
        endpoint, api = self._endpoint, self._api

        def enveloped(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
            is_http = scope["type"] == "http"
            if is_http and api is not None and api.owns(scope):
                return api(scope, receive, send)
            is_ours = is_http and endpoint.owns(scope)
            return endpoint(scope, receive, send) if is_ours else router(scope, receive, send)

        app: ASGIApp = Fork(self._others, Envelope(enveloped, self._cors, self._observer, self._proxies), self._shared)
        for cls, arguments, keywords in reversed(self.user_middleware):
            app = cls(app, *arguments, **keywords)
        return self._outermost(app)
