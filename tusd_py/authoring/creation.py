"""`tusd-py hooks new`: a hook that works, and its test. What stands in them is in `template`."""

from __future__ import annotations

import keyword
import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path

from tusd_py.errors import ConfigError

_TEMPLATE = Path(__file__).parent / "template"
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


def create(name: str, folder: str, tell: Callable[[str], object]) -> int:
    """Raises ConfigError, with nothing written, for a bad name or files that are there."""
    _refuse_bad(name)
    texts = {
        os.path.join(folder, f"{name}.py"): (_TEMPLATE / "hook.txt").read_text(encoding="utf-8"),
        os.path.join(folder, f"test_{name}.py"): (_TEMPLATE / "test.txt").read_text(encoding="utf-8"),
    }
    for path in (*texts, os.path.join(folder, name)):
        if os.path.lexists(path):
            raise ConfigError(f"{path} is there already, and stays as it is; choose another name, or move it away")
    try:
        os.makedirs(folder, exist_ok=True)
        for path, text in texts.items():
            with open(path, "x", encoding="utf-8") as file:
                file.write(text.replace("HOOK_NAME", name))
    except OSError as error:
        raise ConfigError(
            f"the hook cannot be written to {folder!r}: {(error.strerror or str(error)).lower()}"
        ) from error
    hook, test = texts
    called = name if os.path.normpath(folder) == "hooks" else os.path.join(folder or ".", f"{name}.py")
    if called != name and os.sep not in called:
        called = os.path.join(".", called)
    tell(
        f"Here is a hook that works, {hook}, and its test, {test}.\n"
        "Change it as you like. To test it, and to try it on a file of yours:\n\n"
        f"  pytest {shlex.quote(test)}\n"
        f"  tusd-py hooks run {shlex.quote(called)} --file {shlex.quote(test)}\n"
    )
    return 0


def _refuse_bad(name: str) -> None:
    if _NAME.fullmatch(name) and not keyword.iskeyword(name) and not name.startswith("test_") and name != "conftest":
        return
    better = re.sub(r"\W+", "_", name.removesuffix(".py").lower(), flags=re.ASCII).strip("_").removeprefix("test_")
    is_better = _NAME.fullmatch(better) and not keyword.iskeyword(better) and better != "conftest"
    hint = f"; how about {better}?" if is_better and better != name else ""
    raise ConfigError(
        f"{name!r} cannot be the name of a hook: a to z, 0 to 9 and _, with a letter first, as in check_csv; no word of"
        f" Python, and nothing that pytest takes for a test{hint}"
    )
