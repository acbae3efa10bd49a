"""Log lines on standard error: time, level, event and its values."""

from __future__ import annotations

import logging
import sys


def configure(*, is_verbose: bool) -> None:
    """Show this package's events (`is_verbose`), or only warnings and errors. For the command, not for embedders."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger("tusd_py").setLevel(logging.INFO if is_verbose else logging.WARNING)
