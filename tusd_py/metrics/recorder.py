"""Counting: one method for each thing observed, each a few additions to cells of memory.

It is the `core.observer.Observer` of a worker. What the cells mean is left to `catalogue`, whose they are to `cells`,
and how they are shown to `exposition`.
"""

from __future__ import annotations

from bisect import bisect_left

from tusd_py.metrics import catalogue
from tusd_py.metrics.catalogue import OTHER, TICKS_PER_SECOND, Family, Jobs
from tusd_py.metrics.cells import OwnCells, anonymous
from tusd_py.metrics.folder import Folder, Snapshot, alone

_METHODS = {method: number for number, method in enumerate(catalogue.METHODS)}
_OTHER_METHOD = _METHODS[OTHER]
_STATUSES = {int(status): number for number, status in enumerate(catalogue.STATUSES) if status != OTHER}
_CODES = {code: number for number, code in enumerate(catalogue.CODES)}
_REASONS = {code: number for number, code in enumerate(catalogue.REASONS)}
_EVENTS = {event: number for number, event in enumerate(catalogue.EVENTS)}
_OTHER_EVENT = _EVENTS[OTHER]
_OTHER_STATUS, _OTHER_CODE, _OTHER_REASON = len(_STATUSES), _CODES[OTHER], _REASONS[OTHER]

# Globals are found faster than attributes of other modules.
_REQUESTS = catalogue.REQUESTS.start
_ERRORS, _CODE_COUNT = catalogue.ERRORS.start, len(_CODES)
_INTERRUPTIONS = catalogue.INTERRUPTIONS.start
_BYTES = catalogue.BYTES_RECEIVED.start
_CREATED, _FINISHED = catalogue.UPLOADS_CREATED.start, catalogue.UPLOADS_FINISHED.start
_TERMINATED, _EXPIRED = catalogue.UPLOADS_TERMINATED.start, catalogue.UPLOADS_EXPIRED.start
_HOOK_INVOCATIONS, _HOOK_ERRORS = catalogue.HOOK_INVOCATIONS.start, catalogue.HOOK_ERRORS.start
_CONNECTIONS, _BODIES = catalogue.CONNECTIONS_OPEN.start, catalogue.BODIES_OPEN.start
_REQUEST_START, _REQUEST_WIDTH = catalogue.REQUEST_SECONDS.start, catalogue.REQUEST_SECONDS.width
_REQUEST_BOUNDS = catalogue.REQUEST_SECONDS.bounds


class Metrics:
    """One worker's numbers. With a `folder`, that all workers share, each of them can show those of all.

    Not for several threads at once: an addition is a read and a write. Open it in the process that counts, not before
    a fork. Raises OSError if the folder cannot be used.
    """

    def __init__(self, folder: str | None = None, slot: int = 0) -> None:
        self._folder = Folder(folder) if folder is not None else None
        self._own = OwnCells.create(folder, slot) if folder is not None else None
        self._cells = self._own.cells if self._own is not None else anonymous()
        self._slot = slot

    def snapshot(self) -> Snapshot:
        """The numbers of all workers, the dead ones' counters included. Reads files: call it in a thread."""
        if self._folder is None:
            return alone(self._cells, self._slot)
        return self._folder.snapshot()

    def expose(self, accept: str, jobs: Jobs | None = None) -> tuple[bytes, str]:
        """The numbers of all workers for Prometheus, and their content type. Call it in a thread, too."""
        from tusd_py.metrics.exposition import expose  # noqa: PLC0415  # a tenth of a second, and few need it at once

        return expose(self.snapshot(), accept, jobs)

    def close(self) -> None:
        """Leave: the counters stay counted, the gauges go. What is told afterwards counts nowhere."""
        self._cells = anonymous()
        if self._own is not None:
            self._own.close()
            self._own = None

    # What `core.observer.Observer` asks for.

    def request_ended(self, method: str, status: int, code: str | None, seconds: float) -> None:
        cells = self._cells
        number = _METHODS.get(method, _OTHER_METHOD)
        cells[_REQUESTS + number] += 1.0
        start = _REQUEST_START + number * _REQUEST_WIDTH
        cells[start + bisect_left(_REQUEST_BOUNDS, seconds)] += 1.0
        if seconds > 0.0:
            cells[start + _REQUEST_WIDTH - 1] += round(seconds * TICKS_PER_SECOND)
        if status >= 400:
            self.refused(status, code or OTHER)

    def body_started(self) -> None:
        self._cells[_BODIES] += 1.0

    def bytes_received(self, count: int) -> None:
        self._cells[_BYTES] += count

    def body_ended(self, client_seconds: float, store_seconds: float) -> None:
        cells = self._cells
        cells[_BODIES] -= 1.0
        _observe(cells, catalogue.CLIENT_SECONDS, client_seconds)
        _observe(cells, catalogue.STORE_SECONDS, store_seconds)

    def interrupted(self, code: str) -> None:
        self._cells[_INTERRUPTIONS + _REASONS.get(code, _OTHER_REASON)] += 1.0

    def lock_waited(self, seconds: float) -> None:
        _observe(self._cells, catalogue.LOCK_SECONDS, seconds)

    def upload_created(self) -> None:
        self._cells[_CREATED] += 1.0

    def upload_finished(self) -> None:
        self._cells[_FINISHED] += 1.0

    def upload_terminated(self) -> None:
        self._cells[_TERMINATED] += 1.0

    def upload_expired(self) -> None:
        self._cells[_EXPIRED] += 1.0

    def hook_ended(self, event: str, seconds: float, *, has_failed: bool) -> None:
        cells, number = self._cells, _EVENTS.get(event, _OTHER_EVENT)
        cells[_HOOK_INVOCATIONS + number] += 1.0
        if has_failed:
            cells[_HOOK_ERRORS + number] += 1.0
        _observe(cells, catalogue.HOOK_SECONDS, seconds, number)

    # What the server tells.

    def connection_opened(self) -> None:
        self._cells[_CONNECTIONS] += 1.0

    def connection_closed(self) -> None:
        self._cells[_CONNECTIONS] -= 1.0

    def refused(self, status: int, code: str) -> None:
        number = _STATUSES.get(status, _OTHER_STATUS) * _CODE_COUNT + _CODES.get(code, _OTHER_CODE)
        self._cells[_ERRORS + number] += 1.0


def _observe(cells: memoryview[float], family: Family, seconds: float, row: int = 0) -> None:
    bounds, start = family.bounds, family.start + row * family.width
    cells[start + bisect_left(bounds, seconds)] += 1.0
    if seconds > 0.0:  # a difference of two clocks may be a rounding below
        cells[start + len(bounds) + 1] += round(seconds * TICKS_PER_SECOND)
