"""What this server allows and offers, and the checks that need no body and no waiting: pure functions of an upload,
a command and the rules.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

from tusd_py.core.body import Body
from tusd_py.core.commands import Append
from tusd_py.core.ports import Capabilities
from tusd_py.core.upload import Upload
from tusd_py.errors import RequestError, TusError, max_size_exceeded, mismatched_offset, size_exceeded


@dataclass(frozen=True, slots=True)
class Rules:
    """What this server allows. Bytes and seconds; None means no limit and never. `digest` is the algorithm of the
    digests of finished uploads, empty: they have none."""

    max_size_bytes: int | None = None
    expire_after_seconds: float | None = None
    allows_termination: bool = True
    allows_concatenation: bool = True
    allows_download: bool = True
    digest: str = ""

    def check_size(self, length: int | None) -> None:
        limit = self.max_size_bytes
        if limit is not None and length is not None and length > limit:
            raise max_size_exceeded(limit)

    def check_append(self, upload: Upload, command: Append) -> None:
        """Everything that can be wrong with an append to `upload` before its body is looked at."""
        refuse_expired(upload)
        refuse_final(upload)
        if command.length is not None:
            if upload.length is not None and command.length != upload.length:  # tus C4
                raise RequestError(
                    f"Upload-Length was {upload.length} and cannot change", code="ERR_INVALID_UPLOAD_LENGTH"
                )
            if command.length < upload.offset:
                raise RequestError("Upload-Length is below the offset", code="ERR_INVALID_UPLOAD_LENGTH")
        if command.offset != upload.offset:  # tus K15
            raise mismatched_offset(upload.offset)
        self.check_size(command.length)

    def bound(self, body: Body, upload: Upload, content_length: int | None) -> None:
        """Refuse what is announced to be too long before a byte is read, and the rest at the byte too many."""
        bound = upload.length if upload.length is not None else self.max_size_bytes
        if bound is None:
            return

        def too_long() -> TusError:
            return size_exceeded() if upload.length is not None else max_size_exceeded(bound)

        left = bound - upload.offset
        if content_length is not None and content_length > left:
            raise too_long()
        body.bound(left, too_long)


@dataclass(frozen=True, slots=True)
class Offers:
    """What clients can do here: the store's capabilities less what the rules take away."""

    termination: bool
    concatenation: bool
    deferred_length: bool
    expiration: bool
    download: bool
    max_size_bytes: int | None

    @classmethod
    def of(cls, rules: Rules, can: Capabilities) -> Self:
        return cls(
            termination=rules.allows_termination and can.terminates is not None,
            concatenation=rules.allows_concatenation and can.concatenates is not None,
            deferred_length=can.defers_length is not None,
            expiration=rules.expire_after_seconds is not None and can.expires is not None,
            download=rules.allows_download and can.serves_ranges is not None,
            max_size_bytes=rules.max_size_bytes,
        )


def refuse_expired(upload: Upload) -> None:
    if upload.is_expired(time.time()):  # tus E3
        raise RequestError("the upload has expired", code="ERR_UPLOAD_NOT_FOUND", status=410)


def refuse_final(upload: Upload) -> None:
    if upload.is_final:  # tus N6
        raise RequestError("a final upload cannot be changed", code="ERR_MODIFY_FINAL", status=403)


def total_length(partials: Sequence[Upload]) -> int | None:
    """The length of a final upload of these partials (tus N3); None while one of them is deferred."""
    total = 0
    for partial in partials:
        if partial.length is None:
            return None
        total += partial.length
    return total


@contextmanager
def as_bad_partials() -> Iterator[None]:
    """What is wrong with a partial is 400 to who named it: the URL that was asked is there."""
    try:
        yield
    except RequestError as error:
        if error.status not in (400, 404, 410):
            raise
        raise RequestError(f"Upload-Concat: {error.message}", code="ERR_INVALID_CONCAT") from error
