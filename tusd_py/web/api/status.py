"""The state of an upload as JSON. What each field means stands in `openapi`, which a test holds against this."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from tusd_py.core.progress import ACTIVE_SECONDS, Progress
from tusd_py.core.upload import Upload

Status = Mapping[str, Any]


def describe(upload: Upload, url: str, progress: Progress | None, *, may_guess: bool = False) -> Status:
    """`url` is the upload's own; `progress` None: nothing was heard of it lately. Then whether it is active can only be
    guessed, for those who ask once: who watches is told as soon as bytes come, and would not be told that none do."""
    now = time.time()
    received = max(upload.offset, progress.received if progress is not None else 0)
    is_active = progress.is_active if progress is not None else may_guess and _was_just_touched(upload, now)
    rate = _rate(upload, progress) if is_active else None
    return {
        "id": upload.id,
        "url": url,
        "state": upload.state.value,
        "kind": "final" if upload.is_final else "partial" if upload.is_partial else "single",
        "offset": upload.offset,
        "received": received,
        "length": upload.length,
        "missing": None if upload.has_all_bytes else {"start": upload.offset, "end": upload.length},
        "metadata": {_clean(key): _clean(value) for key, value in upload.metadata.values.items()},
        "created_at": _moment(upload.created_at),
        "touched_at": _moment(upload.touched_at),
        "expires_at": _moment(upload.expires_at),
        "digest": upload.digest,
        "is_active": is_active,
        "bytes_per_second": rate,
        "seconds_left": _seconds_left(upload, received, rate),
        "partials": list(upload.partials),
        "checks": [],
    }


def _rate(upload: Upload, progress: Progress | None) -> float | None:
    """Of the last seconds; where nothing was heard of those, of the upload's whole life."""
    if progress is not None and progress.bytes_per_second is not None:
        return round(progress.bytes_per_second, 1)
    seconds = upload.touched_at - upload.created_at
    return round(upload.offset / seconds, 1) if seconds > 0 else None


def _was_just_touched(upload: Upload, now: float) -> bool:
    return not upload.is_available and now - upload.touched_at < ACTIVE_SECONDS and upload.offset > 0


def _seconds_left(upload: Upload, received: int, rate: float | None) -> float | None:
    if upload.length is None or not rate:
        return None
    return round((upload.length - received) / rate, 1)


def _moment(seconds: float | None) -> str | None:
    """RFC 3339, to the millisecond. tusd's records know no times."""
    if not seconds:
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (ValueError, OverflowError):  # expiry may be set beyond the year 9999
        return None


def _clean(text: str) -> str:
    """Bytes that are no UTF-8 cannot stand in JSON."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
