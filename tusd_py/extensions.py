"""ASGI extensions by which `tusd_py.server` offers the application of `tusd_py.web` more than ASGI has.

Names of keys in scope["extensions"]; another server that offers them is taken at its word.
"""

TRAILERS = "tusd_py.request_trailers"
"""The last http.request message has the request's trailers, as pairs of bytes, in "trailers"."""

LANE = "tusd_py.lane"
"""`async (sink) -> trailers`, None if the body was cut: fills a `core.body.Sink` from the socket, without messages."""
