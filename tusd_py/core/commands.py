"""What a codec makes of a request: typed, checked for form, not yet for meaning. The outcome is the `Upload` as it
stands afterwards, or a `TusError`.
"""

from __future__ import annotations

from dataclasses import dataclass

from tusd_py.core.checksum import Checksum
from tusd_py.core.upload import Metadata, UploadId


@dataclass(frozen=True, slots=True)
class Create:
    """Make a new upload. `length` None means deferred. `has_body`: the request's body is the first bytes (tus W2)."""

    length: int | None
    metadata: Metadata = Metadata()
    is_partial: bool = False
    concat: str | None = None
    has_body: bool = False
    content_length: int | None = None
    checksum: Checksum | None = None


@dataclass(frozen=True, slots=True)
class Concatenate:
    """Make a final upload of `partials`, in this order (tus N3). `concat` is the header as received."""

    partials: tuple[UploadId, ...]
    concat: str
    metadata: Metadata = Metadata()


@dataclass(frozen=True, slots=True)
class Append:
    """Add a body at `offset`. `length` declares a deferred length; `content_length` is None for a chunked body."""

    id: UploadId
    offset: int
    length: int | None = None
    content_length: int | None = None
    checksum: Checksum | None = None
