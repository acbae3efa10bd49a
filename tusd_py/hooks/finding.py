"""Where hooks come from: entry points of what is installed, modules, files, and folders of these. Owns how an author's
code is loaded and how its mistakes are told: every error is a ConfigError with the file, the line and what to do.
Settings of hooks, and programs that are no Python, are left to others.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.metadata
import importlib.util
import logging
import os
import re
import sys
import traceback
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import NoReturn

from tusd_py import logs
from tusd_py.errors import ConfigError
from tusd_py.hooks.contract import Hook

GROUP = "tusd_py.hooks"
_ATTRIBUTE = "hook"
_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_OTHERS = re.compile(r"[_.]|test_|tests$|conftest")
_log = logging.getLogger(__name__)


def find(use: str) -> tuple[str, Hook]:
    """The hook that these words mean, and what operators know it by.

    `name` of an entry point; `package.module` or `package.module:attribute`; a path that ends in .py, or of a folder
    that is a package (with a slash, as in ./scan), perhaps with `:attribute`, too. Without an attribute it is `hook`.
    """
    place, _, attribute = use.partition(":")
    if is_path(place):
        path = os.path.abspath(place)
        return _named(name_of(path), attribute), _hook_at(path, attribute)
    if not _DOTTED.fullmatch(place) or (attribute and not _DOTTED.fullmatch(attribute)):
        raise ConfigError(
            f"{use!r} is no hook; write the name of an installed one, package.module, package.module:attribute,"
            " or the path of a file, as in ./hooks/mine.py"
        )
    if not attribute and (entry := entry_points().get(place)) is not None:
        return place, _of_entry_point(entry)
    return _named(place, attribute), _hook_of(_module(place), attribute, place)


def find_in_folder(path: str) -> list[tuple[str, Hook]]:
    """The hooks of a folder, in the order of their names: what its files and packages define as `hook`.

    Those that begin with _, test_ or conftest are none. One that defines no hook is passed over, with a warning.
    """
    found = []
    for each in candidates(path):
        module = load(each)
        if getattr(module, _ATTRIBUTE, None) is None and not _hooks_in(module):
            advice = f"it defines no hook = Hook(); if it is not to be one, call it _{os.path.basename(each)}"
            logs.event(_log, "NoHookInFile", level=logging.WARNING, path=each, advice=advice)
            continue
        found.append((name_of(each), _hook_at(each)))
    return found


def warn_of_empty(path: str) -> None:
    """Of a folder that has no hooks of any kind."""
    advice = "nothing in it is asked or told: name the folder that has the hooks"
    logs.event(_log, "NoHookInFolder", level=logging.WARNING, path=os.path.abspath(path), advice=advice)


def candidates(path: str) -> list[str]:
    """The files and packages of a folder that may be hooks, in the order of their names."""
    try:
        names = os.listdir(path)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise ConfigError(f"--hooks-dir: the folder of hooks {path!r} cannot be read: {why}") from error
    found: dict[str, str] = {}
    for name in sorted(names, key=lambda name: (name_of(name), name)):
        each = os.path.join(os.path.abspath(path), name)
        is_file = name.endswith(".py") and os.path.isfile(each)
        if _OTHERS.match(name) or not (is_file or _is_package(each)):
            continue
        if name_of(name) in found:
            raise ConfigError(f"two hooks would have the name {name_of(name)!r}: {found[name_of(name)]} and {each}")
        found[name_of(name)] = each
    return list(found.values())


def entry_points() -> dict[str, importlib.metadata.EntryPoint]:
    """Those of installed packages, by their names. Raises ConfigError where two have the same."""
    found: dict[str, importlib.metadata.EntryPoint] = {}
    for each in importlib.metadata.entry_points(group=GROUP):
        other = found.setdefault(each.name, each)
        if other.value != each.value:
            raise ConfigError(
                f"two installed packages have a hook {each.name!r}: {other.value} and {each.value};"
                " name the one you want by its module"
            )
    return found


def is_path(place: str) -> bool:
    """Whether it is no name. A folder is a path with its slash only: hooks/scan, ./scan."""
    return place.endswith(".py") or os.sep in place or place in (".", "..")


def load(path: str) -> ModuleType:
    """The module of a file or of a package's folder, once in a process. It gets a name that nobody else has, and
    `sys.path` stays as it is: so a package imports its own modules as `from . import other`."""
    path = os.path.abspath(path)
    if os.path.isdir(path) and not _is_package(path):
        raise ConfigError(f"{path} is no package: it has no __init__.py; name a file in it")
    file = os.path.join(path, "__init__.py") if os.path.isdir(path) else path
    if not os.path.isfile(file):
        raise ConfigError(f"there is no file {path}")
    digest = hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()[:12]
    name = f"_tusd_py_hook_{digest}_{re.sub(r'[^0-9a-zA-Z_]', '_', name_of(path))}"
    if name in sys.modules:
        return sys.modules[name]
    inner = [path] if os.path.isdir(path) else None
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=inner)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path} is no file of Python: its name must end in .py")
    return _executed(spec, name, path)


def _hook_at(path: str, attribute: str = "") -> Hook:
    module = load(path)
    try:
        return _hook_of(module, attribute, path)
    except ConfigError:
        _forget(module.__name__)
        raise


def _forget(name: str) -> None:
    """What cannot be used is loaded anew the next time."""
    for each in [each for each in sys.modules if each == name or each.startswith(f"{name}.")]:
        del sys.modules[each]


def _executed(spec: ModuleSpec, name: str, path: str) -> ModuleType:
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look themselves up there
    try:
        assert spec.loader is not None  # noqa: S101 - `load` has asked
        spec.loader.exec_module(module)
    except BaseException as error:
        _forget(name)
        _refuse(error, path)
    return module


def _of_entry_point(entry: importlib.metadata.EntryPoint) -> Hook:
    where = f"the installed hook {entry.name} ({entry.value})"
    return _hook_of(_module(entry.module, where), entry.attr, where)


def _module(name: str, where: str = "") -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            _refuse_unknown(name, where)
        _refuse(error, where or name)
    except BaseException as error:
        _refuse(error, where or name)


def _hook_of(module: ModuleType, attribute: str, where: str) -> Hook:
    name = attribute or _ATTRIBUTE
    value: object = module
    for part in name.split("."):
        value = getattr(value, part, None)
    if value is None:
        others = _hooks_in(module)
        if others:
            raise ConfigError(f"{where} has no {name!r}, but a Hook {others[0]!r}: call that {name!r}, or name it")
        raise ConfigError(f"{where} has no {name!r}; it needs a line such as: {name} = Hook()")
    if not isinstance(value, Hook):
        raise ConfigError(f"{where}: {name!r} is of type {type(value).__name__}, not a tusd_py.hooks.contract.Hook")
    if not value.handlers:
        raise ConfigError(f"{where} listens to nothing: put @{name}.on('post-finish') above a function")
    return value


def _hooks_in(module: ModuleType) -> list[str]:
    return [name for name, value in vars(module).items() if isinstance(value, Hook)]


def _refuse_unknown(name: str, where: str) -> NoReturn:
    if where:
        raise ConfigError(f"{where}: there is no module {name!r}; install its package anew")
    if _is_package(name):
        raise ConfigError(f"there is no module {name!r}; did you mean the folder ./{name}?")
    known = list(entry_points())
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        raise ConfigError(f"there is no hook {name!r}; did you mean {near[0]}?")
    installed = f"installed are {', '.join(known)}" if known else "none is installed"
    raise ConfigError(
        f"there is no hook {name!r}, and no module of that name: {installed}; a file is named by its path,"
        f" as in ./hooks/{name.rpartition('.')[2]}.py"
    )


def _refuse(error: BaseException, path: str) -> NoReturn:
    """Say what an author's code did when it was loaded."""
    if isinstance(error, KeyboardInterrupt):
        raise error
    where = _where(error, path)
    if isinstance(error, ConfigError):
        raise ConfigError(f"{where}: {error}") from error
    if isinstance(error, SystemExit):
        advice = 'put what is not for the server below: if __name__ == "__main__":'
        raise ConfigError(f"{where}: it ends the process when it is loaded; {advice}") from error
    if isinstance(error, ModuleNotFoundError) and error.name is not None:
        raise ConfigError(f"{where}: there is no module {error.name!r}; {_advice(error.name, path)}") from error
    message = " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())
    raise ConfigError(f"{where}: {type(error).__name__}: {message}".rstrip(": ")) from error


