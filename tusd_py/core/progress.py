"""How fast uploads go on, over the last seconds of what was heard of them. Which news there are is left to `feed`."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass

from tusd_py.core.upload import UploadId

RATE_SECONDS = 10.0
ACTIVE_SECONDS = 3.0
"""One of which nothing was heard for so long does not move, whatever was said before: its process may be dead."""
_SHORTEST_SECONDS = 0.2
_MOST_UPLOADS = 10_000


@dataclass(frozen=True, slots=True)
class Progress:
    """`received` bytes have arrived; `bytes_per_second` None: not yet known."""

    received: int
    is_active: bool
    bytes_per_second: float | None


class _Samples:
    __slots__ = ("is_active", "points")

    def __init__(self) -> None:
        self.points: deque[tuple[float, int]] = deque()
        self.is_active = False


class Course:
    """What was noted of uploads that are on their way: of so many at most, those that moved last."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._samples: OrderedDict[UploadId, _Samples] = OrderedDict()

    def note(self, upload_id: UploadId, received: int, *, is_active: bool) -> None:
        samples = self._samples.setdefault(upload_id, _Samples())
        self._samples.move_to_end(upload_id)
        if len(self._samples) > _MOST_UPLOADS:
            self._samples.popitem(last=False)
        now = self._clock()
        points = samples.points
        if points and received < points[-1][1]:
            points.clear()  # what had arrived did not count
        points.append((now, received))
        while points[0][0] < now - RATE_SECONDS and len(points) > 1:
            points.popleft()
        samples.is_active = is_active

    def forget(self, upload_id: UploadId) -> None:
        self._samples.pop(upload_id, None)

    def of(self, upload_id: UploadId) -> Progress | None:
        samples = self._samples.get(upload_id)
        if samples is None:
            return None
        now = self._clock()
        heard_at, received = samples.points[-1]
        began_at, before = samples.points[0]
        seconds = now - began_at
        is_fresh = now - heard_at < ACTIVE_SECONDS
        rate = (received - before) / seconds if is_fresh and seconds >= _SHORTEST_SECONDS else None
        return Progress(received, samples.is_active and is_fresh, rate)
