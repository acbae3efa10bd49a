"""The record of an upload: its id, its states, its metadata. Plain values, no behaviour that waits.

Who changes a record: only a store, on behalf of `core.uploads`. Everybody else reads it.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType

UploadId = NewType("UploadId", str)

# Also a file name, an object key and a URL segment: no dot, slash, percent sign or control character (failures F35).
_ID = re.compile(r"[A-Za-z0-9_-]{1,128}", re.ASCII)

_DRAWN = re.compile(r"[0-9a-f]{32}")


def parse_id(text: str) -> UploadId | None:
    """The id if `text` is one, else None. Nothing that fails here ever reaches a store or a locker."""
    return UploadId(text) if _ID.fullmatch(text) else None


def parse_given_id(text: str) -> UploadId | None:
    """The same of what a client or a record names: tusd's ids, in S3, go on after a plus sign, which nobody needs."""
    return parse_id(text.partition("+")[0])


def new_id() -> UploadId:
    """128 random bits in hex, as tusd's ids: whoever has the URL has the upload, so it cannot be guessed."""
    return UploadId(secrets.token_hex(16))


def final_id(partials: Iterable[UploadId], metadata: str) -> UploadId:
    """The id of the final upload made of these partials: the same question gives the same upload (failures F16).

    As hard to guess as the partials' own ids.
    """
    text = "\n".join([*partials, metadata])
    return UploadId(hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32])


def is_drawn(upload_id: UploadId) -> bool:
    """Whether it looks like one of these."""
    return _DRAWN.fullmatch(upload_id) is not None


class State(StrEnum):
    """Where an upload is on its way. All bytes in is not the same as finished."""

    RECEIVING = "receiving"
    ASSEMBLING = "assembling"
    AVAILABLE = "available"


@dataclass(frozen=True, slots=True)
class Metadata:
    """Upload-Metadata: `raw` as the client sent it (tus C9), `values` decoded, for people and file names."""

    raw: str = ""
    values: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, values: Mapping[str, str]) -> Metadata:
        """Metadata whose raw form is lost, as in records that tusd wrote. Keys are its clients' bytes, as UTF-8."""
        pairs = ((key, base64.b64encode(value.encode()).decode()) for key, value in values.items() if _is_key(key))
        raw = ",".join(f"{key} {value}".rstrip() for key, value in pairs)
        return cls(raw.encode().decode("latin-1"), dict(values))


def _is_key(text: str) -> bool:
    """Whether it can stand in a header (tus C8)."""
    return text.isprintable() and not set(text) & {" ", ","} and bool(text)


@dataclass(frozen=True, slots=True)
class Upload:
    """A snapshot of one upload.

    `length` and `offset` are bytes; `length` is None while deferred. `offset` is the longest unbroken durable run
    from byte 0. Times are seconds since the epoch. `concat` is Upload-Concat as received (tus N10), `partials` what
    a final upload is made of. `is_settled` is False when only the lock's holder can tell the offset: after a crash, or
    while it is writing. `digest` is `<algorithm>:<hex>` of all bytes, of finished uploads where that is wanted.
    `is_named`: a hook chose its id, which others may have had before. `place`: where its bytes are, in the words of the
    store, if that does not follow from the id. `is_heard`: it was made while hooks wanted to hear of its end.
    """

    id: UploadId
    length: int | None
    metadata: Metadata = Metadata()
    offset: int = 0
    state: State = State.RECEIVING
    is_partial: bool = False
    concat: str | None = None
    partials: tuple[UploadId, ...] = ()
    created_at: float = 0.0
    touched_at: float = 0.0
    expire_after_seconds: float | None = None
    digest: str | None = None
    is_settled: bool = True
    is_named: bool = False
    place: str | None = None
    is_heard: bool = False

    @property
    def is_final(self) -> bool:
        return bool(self.partials)

    @property
    def may_come_again(self) -> bool:
        """Whether there may have been, or may be, another upload of this id."""
        return self.is_final or self.is_named

    @property
    def is_available(self) -> bool:
        return self.state is State.AVAILABLE

    @property
    def has_all_bytes(self) -> bool:
        return self.offset == self.length

    @property
    def is_due(self) -> bool:
        """Whether a step may be left to take: to find the offset, to finish, to assemble."""
        return not self.is_available and (not self.is_settled or self.has_all_bytes or self.is_final)

    @property
    def expires_at(self) -> float | None:
        """When the upload may be removed if nothing more arrives; None for finished ones and those kept for ever."""
        if self.expire_after_seconds is None or self.is_available:
            return None
        return max(self.created_at, self.touched_at) + self.expire_after_seconds

    def is_expired(self, now: float) -> bool:
        return self.expires_at is not None and self.expires_at <= now