def _advice(missing: str, path: str) -> str:
    top = missing.partition(".")[0]
    folder = os.path.dirname(path)
    if os.path.exists(os.path.join(folder, f"{top}.py")) or _is_package(os.path.join(folder, top)):
        stem = name_of(path)
        return (
            f"a hook does not see the files beside it: make a folder {stem} of both, with the hook as"
            f" {stem}/__init__.py, and import it as: from . import {top}"
        )
    return f"install it for {sys.executable}, which runs the server"


def _where(error: BaseException, path: str) -> str:
    """The author's file, and the line that was last at work in it."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    folder = path if os.path.isdir(path) else None
    line = None
    for frame in traceback.extract_tb(error.__traceback__):
        is_theirs = frame.filename == path or (folder is not None and frame.filename.startswith(folder + os.sep))
        if is_theirs or (not os.path.isabs(path) and not _is_machinery(frame.filename)):
            line = f"{frame.filename}, line {frame.lineno}"
    return line or path


def _is_machinery(file: str) -> bool:
    return file.startswith("<frozen ") or file in (__file__, importlib.__file__) or file.endswith("hooks/contract.py")


def _is_package(path: str) -> bool:
    return os.path.isfile(os.path.join(path, "__init__.py"))


def name_of(path: str) -> str:
    """What a hook at this path is called."""
    return os.path.basename(path.rstrip(os.sep)).removesuffix(".py")


def _named(name: str, attribute: str) -> str:
    return f"{name}.{attribute}" if attribute and attribute != _ATTRIBUTE else name
