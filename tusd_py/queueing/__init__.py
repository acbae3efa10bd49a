"""The commands `tusd-py jobs` and `tusd-py worker`, for those who run the server: their words and help.

What hooks are owed, looked at, tried again, dropped, and done. What each does stands in a module of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tusd_py.config import Config
from tusd_py.queueing.words import HELP as HELP
from tusd_py.queueing.words import JOBS as JOBS
from tusd_py.queueing.words import SUMMARY as SUMMARY
from tusd_py.queueing.words import WORKER as WORKER


def run(words: Sequence[str], config: Config, tell: Callable[[str], object]) -> int:
    """`words` begin with one of these commands. Returns the exit code; raises ConfigError for what makes no sense."""
    # Imported here: who only wants help loads none of it.
    command, *rest = words
    if command == WORKER:
        from tusd_py.queueing import working  # noqa: PLC0415

        return working.run(rest, config, tell)
    from tusd_py.queueing import listing  # noqa: PLC0415

    return listing.run(rest, config, tell)
