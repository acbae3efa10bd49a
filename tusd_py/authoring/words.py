"""The words after `tusd-py hooks`, as the rest of the command line has them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import NoReturn

from tusd_py.client.words import dashed, header
from tusd_py.errors import ConfigError


def read(command: str, rest: Sequence[str]) -> argparse.Namespace:
    words = parser(command)
    given = words.parse_args(dashed(rest, words))
    for name in ("name", "hook"):
        found = getattr(given, name, None)
        if found is not None and not given.help:
            setattr(given, name, _one(found, name.upper(), command))
    return given


def _one(given: Sequence[str], what: str, command: str) -> str:
    if len(given) != 1:
        raise ConfigError(f"hooks {command} takes one {what}, not {len(given)}; see tusd-py hooks --help")
    return given[0]


class _Words(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see tusd-py hooks --help")


def parser(command: str) -> argparse.ArgumentParser:
    words = _Words(f"tusd-py hooks {command}", add_help=False, allow_abbrev=False)
    words.add_argument("-h", "--help", action="store_true")
    if command == "new":
        words.add_argument("name", nargs="*")
        words.add_argument("--dir", default="hooks")
    elif command == "list":
        words.add_argument("--hooks-dir", default="")
    else:
        words.add_argument("hook", nargs="*")
        words.add_argument("--file", default="")
        words.add_argument("--event", default="")
        words.add_argument("--json", default="")
        words.add_argument("--header", action="append", default=[], type=header)
        words.add_argument("--metadata", action="append", default=[], type=_pair)
        words.add_argument("--setting", action="append", default=[], type=_pair)
    return words


def _pair(text: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise argparse.ArgumentTypeError(f"{text!r} has no =; write KEY=VALUE")
    return key, value
