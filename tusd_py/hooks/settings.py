"""The settings of a hook: a dataclass of its author's, filled from what an operator wrote in a file or as text.

Every error is a ConfigError that names the key, what was given and what is allowed. A field with `repr=False` is a
secret: no error shows its value. Where the values come from is left to whoever calls.
"""

from __future__ import annotations

import difflib
import math
import re
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

from tusd_py.errors import ConfigError

T = TypeVar("T")
_WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_HIDDEN = "(secret)"


class Described(NamedTuple):
    """A setting, for people. `default` is None where one must be given."""

    key: str
    type: str
    default: str | None
    doc: str


def fill(settings_class: type[T], given: Mapping[str, object], where: str) -> T:
    """An instance with these values; keys may be written with - or _. `where` begins every error."""
    hints = _hints(settings_class, where)
    known = {each.name: each for each in _fields(settings_class)}
    values: dict[str, object] = {}
    for key, value in given.items():
        name = key.replace("-", "_")
        if name not in known:
            raise ConfigError(f"{where}: there is no setting {_key(key)!r}; {_offer(key, list(known))}")
        if name in values:
            raise ConfigError(f"{where}: {_key(name)} is given twice, once with - and once with _")
        values[name] = _read_field(known[name], hints[name], value, where)
    missing = [name for name, each in known.items() if name not in values and _is_required(each)]
    if missing:
        needs = ", ".join(f"{_key(name)} ({_kind(hints[name])})" for name in missing)
        raise ConfigError(f"{where}: not set, and it must be: {needs}")
    try:
        return settings_class(**values)
    except Exception as error:
        told = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        secrets = [value for name, value in values.items() if not known[name].repr]
        if not secrets:
            raise ConfigError(f"{where}: {told}") from error
        raise ConfigError(f"{where}: {_without(secrets, told)}") from None  # the cause would show them


def describe(settings_class: type) -> list[Described]:
    """Every setting; `doc` is the field's metadata "help", or else the line `name: text` of the class's docstring."""
    hints = _hints(settings_class, settings_class.__name__)
    docs = _docs(settings_class)
    described = []
    for each in _fields(settings_class):
        doc = str(each.metadata.get("help") or docs.get(each.name, ""))
        if is_dataclass(hints[each.name]) and each.repr:
            inner = describe(hints[each.name])
            described += [one._replace(key=f"{_key(each.name)}.{one.key}") for one in inner]
        else:
            described.append(Described(_key(each.name), _kind(hints[each.name]), _default(each), doc))
    return described


# Values. Each reader gives the value as it is kept, or raises ValueError, perhaps saying more than `_kind` does.


def _read_field(field: Field[Any], hint: Any, value: object, where: str) -> object:
    here = f"{where}: {_key(field.name)}"
    if not field.repr:
        try:
            return _read(hint, value, here)
        except (ValueError, ConfigError):
            raise ConfigError(f"{here}: what is given is wrong; it is {_kind(hint)}") from None
    try:
        return _read(hint, value, here)
    except ValueError as error:
        reason = f" ({error})" if str(error) else ""
        raise ConfigError(f"{here}: {_shown(value)} is wrong{reason}; it is {_kind(hint)}") from None


def _read(hint: Any, value: object, where: str) -> object:
    if hint in _READERS:
        return _READERS[hint](value)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _read_any(arguments, value, where)
    if origin is Literal:
        return _read_option({str(each): each for each in arguments}, value)
    if origin in (tuple, list, dict):
        return _read_many(origin, arguments[-1 if origin is dict else 0], value, where)
    if is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, Mapping):
            raise ValueError
        return fill(hint, value, where)
    if isinstance(hint, type) and issubclass(hint, Enum):
        if isinstance(value, hint):
            return value
        return _read_option({str(each.value): each for each in hint}, value)
    raise AssertionError(hint)  # _kind has refused it


def _read_many(kind: type, hint: Any, value: object, where: str) -> object:
    if kind is dict:
        if not isinstance(value, Mapping):
            raise ValueError
        return {str(key): _read(hint, each, where) for key, each in value.items()}
    items = [_read(hint, each, where) for each in _items(value)]
    return tuple(items) if kind is tuple else items


def _read_any(hints: Sequence[Any], value: object, where: str) -> object:
    if value is None and type(None) in hints:
        return None
    reasons = []
    for hint in hints:
        if hint is type(None):
            continue
        try:
            return _read(hint, value, where)
        except ValueError as error:
            reasons.append(str(error))
    raise ValueError(reasons[0] if len(reasons) == 1 else "")


def _read_option(options: Mapping[str, object], value: object) -> object:
    if isinstance(value, bool) or str(value) not in options:
        found = [each for each in options.values() if each is value]
        if found:
            return found[0]
        raise ValueError
    return options[str(value)]


