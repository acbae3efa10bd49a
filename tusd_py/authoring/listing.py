"""`tusd-py hooks list`: which hooks there are, what they listen to, and what may be set."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable, Iterator

from tusd_py.client.answers import shown
from tusd_py.errors import ConfigError
from tusd_py.hooks import finding
from tusd_py.hooks.contract import EVENTS, Hook
from tusd_py.hooks.settings import describe

_FOLDER = "hooks"
_WIDTH = 100


def show(folder: str, tell: Callable[[str], object]) -> int:
    """`folder` may be empty: then it is ./hooks, if that is there. 1 if a hook cannot be loaded: the rest is shown."""
    failed = 0
    count = 0
    for use, where in _places(folder):
        count += 1
        try:
            name, hook = finding.find(use)
            lines = list(_lines(name, hook, where))
        except ConfigError as error:
            failed += 1
            told = textwrap.fill(f"cannot be loaded: {error}", _WIDTH, initial_indent="  ", subsequent_indent="    ")
            lines = [os.path.basename(use), told]
        tell(("\n" if count > 1 else "") + "".join(f"{shown(part)}\n" for line in lines for part in line.split("\n")))
    if not count:
        tell(
            f"There are no hooks: none is installed, and none is in {folder or _FOLDER}/.\n"
            "Make one: tusd-py hooks new NAME\n"
        )
    return 1 if failed else 0


def _places(folder: str) -> Iterator[tuple[str, str]]:
    """What `find` takes, and what people call it."""
    for name, entry in finding.entry_points().items():
        version = f" of {entry.dist.name} {entry.dist.version}" if entry.dist is not None else ""
        yield name, f"installed: {entry.value}{version}"
    if folder or os.path.isdir(_FOLDER):
        for path in finding.candidates(folder or _FOLDER):
            yield path, os.path.relpath(path)


def _lines(name: str, hook: Hook, where: str) -> Iterator[str]:
    yield f"{name} ({where})"
    for event in EVENTS:
        functions = [getattr(each.function, "__name__", "?") for each in hook.handlers if each.event == event]
        if functions:
            yield f"  {event:14} {', '.join(functions)}"
    if hook.settings is not None:
        yield "  settings:"
        for each in describe(hook.settings):
            default = "must be set" if each.default is None else f"default: {each.default}"
            text = f"{each.key}: {each.type} ({default})" + (f". {each.doc}" if each.doc else "")
            yield textwrap.fill(text, _WIDTH, initial_indent="    ", subsequent_indent="      ")
