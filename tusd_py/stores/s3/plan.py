"""Where the parts of a multipart upload end: pure arithmetic over the limits of a provider.

All parts but the last have a smallest size, there are so many numbers, and some providers want all parts alike.
Numbers are never used twice (see `record`), so what an upload still lacks must fit into those that are left, with some
to spare.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tusd_py.errors import max_size_exceeded

MIB = 1 << 20
GIB = 1 << 30

SPARE_SHARE = 7 / 10
"""Of the numbers is kept for attempts that come to nothing: where each PATCH comes to another process, two are left out
for each that is used (`inflow.RESTING_WINDOW`)."""
EQUAL_BYTES = 8 * MIB
"""Of each part of a joined whole, where all are to be equal and the numbers suffice."""
COPIED_BYTES = GIB
"""Copied by one call at most, where the numbers suffice: it is answered when it is done, and several go at once."""
GROWTH_PARTS = 1_000
"""While nobody knows the length, parts get twice as large after so many."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a provider allows, in bytes. The defaults are Amazon's."""

    min_part_bytes: int = 5 * MIB
    max_part_bytes: int = 5 * GIB
    max_parts: int = 10_000
    max_object_bytes: int = 10_000 * 5 * GIB
    max_put_bytes: int = 5 * GIB
    wants_equal_parts: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """`preferred_bytes` is the size of a part as long as the numbers suffice."""

    limits: Limits = Limits()
    preferred_bytes: int = 8 * MIB

    def check(self, length: int | None) -> None:
        """Raises RequestError for an upload that is longer than an object may be."""
        limit = min(self.limits.max_object_bytes, self.limits.max_parts * self.limits.max_part_bytes)
        if length is not None and length > limit:
            raise max_size_exceeded(limit)

    def part_bytes(
        self, start: int, number: int, length: int | None, others_bytes: int = 0, *, is_outpaced: bool = False
    ) -> int:
        """The size of part `number`, which begins at byte `start`; only the upload's last part may be shorter.

        `others_bytes` is the size of the parts that there are: where all are to be equal, the first decides. It is
        twice as large where the storage is outpaced: larger parts are less work for it. Raises RequestError where the
        numbers that are left do not hold what is missing.
        """
        limits = self.limits
        left = limits.max_parts - number + 1
        if others_bytes and limits.wants_equal_parts:
            size = others_bytes
        elif length is None:
            size = self._rounded(
                self.preferred_bytes << (0 if limits.wants_equal_parts else (number - 1) // GROWTH_PARTS)
            )
        else:
            usable = max(left - math.ceil(left * SPARE_SHARE), 1)
            size = self._rounded(max(self.preferred_bytes, -(-(length - start) // usable)))
        if is_outpaced and not limits.wants_equal_parts:
            size *= 2
        size = min(size, limits.max_part_bytes)
        if left <= 0 or (length is not None and length - start > left * size):
            raise max_size_exceeded(start + max(left, 0) * size)
        return size

    def _rounded(self, size: int) -> int:
        return max(-(-size // MIB) * MIB, self.limits.min_part_bytes)


Range = tuple[int, int, int]
"""Bytes of the nth source, from the second number up to, not including, the third."""


def joined(sizes: Sequence[int], limits: Limits) -> Iterator[list[Range]]:
    """The parts of a whole that is made of sources of these sizes: each is of one range, which can be copied, or of
    several that are too short for that and must be read."""
    least = max(limits.min_part_bytes, -(-sum(sizes) // limits.max_parts))
    most = min(limits.max_part_bytes, max(least, COPIED_BYTES))
    if limits.wants_equal_parts:
        most = least = min(max(least, EQUAL_BYTES), limits.max_part_bytes)
    short: list[Range] = []
    short_bytes = 0
    for index, size in enumerate(sizes):
        start = 0
        while start < size:
            if not short_bytes and size - start >= least:
                end = min(size, start + most)
                yield [(index, start, end)]
            else:
                end = min(size, start + least - short_bytes)
                short.append((index, start, end))
                short_bytes += end - start
                if short_bytes == least:
                    yield short
                    short, short_bytes = [], 0
            start = end
    if short:
        yield short