def _read_text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("write it as text, in quotes")  # noqa: TRY004 - one exception for every wrong value
    return value


def _read_bool(value: object) -> bool:
    if isinstance(value, str) and value.lower() in _WORDS:
        return _WORDS[value.lower()]
    if not isinstance(value, bool):
        raise ValueError  # noqa: TRY004
    return value


def _read_int(value: object) -> int:
    if isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]{1,300}", value.strip()):
        return int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError  # noqa: TRY004
    return value


def _read_float(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError  # noqa: TRY004
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise ValueError from None
    if math.isnan(number):
        raise ValueError("no number can be compared with it")
    return number


def _read_path(value: object) -> Path:
    if not isinstance(value, str | Path) or not str(value):
        raise ValueError
    return Path(value)


_READERS: Mapping[Any, Callable[[object], object]] = {
    str: _read_text,
    bool: _read_bool,
    int: _read_int,
    float: _read_float,
    Path: _read_path,
}


def _items(value: object) -> Sequence[object]:
    if isinstance(value, str):
        return [each.strip() for each in value.split(",")] if value.strip() else []
    if not isinstance(value, list | tuple):
        raise ValueError  # noqa: TRY004
    return value


# What is said of them.


def _kind(hint: Any) -> str:
    """What may stand there, in words. Raises ConfigError for types that no settings have."""
    if hint in _KINDS:
        return _KINDS[hint]
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        kinds = " or ".join(_kind(each) for each in arguments if each is not type(None))
        return f"{kinds}, or nothing" if type(None) in arguments else kinds
    if origin is Literal:
        return "one of " + ", ".join(str(each) for each in arguments)
    if origin is list or (origin is tuple and len(arguments) == 2 and arguments[1] is ...):
        return f"a list of: {_kind(arguments[0])}"
    if origin is dict and arguments[0] is str:
        return f"a table of: {_kind(arguments[1])}"
    if is_dataclass(hint):
        return "a table of settings"
    if isinstance(hint, type) and issubclass(hint, Enum):
        return "one of " + ", ".join(str(each.value) for each in hint)
    raise ConfigError(
        f"settings of hooks have no type {getattr(hint, '__name__', hint)}; they have str, int, float, bool, Path,"
        " Literal, Enum, tuple[X, ...], list[X], dict[str, X], X | None and"
        " dataclasses of these"
    )


_KINDS: Mapping[Any, str] = {
    str: "text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    Path: "a path",
}


def _hints(settings_class: type, where: str) -> dict[str, Any]:
    try:
        hints = get_type_hints(settings_class)
    except NameError as error:
        raise ConfigError(f"{where}: the types of {settings_class.__name__} cannot be found: {error}") from error
    for each in _fields(settings_class):
        try:
            _kind(hints[each.name])
        except ConfigError as error:
            raise ConfigError(f"{where}: {settings_class.__name__}.{each.name}: {error}") from None
    return hints


def _fields(settings_class: type) -> list[Field[Any]]:
    return [each for each in fields(settings_class) if each.init]


def _is_required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _default(field: Field[Any]) -> str | None:
    if field.default_factory is not MISSING:
        value = field.default_factory()
    elif field.default is not MISSING:
        value = field.default
    else:
        return None
    return _written(value) if field.repr else _HIDDEN


def _written(value: object) -> str:
    """As text that `fill` would read."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, dict):
        return ",".join(f"{key}={_written(each)}" for key, each in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ",".join(_written(each) for each in value) or "none"
    return "none" if value is None else str(value)


def _docs(settings_class: type) -> dict[str, str]:
    """Of a docstring with lines `name: text`, which may go on in lines that are set in."""
    docs: dict[str, str] = {}
    name = None
    names = {each.name for each in _fields(settings_class)}
    for line in (settings_class.__doc__ or "").splitlines():
        found = re.match(r"\s*`?(\w+)`?\s*(?:\([^)]*\))?:\s+(.*)", line)
        if found and found[1] in names:
            name = found[1]
            docs[name] = found[2].strip()
        elif name and line.strip():
            docs[name] += f" {line.strip()}"
        else:
            name = None
    return docs


def _offer(key: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(key.replace("-", "_"), known, n=1)
    if near:
        return f"did you mean {_key(near[0])}?"
    return "there are " + ", ".join(_key(name) for name in known) if known else "it has none"


def _key(name: str) -> str:
    return name.replace("_", "-")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}..."


def _without(secrets: Sequence[object], text: str) -> str:
    for secret in secrets:
        for shown in {str(secret), repr(secret)} if str(secret) else ():
            text = text.replace(shown, _HIDDEN)
    return text
