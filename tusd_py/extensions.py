"""ASGI extensions by which `tusd_py.server` offers the application of `tusd_py.web` more than ASGI has.

Names of keys in scope["extensions"]; another server that offers them is taken at its word.
"""

TRAILERS = "tusd_py.request_trailers"
"""The last http.request message has the request's trailers, as pairs of bytes, in "trailers"."""

LANE = "tusd_py.lane"
"""`async (sink) -> trailers`, None if the body was cut: fills a `core.body.Sink` from the socket, without messages."""

HANGUP = "tusd_py.hangup"
"""`async () -> None`: returns when the client has closed its side of the connection, or left, or the server wants to be
done with it. For answers without an end; others go on, for who has closed its side may still read."""
