"""The folder has no package, so that its commands can be run by their path; its modules are found here."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
