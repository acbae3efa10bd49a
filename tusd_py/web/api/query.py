"""What stands behind the question mark of a URL, as values. Strict: what is not known here is a mistake, and named."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar
from urllib.parse import parse_qsl

from tusd_py.core.upload import State, Upload, UploadId, parse_given_id
from tusd_py.errors import RequestError

MOST_IDS = 200
MOST_LISTED = 1_000
LISTED = 100
LONGEST_TEXT = 200

_CURSOR = re.compile(r"[!-~]{1,1024}", re.ASCII)
_MOST_FIELDS = 256

Value = TypeVar("Value")


class Query:
    """The parameters of one request. Each is taken once; `finish` refuses what is left."""

    def __init__(self, raw: bytes) -> None:
        try:
            pairs = parse_qsl(
                raw.decode("ascii"), keep_blank_values=True, strict_parsing=bool(raw), max_num_fields=_MOST_FIELDS,
                errors="strict",
            )  # fmt: skip
        except ValueError as error:
            raise _wrong("the query cannot be read: it must be name=value&…, percent-encoded UTF-8") from error
        self._values: dict[str, list[str]] = {}
        for name, value in pairs:
            self._values.setdefault(name, []).append(value)

    def all(self, name: str) -> list[str]:
        return self._values.pop(name, [])

    def one(self, name: str, read: Callable[[str], Value | None], wanted: str) -> Value | None:
        """None: not given. RequestError where `read` makes nothing of it."""
        values = self.all(name)
        if not values:
            return None
        value = read(values[0])
        if value is None or len(values) > 1:
            raise _wrong(f"{name} must be {wanted}, once; it is {', '.join(map(_shown, values[:3]))}")
        return value

    def finish(self, known: str) -> None:
        if self._values:
            names = ", ".join(map(_shown, list(self._values)[:3]))
            raise _wrong(f"unknown parameter {names}; known here: {known}")


@dataclass(frozen=True, slots=True)
class Listing:
    """Which uploads are wanted, and how many are looked at for one answer."""

    cursor: str
    limit: int
    state: State | None
    name: str
    created_after: float | None
    created_before: float | None

    @classmethod
    def of(cls, raw: bytes) -> Listing:
        query = Query(raw)
        listing = cls(
            cursor=query.one("cursor", _cursor, "what `next` said in the answer before") or "",
            limit=query.one("limit", _limit, f"a number from 1 to {MOST_LISTED}") or LISTED,
            state=query.one("state", _state, " or ".join(State)),
            name=query.one("name", _text, f"1 to {LONGEST_TEXT} characters") or "",
            created_after=query.one("created_after", _moment, "a time such as 2026-01-31T12:00:00Z"),
            created_before=query.one("created_before", _moment, "a time such as 2026-01-31T12:00:00Z"),
        )
        query.finish("cursor, limit, state, name, created_after, created_before")
        return listing

    def wants(self, upload: Upload) -> bool:
        names = (upload.metadata.values.get(key, "") for key in ("filename", "name"))
        return (
            (self.state is None or upload.state is self.state)
            and (not self.name or any(self.name.lower() in name.lower() for name in names))
            and (self.created_after is None or upload.created_at >= self.created_after)
            and (self.created_before is None or upload.created_at < self.created_before)
        )


def watched_ids(raw: bytes) -> tuple[frozenset[UploadId] | None, str | None]:
    """The ids that a stream is about, None for all, and where it is to go on, for those that cannot send headers."""
    query = Query(raw)
    texts = query.all("id")
    since = query.one("last_event_id", _cursor, "the id of the last event that was seen")
    query.finish("id, last_event_id")
    if len(texts) > MOST_IDS:
        raise _wrong(f"at most {MOST_IDS} ids at a time; there are {len(texts)}")
    ids = [parse_given_id(text) for text in texts]
    for text, upload_id in zip(texts, ids, strict=True):
        if upload_id is None:
            raise _wrong(f"{_shown(text)} is no upload's id")
    return (frozenset(each for each in ids if each is not None) if texts else None), since


def _wrong(message: str) -> RequestError:
    return RequestError(message, code="ERR_INVALID_QUERY")


def _shown(text: str) -> str:
    return ascii(text if len(text) <= 40 else text[:39] + "…")


def _cursor(text: str) -> str | None:
    return text if _CURSOR.fullmatch(text) else None


def _limit(text: str) -> int | None:
    is_number = text.isascii() and text.isdecimal() and len(text) <= 4
    return int(text) if is_number and 1 <= int(text) <= MOST_LISTED else None


def _state(text: str) -> State | None:
    return State(text) if text in set(State) else None


def _text(text: str) -> str | None:
    return text if 1 <= len(text) <= LONGEST_TEXT else None


def _moment(text: str) -> float | None:
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
