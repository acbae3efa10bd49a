"""Every metric: its name, its labels with all values they may have, and the cells it lives in.

Names that tusd has are tusd's, exactly, so that its dashboards go on working; ours start with tusd_py_. Label values
come from fixed sets, so no client can make the number of series grow.

Every cell holds a whole number, durations in `TICKS_PER_SECOND`: adding up the workers in any order then gives the
same sum. Otherwise it could go down by a rounding, which Prometheus takes for a restart and counts everything again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import product

TICKS_PER_SECOND = 2.0**20
OTHER = "other"

METHODS = ("POST", "HEAD", "PATCH", "GET", "DELETE", "OPTIONS", OTHER)
STATUSES = (
    "400", "403", "404", "405", "408", "409", "410", "412", "413", "415", "416", "423", "431", "460",
    "500", "501", "503", "507", OTHER,
)  # fmt: skip
CODES = (
    "ERR_ACCESS_REJECTED",
    "ERR_AMBIGUOUS_UPLOAD_LENGTH",
    "ERR_BAD_REQUEST",
    "ERR_BODY_REFUSED",
    "ERR_CHECKSUM_MISMATCH",
    "ERR_CONCATENATION_UNSUPPORTED",
    "ERR_HEADERS_TOO_LARGE",
    "ERR_HOOK_FAILED",
    "ERR_INCOMPLETE_UPLOAD",
    "ERR_INSUFFICIENT_STORAGE",
    "ERR_INTERNAL_SERVER_ERROR",
    "ERR_INVALID_CHECKSUM",
    "ERR_INVALID_CONCAT",
    "ERR_INVALID_CONTENT_TYPE",
    "ERR_INVALID_METADATA",
    "ERR_INVALID_OFFSET",
    "ERR_INVALID_QUERY",
    "ERR_INVALID_REQUEST",
    "ERR_INVALID_UPLOAD_LENGTH",
    "ERR_INVALID_UPLOAD_LENGTH_DEFER",
    "ERR_LISTING_REFUSED",
    "ERR_LISTING_UNSUPPORTED",
    "ERR_LOCKER_UNAVAILABLE",
    "ERR_MAX_SIZE_EXCEEDED",
    "ERR_METHOD_NOT_ALLOWED",
    "ERR_MISMATCHED_OFFSET",
    "ERR_MODIFY_FINAL",
    "ERR_NOT_FOUND",
    "ERR_ORIGIN_NOT_ALLOWED",
    "ERR_READ_TIMEOUT",
    "ERR_REQUEST_TIMEOUT",
    "ERR_SERVER_SHUTDOWN",
    "ERR_STORAGE_FAILED",
    "ERR_STORAGE_TIMEOUT",
    "ERR_STORAGE_UNAVAILABLE",
    "ERR_TOO_MANY_CONNECTIONS",
    "ERR_UNEXPECTED_EOF",
    "ERR_UNSUPPORTED_VERSION",
    "ERR_UNWANTED_BODY",
    "ERR_UPLOAD_EXISTS",
    "ERR_UPLOAD_INTERRUPTED",
    "ERR_UPLOAD_LOCKED",
    "ERR_UPLOAD_NOT_FOUND",
    "ERR_UPLOAD_REJECTED",
    "ERR_UPLOAD_SIZE_EXCEEDED",
    "ERR_UPLOAD_STOPPED",
    "ERR_UPLOAD_TERMINATION_REJECTED",
    OTHER,
)
REASONS = {
    "ERR_UPLOAD_INTERRUPTED": "taken_over",
    "ERR_UNEXPECTED_EOF": "client_gone",
    "ERR_READ_TIMEOUT": "client_silent",
    "ERR_SERVER_SHUTDOWN": "shutdown",
    "ERR_UPLOAD_STOPPED": "stopped",
    OTHER: OTHER,
}

EVENTS = (
    "pre-access", "pre-create", "post-create", "post-receive", "pre-finish", "post-finish", "pre-terminate",
    "post-terminate", OTHER,
)  # fmt: skip

# Requests and bodies last from a millisecond to the hours of a large file.
_REQUEST_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 600.0, 3600.0)  # fmt: skip  # noqa: E501
_CLIENT_BOUNDS = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0)
_STORE_BOUNDS = (0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 120.0)
_HOOK_BOUNDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 600.0, 3600.0)
_LOCK_BOUNDS = (0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0)


class Kind(StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Family:
    """One metric. Each of `rows`, the values its labels may have, takes `width` cells from `start` on.

    A histogram's row is its buckets, not cumulative, the last one without bound, and then the sum.
    """

    name: str
    text: str
    kind: Kind
    start: int
    labels: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    bounds: tuple[float, ...]

    @property
    def width(self) -> int:
        return len(self.bounds) + 2 if self.kind is Kind.HISTOGRAM else 1

    @property
    def end(self) -> int:
        return self.start + self.width * len(self.rows)


FAMILIES: list[Family] = []


def _family(
    kind: Kind,
    name: str,
    text: str,
    labels: tuple[str, ...] = (),
    rows: tuple[tuple[str, ...], ...] = ((),),
    bounds: tuple[float, ...] = (),
) -> Family:
    start = FAMILIES[-1].end if FAMILIES else 0
    family = Family(name, text, kind, start, labels, rows, bounds)
    FAMILIES.append(family)
    return family


def _rows(values: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    return tuple((value,) for value in values)


REQUESTS = _family(
    Kind.COUNTER, "tusd_requests_total", "Requests answered, by method.", ("method",), _rows(METHODS)
)  # fmt: skip
ERRORS = _family(
    Kind.COUNTER, "tusd_errors_total", "Requests answered with an error, by status and code.",
    ("status", "code"), tuple(product(STATUSES, CODES)),
)  # fmt: skip
BYTES_RECEIVED = _family(Kind.COUNTER, "tusd_bytes_received", "Bytes of uploads received.")
UPLOADS_CREATED = _family(Kind.COUNTER, "tusd_uploads_created", "Uploads created.")
UPLOADS_FINISHED = _family(Kind.COUNTER, "tusd_uploads_finished", "Uploads finished.")
UPLOADS_TERMINATED = _family(Kind.COUNTER, "tusd_uploads_terminated", "Uploads terminated by their clients.")
CONNECTIONS_OPEN = _family(Kind.GAUGE, "tusd_connections_open", "Connections open now.")

UPLOADS_EXPIRED = _family(
    Kind.COUNTER, "tusd_py_uploads_expired_total", "Unfinished uploads removed because nobody touched them."
)  # fmt: skip
INTERRUPTIONS = _family(
    Kind.COUNTER, "tusd_py_interruptions_total", "Bodies that ended early; what they brought is kept.",
    ("reason",), _rows(tuple(REASONS.values())),
)  # fmt: skip
BODIES_OPEN = _family(Kind.GAUGE, "tusd_py_bodies_open", "Bodies of uploads being received now.")
REQUEST_SECONDS = _family(
    Kind.HISTOGRAM, "tusd_py_request_duration_seconds", "From the head of a request to the end of its answer.",
    ("method",), _rows(METHODS), _REQUEST_BOUNDS,
)  # fmt: skip
CLIENT_SECONDS = _family(
    Kind.HISTOGRAM, "tusd_py_body_client_duration_seconds", "Of a body's time, what was spent waiting for its client.",
    bounds=_CLIENT_BOUNDS,
)  # fmt: skip
STORE_SECONDS = _family(
    Kind.HISTOGRAM, "tusd_py_body_store_duration_seconds", "Of a body's time, what was spent waiting for the store.",
    bounds=_STORE_BOUNDS,
)  # fmt: skip
LOCK_SECONDS = _family(
    Kind.HISTOGRAM, "tusd_py_lock_wait_duration_seconds", "Waiting for the lock of an upload.", bounds=_LOCK_BOUNDS
)  # fmt: skip
HOOK_INVOCATIONS = _family(
    Kind.COUNTER, "tusd_hook_invocations_total", "Hooks called, by event.", ("hooktype",), _rows(EVENTS)
)  # fmt: skip
HOOK_ERRORS = _family(
    Kind.COUNTER, "tusd_hook_errors_total", "Hooks that failed, by event.", ("hooktype",), _rows(EVENTS)
)  # fmt: skip
HOOK_SECONDS = _family(
    Kind.HISTOGRAM, "tusd_py_hook_duration_seconds", "From the call of a hook to its answer or failure, by event.",
    ("hooktype",), _rows(EVENTS), _HOOK_BOUNDS,
)  # fmt: skip

JOB_STATES = ("waiting", "running", "dead")
JOBS = "tusd_py_jobs"
JOB_OLDEST_SECONDS = "tusd_py_job_oldest_seconds"


@dataclass(frozen=True, slots=True)
class Jobs:
    """What hooks are owed. In no cells: it is one queue's, whoever of its workers asks it. `oldest_seconds`: for how
    long the one that is due for longest is."""

    counts: Mapping[str, int]
    oldest_seconds: float


CELLS = FAMILIES[-1].end
LAYOUT = hashlib.sha256(repr(FAMILIES).encode()).digest()[:16]
"""Files with another layout are another version's: their cells mean something else."""
GAUGES = frozenset(cell for family in FAMILIES if family.kind is Kind.GAUGE for cell in range(family.start, family.end))
