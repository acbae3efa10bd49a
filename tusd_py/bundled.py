"""Where to find what travels in the wheel beside the package, and stands at the top of a checkout.

Only finds it; what becomes of it is for whoever asks. It gets there by `hatch_build.py`.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parent
_CHECKOUT = _PACKAGE.parent

_BUILT = {"static": Path("static", "dist")}


def bundled(name: str) -> Path | None:
    """The folder in a wheel, an editable install or a checkout; None where it was not built."""
    in_wheel = _PACKAGE / "_bundled" / name
    if in_wheel.is_dir():
        return in_wheel
    # Beside an installed package there may be anybody's folders.
    in_checkout = _CHECKOUT / _BUILT.get(name, name)
    return in_checkout if (_CHECKOUT / "hatch_build.py").is_file() and in_checkout.is_dir() else None
