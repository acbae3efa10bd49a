"""Uploads and requests as hooks see them, and what becomes of an upload that a hook wants changed. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from tusd_py.core import upload as core
from tusd_py.core.events import Caller, Reply
from tusd_py.core.ports import Places
from tusd_py.hooks.contract import Change, HookError, Request, Response, Upload
from tusd_py.hooks.wire import headers_of

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_METADATA_KEY = re.compile(r"[!-+\--~]+")  # tus C8

# What says where an answer ends, and whether its connection goes on.
_FRAMING = frozenset({"connection", "content-length", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"})


def describe(upload: core.Upload, storage: Mapping[str, str]) -> Upload:
    return Upload(
        id=upload.id,
        length=upload.length,
        offset=upload.offset,
        metadata=dict(upload.metadata.values),  # a copy: hooks may write into theirs
        is_partial=upload.is_partial,
        is_final=upload.is_final,
        partials=upload.partials,
        storage=storage,
        digest=upload.digest,
        created_at=upload.created_at,
    )


def describe_new(upload: core.Upload) -> Upload:
    """One that is to be made: it has neither an id nor a place yet, as far as anybody knows (as in tusd)."""
    return replace(describe(upload, {}), id="", offset=0)


def describe_request(caller: Caller) -> Request:
    return Request(caller.method, caller.uri, caller.remote_address, headers_of(caller.headers))


def key_of(upload: core.Upload, event_type: str, hook: str) -> str:
    """What an event of an upload is known by, for one hook. Ids that may come again are told apart by their time."""
    upload_id = f"{upload.id}@{upload.created_at * 1000:.0f}" if upload.may_come_again else upload.id
    return f"{upload_id}:{event_type}:{hook}"


def changed(upload: core.Upload, change: Change, places: Places) -> core.Upload:
    """The upload as a hook wants it to be made. Raises HookError for what cannot be."""
    if change.id is not None:
        upload_id = core.parse_id(change.id)
        if upload_id is None:
            raise HookError(
                f"ChangeFileInfo.ID {change.id!r}: an id has letters, digits, - and _ only, 1 to 128 of them"
            )
        upload = replace(upload, id=upload_id, is_named=True)
    if change.metadata is not None:
        for key in change.metadata:
            if not _METADATA_KEY.fullmatch(key):
                raise HookError(f"ChangeFileInfo.MetaData: {key!r} is no key: visible ASCII, without spaces and commas")
            _refuse_halves(f"ChangeFileInfo.MetaData, {key}", change.metadata[key])
        upload = replace(upload, metadata=core.Metadata.of(change.metadata))
    if change.storage:
        try:
            upload = places.placed(upload, change.storage)
        except ValueError as error:
            raise HookError(f"ChangeFileInfo.Storage: {error}") from None
    return upload


def reply_of(response: Response | None) -> Reply | None:
    """What a hook wants said. Raises HookError for what cannot stand in an answer."""
    if response is None:
        return None
    for name, value in response.headers.items():
        if not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
            raise HookError(f"HTTPResponse.Header: {name!r}: {value!r} cannot stand in a header")
        if name.lower() in _FRAMING:
            raise HookError(f"HTTPResponse.Header: {name} is not a hook's to say")
    _refuse_halves("HTTPResponse.Body", response.body)
    return Reply(response.status, response.headers, response.body)


def _refuse_halves(where: str, text: str) -> None:
    """JSON and Python let half a character (a lone surrogate) through, which nobody could send."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise HookError(f"{where}: {text[error.start]!r} is half a character (a surrogate), which is no text") from None
