"""When what failed is tried again. Pure: chance and time come from outside.

The first tries come within seconds, since most outages are a restart at the other end; Standard Webhooks, which begin
the same way and go on for 75 hours, leave five minutes after the second. Together almost 70 hours: what broke on Friday
evening and is mended on Monday morning has lost nothing.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

_MINUTE, _HOUR = 60.0, 3600.0

DELAYS_SECONDS: Sequence[float] = (
    *(1.0, 5.0, 15.0, _MINUTE, 5 * _MINUTE, 15 * _MINUTE, 30 * _MINUTE),
    *(_HOUR, 2 * _HOUR, 4 * _HOUR, 6 * _HOUR, 8 * _HOUR, 12 * _HOUR, 12 * _HOUR, 24 * _HOUR),
)
"""How long to wait after each failed attempt. After one more the job is given up."""

JITTER = 0.2
"""By which share at most a delay is longer than it has to be, so that not all who failed come back at once."""

LONGEST_SECONDS = 24 * _HOUR
"""What a hook may ask for: one that says a year has made a mistake."""


def delay_seconds(
    attempt: int, asked_seconds: float | None, chance: float, delays_seconds: Sequence[float] = DELAYS_SECONDS
) -> float | None:
    """How long to wait after this attempt, which counts from 1, or None: it was the last one.

    `asked_seconds` is what the hook asked for, and counts where it is longer. `chance` is from 0 to 1.
    """
    if attempt > len(delays_seconds):
        return None
    wanted = max(delays_seconds[attempt - 1], min(asked_seconds or 0.0, LONGEST_SECONDS))
    return wanted * (1 + JITTER * chance)


class Outage:
    """How long to wait for a queue that is down: a moment at first, then some seconds."""

    _FIRST_SECONDS = 0.1
    _LONGEST_SECONDS = 5.0

    def __init__(self, draw: Callable[[], float] = random.random) -> None:
        self._draw = draw
        self._seconds = self._FIRST_SECONDS

    def next_seconds(self) -> float:
        """Each time about twice as long."""
        seconds = self._seconds
        self._seconds = min(seconds * 2, self._LONGEST_SECONDS)
        return seconds * (1 + JITTER * self._draw())
