"""tusd_py: a resumable-upload server for the tus protocol.

What applications use is named here and imported when it is asked for, so that `import tusd_py` costs nothing. The types
are in `__init__.pyi`: this module is below all others, who take the version from it.
"""

from __future__ import annotations

from importlib import import_module

__version__ = "0.1.0"

_HOMES = {
    "Config": "tusd_py.config",
    "ConfigError": "tusd_py.errors",
    "TusError": "tusd_py.errors",
    "Upload": "tusd_py.core.upload",
    "Uploads": "tusd_py.core.uploads",
    "create_app": "tusd_py.app",
    "parse_id": "tusd_py.core.upload",
}

__all__ = ["__version__", *_HOMES]  # noqa: PLE0604  (strings all)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
