"""Which hooks a folder holds (--hooks-dir): a file named exactly as an event is that event's hook, as in tusd; so is,
which tusd does not know, each file in `<event>.d/`, in the order of their names, but for those that begin with a dot.
Files that end in .py, Python packages and what has no name like an event's belong to others.

It is looked at once, at start: tusd looks at each event, but then every event would have to be made, and those that are
owed be stored, for hooks that are not there. What a file holds may change at any time, and it may go and come back.
"""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from tusd_py.core.events import EventType
from tusd_py.errors import ConfigError
from tusd_py.hooks.executable.program import Executable
from tusd_py.logs import event as log_event

_log = logging.getLogger(__name__)

_EVENTS = {str(each): each for each in EventType}
_ALIKE = 0.8  # of difflib: finds precreate, pre-crate and post-created, and leaves git's pre-receive alone


def find_in_folder(
    folder: Path, enabled_events: Collection[EventType], environment: Mapping[str, str]
) -> list[Executable]:
    """The hooks of the enabled events, in the order they are to be asked in. Blocking, for the start.

    What is there and will not run is told as a warning. A file that may not be executed is a hook nevertheless: it
    fails, as in tusd, since to pass over a check is worse. Raises ConfigError without such a folder.
    """
    folder = folder.absolute()
    try:
        hooks = list(_find(folder, enabled_events, environment))
        for hook in hooks:
            _warn_of_unready(hook.path)
    except OSError as error:
        what = f"cannot look for hooks in {folder}: {error.strerror}"
        raise ConfigError(f"--hooks-dir: {what}; name a folder that this server's user may read") from error
    return hooks


def _find(folder: Path, enabled_events: Collection[EventType], environment: Mapping[str, str]) -> Iterator[Executable]:
    for path in sorted(folder.iterdir()):  # which puts a hook before those in its `.d`
        event_type = _EVENTS.get(path.name.removesuffix(".d"))
        if event_type is None or path.is_dir() != path.name.endswith(".d"):
            _warn_of_mistaken(path)
        elif event_type not in enabled_events:
            _warn("HookNotEnabled", path, f"add {event_type} to --hooks-enabled-events, or take it out of the folder")
        else:
            for program in _programs_in(path) if path.is_dir() else [path]:
                yield Executable(str(program.relative_to(folder)), program, frozenset({event_type}), environment)


def _programs_in(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.is_dir() or path.name.endswith("~"):
            _warn("HookNotRecognized", path, "take it out of the folder: it is a folder or the copy of an editor")
        elif not path.name.startswith("."):
            yield path


def _warn_of_mistaken(path: Path) -> None:
    """Of a name that was meant to be an event's. A folder with the name of an event is one, too."""
    if path.suffix == ".py" or (path / "__init__.py").exists():
        return
    stem = path.name.lower().split(".")[0]
    nearest = difflib.get_close_matches(stem, _EVENTS, n=1, cutoff=_ALIKE)
    if nearest:
        name = f"{nearest[0]}.d" if path.is_dir() else nearest[0]
        _warn("HookNotRecognized", path, f"it never runs; name it {name} if it should")


def _warn_of_unready(path: Path) -> None:
    if not path.exists():
        _warn("HookNotReady", path, "the link leads nowhere: it is as if it were not there")
    elif not os.access(path, os.X_OK):
        _warn("HookNotReady", path, "not executable, so each of its events fails: chmod +x, or take it out")


def _warn(name: str, path: Path, advice: str) -> None:
    log_event(_log, name, level=logging.WARNING, path=str(path), advice=advice)
