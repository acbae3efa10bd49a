"""What a receiver's reply means: an answer, a failure, or that another try is worth it. Strict as tusd, but that a
success without a body is an answer here: go on.
"""

from __future__ import annotations

import time
from datetime import UTC
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from tusd_py.hooks.contract import GO_ON, Answer, HookError
from tusd_py.hooks.http.connection import Reply, TryAgain
from tusd_py.hooks.wire import decode_answer

_WORTH_ANOTHER_TRY = (408, 425, 429)
_GONE = 410
_MOST_RETRY_AFTER_SECONDS = 86400.0
_MOST_SHOWN = 200


def read_reply(reply: Reply, event_type: str) -> Answer:
    """Raises TryAgain, or HookError where another try now cannot help."""
    if 200 <= reply.status < 300:
        return _read_success(reply, event_type)
    if 300 <= reply.status < 400:
        where = _without_secrets(reply.headers.get("location", ""))
        raise HookError(f"it answered {reply.status}, which leads to {where or 'nowhere'}: redirects are not followed")
    message = f"it answered {reply.status}: {_shown(reply.body)}" if reply.body else f"it answered {reply.status}"
    if reply.status == _GONE:  # Standard Webhooks: it wants no more of them
        raise HookError(message, is_final=True)
    if reply.status >= 500 or reply.status in _WORTH_ANOTHER_TRY:
        raise TryAgain(message, _retry_after(reply.headers.get("retry-after", "")))
    raise HookError(message)


def _read_success(reply: Reply, event_type: str) -> Answer:
    kind = reply.headers.get("content-type", "")
    is_json = kind.partition(";")[0].strip().lower() == "application/json"
    if not reply.body:
        if is_json and reply.is_open_ended:  # and no yes: it was about to say something
            raise HookError("the connection ended before the JSON that its answer announced")
        return GO_ON
    packing = reply.headers.get("content-encoding", "identity")
    if packing.lower() != "identity":
        raise HookError(f"its answer is packed ({_shown(packing.encode())}), which nobody asked for")
    if not is_json:
        has = f"has the Content-Type {_shown(kind.encode())}" if kind else "has no Content-Type"
        raise HookError(f"its answer {has}; it must be application/json: {_shown(reply.body)}")
    return decode_answer(reply.body, event_type)


def _retry_after(text: str) -> float | None:
    """In seconds; None for what cannot be read."""
    text = text.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:10]), _MOST_RETRY_AFTER_SECONDS)
    try:
        when = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    seconds = when.replace(tzinfo=when.tzinfo or UTC).timestamp() - time.time()
    return min(max(seconds, 0.0), _MOST_RETRY_AFTER_SECONDS)


def _without_secrets(location: str) -> str:
    try:
        parts = urlsplit(location)
    except ValueError:
        return "no URL"
    return _shown(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl().encode())


def _shown(body: bytes) -> str:
    """The start of it, on one line."""
    text = body[: 4 * _MOST_SHOWN].decode("utf-8", "replace")
    line = "".join(each if each.isprintable() else " " for each in text)
    return line if len(line) <= _MOST_SHOWN else line[:_MOST_SHOWN] + "..."
