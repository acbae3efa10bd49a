"""Events and answers as the JSON of tusd's hooks, both ways, with what only ours know under "TusdPy". Pure.

An event of ours has two fields more: "Key", for those who must not do things twice, and, of pre-access, "Access". An
answer may hold "RejectAccess" and, to pre-finish, "RejectUpload".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tusd_py.hooks.contract import (
    EVENT_CLASSES,
    Access,
    Answer,
    Change,
    Event,
    HookError,
    PreAccess,
    Request,
    Response,
    Upload,
)

_TO_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_FEWEST_STATUS, _MOST_STATUS = 200, 599


def encode_event(event: Event) -> bytes:
    data: dict[str, Any] = {
        "Type": event.type,
        "Event": {"Upload": _upload(event.upload), "HTTPRequest": _request(event.request)},
    }
    if isinstance(event, PreAccess):
        access = event.access
        data["Event"]["Access"] = {"Mode": access.mode, "Uploads": [_upload(each) for each in access.uploads]}
    if event.key:
        data["Key"] = event.key
    return _TO_JSON.encode(data).encode("utf-8", "surrogateescape")


def decode_event(text: bytes) -> Event:
    """Of what `encode_event` or tusd wrote. Raises ValueError for anything else."""
    try:
        data = json.loads(text.decode("utf-8", "surrogateescape"))
        inner = data["Event"]
        cls = EVENT_CLASSES[data["Type"]]
        fields: dict[str, Any] = {"access": _read_access(inner.get("Access") or {})} if cls is PreAccess else {}
        request = inner.get("HTTPRequest") or {}
        return cls(
            upload=_read_upload(inner["Upload"]),
            request=Request(
                method=request.get("Method", ""),
                uri=request.get("URI", ""),
                remote_address=request.get("RemoteAddr", ""),
                headers={name: tuple(values) for name, values in (request.get("Header") or {}).items()},
            ),
            key=data.get("Key", ""),
            **fields,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not an event of a hook: {error!r}") from error


def headers_of(lines: Sequence[tuple[bytes, bytes]]) -> dict[str, tuple[str, ...]]:
    """Header lines by names in the form Content-Type, which is Go's."""
    headers: dict[str, tuple[str, ...]] = {}
    for name, value in lines:
        key = "-".join(part.capitalize() for part in name.decode("latin-1").split("-"))
        headers[key] = (*headers.get(key, ()), value.decode("latin-1"))
    return headers


def encode_answer(answer: Answer) -> bytes:
    """As a hook would write it that is no part of this server."""
    data: dict[str, Any] = {}
    if answer.response is not None:
        response = answer.response
        data["HTTPResponse"] = {
            "StatusCode": response.status,
            "Body": response.body,
            "Header": dict(response.headers),
        }
    if answer.is_rejected:
        data |= {"RejectUpload": True, "RejectTermination": True, "RejectAccess": True}
    if answer.is_stopped:
        data["StopUpload"] = True
    if answer.change is not None:
        parts = {"ID": answer.change.id, "MetaData": answer.change.metadata, "Storage": answer.change.storage}
        data["ChangeFileInfo"] = {name: value for name, value in parts.items() if value is not None}
    return _TO_JSON.encode(data).encode("utf-8", "surrogateescape")


def decode_answer(text: bytes, event_type: str) -> Answer:
    """What a hook wrote in answer to an event of this type; nothing but white space means: go on.

    Raises HookError for what is no answer; fields that nobody knows are passed over.
    """
    if not text.strip():
        return Answer()
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise HookError(f"the answer is not JSON: {error}: {_shown(text)}") from None
    fields = _Fields(data, "the answer")
    rejection = {"pre-access": "RejectAccess", "pre-terminate": "RejectTermination"}.get(event_type, "RejectUpload")
    return Answer(
        is_rejected=fields.flag(rejection),
        is_stopped=fields.flag("StopUpload"),
        response=_read_response(fields.inner("HTTPResponse")),
        change=_read_change(fields.inner("ChangeFileInfo")),
    )


# Parts.


def _upload(upload: Upload) -> dict[str, Any]:
    return {
        "ID": upload.id,
        "Size": upload.length or 0,
        "SizeIsDeferred": upload.length is None,
        "Offset": upload.offset,
        "MetaData": dict(upload.metadata),
        "IsPartial": upload.is_partial,
        "IsFinal": upload.is_final,
        "PartialUploads": list(upload.partials) or None,
        "Storage": dict(upload.storage) or None,
        "TusdPy": {"Digest": upload.digest, "CreatedAt": upload.created_at},
    }


def _request(request: Request) -> dict[str, Any]:
    return {
        "Method": request.method,
        "URI": request.uri,
        "RemoteAddr": request.remote_address,
        "Header": {name: list(values) for name, values in request.headers.items()},
    }


def _read_upload(data: Mapping[str, Any]) -> Upload:
    ours = data.get("TusdPy") or {}
    return Upload(
        id=data["ID"],
        length=None if data.get("SizeIsDeferred") else int(data["Size"]),
        offset=int(data["Offset"]),
        metadata=data.get("MetaData") or {},
        is_partial=bool(data.get("IsPartial")),
        is_final=bool(data.get("IsFinal")),
        partials=tuple(data.get("PartialUploads") or ()),
        storage=data.get("Storage") or {},
        digest=ours.get("Digest"),
        created_at=float(ours.get("CreatedAt") or 0.0),
    )


def _read_access(data: Mapping[str, Any]) -> Access:
    return Access(data["Mode"], tuple(_read_upload(each) for each in data.get("Uploads") or ()))


def _read_response(fields: _Fields | None) -> Response | None:
    if fields is None:
        return None
    status = fields.get("StatusCode") or 0
    if type(status) is not int or (status and not _FEWEST_STATUS <= status <= _MOST_STATUS):
        raise HookError(f"HTTPResponse.StatusCode is {status!r}; it is a whole number from 200 to 599")
    return Response(status, fields.texts("Header") or {}, fields.text("Body") or "")


def _read_change(fields: _Fields | None) -> Change | None:
    if fields is None:
        return None
    return Change(fields.text("ID") or None, fields.texts("MetaData"), fields.texts("Storage"))


class _Fields:
    """An object of somebody else's JSON, in which the case of names does not count: nor does it to tusd.

    Each question raises HookError for a value of the wrong kind.
    """

    def __init__(self, data: Any, where: str) -> None:
        if not isinstance(data, dict):
            raise HookError(f"{where} is {_shown(data)}, not an object")
        self._data: dict[str, Any] = {name.lower(): value for name, value in data.items()}
        self._where = where

    def get(self, name: str) -> Any:
        return self._data.get(name.lower())

    def inner(self, name: str) -> _Fields | None:
        value = self.get(name)
        return None if value is None else _Fields(value, name)

    def flag(self, name: str) -> bool:
        value = self.get(name)
        if value is None:
            return False
        if not isinstance(value, bool):
            raise HookError(f"{name} is {_shown(value)}, not true or false")
        return value

    def text(self, name: str) -> str | None:
        value = self.get(name)
        if value is not None and not isinstance(value, str):
            raise HookError(f"{self._where}.{name} is {_shown(value)}, not text")
        return value

    def texts(self, name: str) -> dict[str, str] | None:
        value = self.get(name)
        if value is None:
            return None
        if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
            raise HookError(f"{self._where}.{name} is {_shown(value)}, not an object of texts")
        return value


def _shown(value: object) -> str:
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else json.dumps(value)
    return text if len(text) <= 200 else text[:200] + "..."
