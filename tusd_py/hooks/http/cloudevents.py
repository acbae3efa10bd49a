"""Events as CloudEvents 1.0 in structured JSON, with tusd's JSON as their data."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from tusd_py.hooks.contract import Event

MEDIA_TYPE = "application/cloudevents+json"

_TYPE_PREFIX = "io.tus.upload."


def wrap(event: Event, data: bytes, *, message_id: str, source: str) -> bytes:
    """`data` is the event as JSON. Its time is now: events do not keep theirs."""
    attributes = {
        "specversion": "1.0",
        "id": message_id,
        "source": source,
        "type": _TYPE_PREFIX + event.type,
        "time": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        "datacontenttype": "application/json",
    }
    if event.upload.id:  # the standard has no empty subject
        attributes["subject"] = event.upload.id
    return json.dumps(attributes, ensure_ascii=False).encode("utf-8")[:-1] + b', "data": ' + data + b"}"
