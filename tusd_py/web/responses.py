"""Answers and errors as ASGI messages. Error bodies are tusd's text, or problem+json for those who ask for JSON."""

from __future__ import annotations

import http
import json
import re
from collections.abc import Callable, Mapping

from starlette.responses import Response
from starlette.types import Send

from tusd_py.core.events import Reply
from tusd_py.errors import TusError

_TEXT = b"text/plain; charset=utf-8"
_NO_QUALITY = re.compile(r"q=0(\.0*)?")

Headers = list[tuple[bytes, bytes]]
"""Names in lower case."""


def encode_headers(headers: Mapping[str, str]) -> Headers:
    """Values that cannot stand in a header must have been refused before; latin-1 is what came in."""
    return [(name.lower().encode("ascii"), value.encode("latin-1")) for name, value in headers.items()]


async def send_empty(send: Send, status: int, headers: Headers) -> None:
    """An answer without a body. 204 and 304 must not state a length (RFC 9110 8.6)."""
    if status not in (204, 304):
        headers = [*headers, (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


async def send_reply(send: Send, status: int, headers: Mapping[str, str], reply: Reply) -> None:
    """An answer that would have no body, with what hooks add to it."""
    status = reply.status or status
    body = b"" if status in (204, 304) else reply.body.encode("utf-8", "surrogateescape")
    names = {name.lower() for name in reply.headers}
    kept = {name: value for name, value in headers.items() if name.lower() not in names}
    lines = encode_headers(kept | dict(reply.headers))
    if not body:
        await send_empty(send, status, lines)
        return
    if "content-type" not in names:
        lines.append((b"content-type", _TEXT))
    lines.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": lines})
    await send({"type": "http.response.body", "body": body})


def error_response(error: TusError, *, accept: str, is_head: bool) -> Response:
    """`ERR_CODE: message`, as tusd; or application/problem+json (RFC 9457) when `accept` names JSON."""
    if is_head:
        response = Response(status_code=error.status)
    elif error.body:
        response = Response(error.body, error.status, media_type="text/plain")
    elif _wants_json(accept):
        response = Response(_problem(error), error.status, media_type="application/problem+json")
    else:
        response = Response(f"{error.code}: {error.message}\n", error.status, media_type="text/plain")
    response.headers.update(error.headers)
    return response


def is_wanted(field: str, fits: Callable[[str], bool]) -> bool:
    """Whether an Accept field names, and does not exclude (`q=0`), something that fits; names are in lower case."""
    for each in field.lower().replace(" ", "").split(","):
        name, *parameters = each.split(";")
        if fits(name) and not any(_NO_QUALITY.fullmatch(parameter) for parameter in parameters):
            return True
    return False


def _wants_json(accept: str) -> bool:
    """`*/*` is everybody's and means text."""
    return is_wanted(accept, lambda media_type: media_type.endswith(("/json", "+json")))


def _problem(error: TusError) -> str:
    try:
        title = http.HTTPStatus(error.status).phrase
    except ValueError:
        title = "Checksum Mismatch"  # 460 is tus's own
    problem = {
        "type": "about:blank",
        "title": title,
        "status": error.status,
        "code": error.code,
        "detail": error.message,
    }
    return json.dumps(problem)
