"""tusd_py: a resumable-upload server for the tus protocol.

What applications use is named here and imported when it is asked for, so that `import tusd_py` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tusd_py.app import create_app as create_app
    from tusd_py.config import Config as Config
    from tusd_py.core.uploads import Uploads as Uploads
    from tusd_py.errors import ConfigError as ConfigError
    from tusd_py.errors import TusError as TusError

__version__ = "0.1.0"

__all__ = ["Config", "ConfigError", "TusError", "Uploads", "__version__", "create_app"]

_HOMES = {
    "Config": "tusd_py.config",
    "ConfigError": "tusd_py.errors",
    "TusError": "tusd_py.errors",
    "Uploads": "tusd_py.core.uploads",
    "create_app": "tusd_py.app",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
