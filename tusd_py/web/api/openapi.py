"""The OpenAPI 3.1 document of the status API: what there is, and what each field means."""

from __future__ import annotations

from typing import Any

from tusd_py.core.upload import State
from tusd_py.web.api.query import LISTED, LONGEST_TEXT, MOST_IDS, MOST_LISTED

Schema = dict[str, Any]

_ABOUT = """\
The current state of uploads, read-only: uploads are created and changed by tus (https://tus.io). Whoever knows an
upload's id may read its state; the list of all uploads is given only by a server that runs with --list-uploads."""


def document(path: str, version: str) -> Schema:
    """`path` is where the API is; it starts and ends with a slash."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "tusd-py status API", "version": version, "description": _ABOUT, "license": _LICENSE},
        "paths": {
            f"{path}uploads/{{id}}": {"get": _GET_UPLOAD},
            f"{path}uploads": {"get": _LIST_UPLOADS},
            f"{path}events": {"get": _WATCH},
            f"{path}openapi.json": {"get": _GET_DOCUMENT},
        },
        "components": {
            "schemas": {"Status": _STATUS, "Removed": _REMOVED, "Page": _PAGE, "Problem": _PROBLEM},
            "responses": {
                "BadQuery": _problem("A parameter is invalid or unknown: `ERR_INVALID_QUERY`."),
                "Refused": _problem(
                    "This server does not list its uploads, or not to this page: `ERR_LISTING_REFUSED`."
                ),
                "NotFound": _problem("There is no such upload, or it was removed: `ERR_UPLOAD_NOT_FOUND`."),
                "Gone": _problem("The upload has expired."),
                "Failed": _problem("The storage failed; try again later."),
                "Stopping": _problem("The server is stopping or overloaded; try again soon."),
            },
        },
    }


_LICENSE = {"name": "MIT", "identifier": "MIT"}


def _reference(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _response(name: str) -> Schema:
    return {"$ref": f"#/components/responses/{name}"}


def _problem(description: str) -> Schema:
    return {
        "description": description,
        "content": {
            "text/plain": {"schema": {"type": "string"}, "example": "ERR_CODE: what was wrong\n"},
            "application/problem+json": {"schema": _reference("Problem")},
        },
    }


def _json(description: str, schema: Schema) -> Schema:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _parameter(name: str, description: str, schema: Schema, place: str = "query", **more: Any) -> Schema:
    return {"name": name, "in": place, "description": description, "schema": schema, **more}


_ID = {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,128}$", "examples": ["5c1b6d0e8f7a4b3c9d2e1f0a6b7c8d9e"]}
_BYTES = {"type": "integer", "minimum": 0}
_MOMENT = {"type": "string", "format": "date-time"}


def _or_null(schema: Schema, description: str) -> Schema:
    return schema | {"type": [schema["type"], "null"], "description": description}


_STATUS: Schema = {
    "type": "object",
    "description": "One upload as it is now. Every field is always present.",
    "properties": {
        "id": _ID | {"description": "The last segment of the upload's URL."},
        "url": {"type": "string", "format": "uri", "description": "Its address: for tus, and for the download."},
        "state": {
            "enum": [state.value for state in State],
            "description": "`receiving`: bytes are missing; `assembling`: all are there and are being put together; "
            "`available`: finished, ready for download.",
        },
        "kind": {
            "enum": ["single", "partial", "final"],
            "description": "`partial`: a piece of a `final`, which joins several of them; `single`: neither.",
        },
        "offset": _BYTES | {"description": "The number of bytes stored safely. The client continues here."},
        "received": _BYTES
        | {"description": "The number of bytes that have arrived; `offset` of them are stored safely."},
        "length": _or_null(_BYTES, "The size of the whole upload in bytes; null: not declared yet."),
        "missing": {
            "description": "The missing bytes: from `start` to `end`, which is not included (`end` null: the length is "
            "not known yet). Null: none are missing.",
            "oneOf": [
                {"type": "null"},
                {
                    "type": "object",
                    "properties": {"start": _BYTES, "end": _BYTES | {"type": ["integer", "null"]}},
                    "required": ["start", "end"],
                    "additionalProperties": False,
                },
            ],
        },
        "metadata": {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "description": "What the client said about the file (Upload-Metadata), such as `filename` and `filetype`.",
        },
        "created_at": _or_null(_MOMENT, "Null for uploads written by tusd, which records no times."),
        "touched_at": _or_null(_MOMENT, "When the last bytes came."),
        "expires_at": _or_null(_MOMENT, "When it may be removed, if no more bytes come; null: never."),
        "digest": {
            "type": ["string", "null"],
            "pattern": "^sha(256|512):[0-9a-f]+$",
            "description": "Of the whole file, once it is finished, where the server computes digests (--digest).",
        },
        "is_active": {"type": "boolean", "description": "Whether bytes are arriving now, as far as this server knows."},
        "bytes_per_second": _or_null(
            {"type": "number", "minimum": 0},
            "Over the last ten seconds, or the whole life of the upload if those are not known; null: unknown.",
        ),
        "seconds_left": _or_null({"type": "number", "minimum": 0}, "At this rate; null: unknown."),
        "partials": {"type": "array", "items": _ID, "description": "The uploads that a `final` is made of, in order."},
        "checks": {"type": "array", "items": {"type": "object"}, "description": "Results of checks; none yet."},
    },
    "additionalProperties": False,
}
_STATUS["required"] = list(_STATUS["properties"])

_REMOVED: Schema = {
    "type": "object",
    "description": "An upload that does not exist, or was removed.",
    "properties": {"id": _ID, "reason": {"enum": ["terminated", "expired", "unknown"]}},
    "required": ["id", "reason"],
    "additionalProperties": False,
}

_PAGE: Schema = {
    "type": "object",
    "properties": {
        "uploads": {"type": "array", "items": _reference("Status")},
        "next": {
            "type": ["string", "null"],
            "description": "The `cursor` of the next page; null: this is the last one. Also a page before the last may "
            "have fewer uploads than `limit`, or none.",
        },
    },
    "required": ["uploads", "next"],
    "additionalProperties": False,
}

_PROBLEM: Schema = {
    "type": "object",
    "description": "RFC 9457.",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "pattern": "^ERR_"},
        "detail": {"type": "string"},
    },
    "required": ["type", "title", "status", "code", "detail"],
}

_FAILURES = {"500": _response("Failed"), "503": _response("Stopping")}

_GET_UPLOAD: Schema = {
    "operationId": "getUpload",
    "summary": "The state of one upload",
    "description": "Takes no lock: it neither waits for the upload nor interrupts it.",
    "parameters": [_parameter("id", "The upload's id.", _ID, "path", required=True)],
    "responses": {
        "200": _json("The state.", _reference("Status")),
        "400": _response("BadQuery"),
        "404": _response("NotFound"),
        "410": _response("Gone"),
        **_FAILURES,
    },
}

_LIST_UPLOADS: Schema = {
    "operationId": "listUploads",
    "summary": "All uploads of the server, page by page",
    "description": "In no particular order. Expired uploads are left out.",
    "parameters": [
        _parameter(
            "limit", "How many uploads to look at; the filters choose among these.",
            {"type": "integer", "minimum": 1, "maximum": MOST_LISTED, "default": LISTED},
        ),
        _parameter(
            "cursor", "The `next` of the previous page.",
            {"type": "string", "pattern": "^[!-~]{1,1024}$"},
        ),
        _parameter("state", "Only those in this state.", {"enum": [state.value for state in State], "type": "string"}),
        _parameter(
            "name", "Only those whose file name contains this, in upper or lower case.",
            {"type": "string", "minLength": 1, "maxLength": LONGEST_TEXT},
        ),
        _parameter("created_after", "Only those created then or later.", _MOMENT),
        _parameter("created_before", "Only those created earlier.", _MOMENT),
    ],
    "responses": {
        "200": _json("One page.", _reference("Page"))
        | {"links": {"upload": {"operationId": "getUpload", "parameters": {"id": "$response.body#/uploads/0/id"}}}},
        "400": _response("BadQuery"),
        "403": _response("Refused"),
        **_FAILURES,
    },
}  # fmt: skip

_WATCH: Schema = {
    "operationId": "watchUploads",
    "summary": "The states of uploads as they change, as Server-Sent Events",
    "description": (
        "Begins with the current states. `event: upload` brings a Status, at most twice a second for each upload; "
        "`event: removed` a Removed. `event: reset`, only where all are watched, means that something was missed: read "
        "the list again. A comment comes every 15 seconds. With `Last-Event-ID` the stream continues after that event, "
        "if the server still remembers it. A stream ends after a quarter of an hour at the latest: open it again, as "
        "browsers do by themselves."
    ),
    "parameters": [
        _parameter(
            "id", "The uploads to watch; none: all of them, if this server lists its uploads.",
            {"type": "array", "items": _ID, "maxItems": MOST_IDS}, style="form", explode=True,
        ),
        _parameter(
            "Last-Event-ID", "The id of the last event that was received; browsers send it by themselves.",
            {"type": "string", "pattern": "^[!-~]{1,1024}$"}, "header",
        ),
        _parameter(
            "last_event_id", "The same, for a program that opens a new stream.",
            {"type": "string", "pattern": "^[!-~]{1,1024}$"},
        ),
    ],
    "responses": {
        "200": {"description": "Events, as they happen.",
                "content": {"text/event-stream": {"schema": {"type": "string"}}}},
        "400": _response("BadQuery"),
        "403": _response("Refused"),
        **_FAILURES,
    },
}  # fmt: skip

_GET_DOCUMENT: Schema = {
    "operationId": "getDocument",
    "summary": "This document",
    "responses": {"200": _json("OpenAPI 3.1.", {"type": "object"})},
}
