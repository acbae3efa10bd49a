"""The ASGI application: Starlette, with a short way from the envelope to the endpoint for requests of tus.

Starlette's own layers cost more than a whole small request of ours, and the envelope already does what two of them are
for. Everything else about it stays: routes, lifespan, state, and middleware that is added stands in front of all.
"""

from __future__ import annotations

from typing import Any

from starlette.applications import Starlette
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from tusd_py.web.cors import Cors
from tusd_py.web.envelope import Envelope
from tusd_py.web.routes import TusEndpoint


class Application(Starlette):
    """`cors` None: no CORS headers and no refusals. The other settings are Starlette's."""

    def __init__(self, endpoint: TusEndpoint, cors: Cors | None, **settings: Any) -> None:
        super().__init__(**settings)
        self.router.redirect_slashes = False  # a redirect would lose the body
        self._endpoint = endpoint
        self._cors = cors

    def build_middleware_stack(self) -> ASGIApp:
        others = ExceptionMiddleware(self.router, handlers=dict(self.exception_handlers))
        endpoint = self._endpoint

        async def dispatch(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http" and endpoint.owns(scope):
                await endpoint(scope, receive, send)
            else:
                await others(scope, receive, send)

        app: ASGIApp = Envelope(dispatch, self._cors)
        for cls, arguments, keywords in reversed(self.user_middleware):
            app = cls(app, *arguments, **keywords)
        return app
