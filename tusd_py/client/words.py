"""The words of both commands: what they have in common, and errors as the rest of the command line has them."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from typing import NoReturn
from urllib.parse import urlsplit

from tusd_py.client.answers import is_http, is_plain
from tusd_py.config.kinds import Kind
from tusd_py.errors import ConfigError

# RFC 9110 5.1 and 5.5: what could end a header early is refused here, before anything is sent.
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([ -~\x80-\xff]*)")


class Words(argparse.ArgumentParser):
    """Errors are ConfigErrors, and the help is the text that was given."""

    def __init__(self, command: str, text: str) -> None:
        super().__init__(prog=command, add_help=False, allow_abbrev=False)
        self._text = text
        self.add_argument("-h", "--help", action="store_true")
        self.add_argument("--header", action="append", default=[], type=header)
        self.add_argument("--log-format", choices=("text", "json"), default="text")

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see {self.prog} --help")

    def format_help(self) -> str:
        return self._text


def dashed(argv: Sequence[str], parser: argparse.ArgumentParser) -> list[str]:
    """Flags with one dash, as all of ours may be written, with two."""
    known = {name for action in parser._actions for name in action.option_strings}  # noqa: SLF001
    return [f"-{word}" if f"-{word.partition('=')[0]}" in known else word for word in argv]


def header(text: str) -> tuple[str, str]:
    found = _HEADER.fullmatch(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no header; write 'Name: value'")
    return found[1], found[2]


def kept(kind: Kind) -> Callable[[str], object]:
    """A setting's kind, as the type of an argument."""

    def read(text: str) -> object:
        try:
            return kind.check(kind.parse(text))
        except ValueError as error:
            reason = f" ({error})" if str(error) else ""
            raise argparse.ArgumentTypeError(f"{text!r} is wrong{reason}; allowed: {kind.allowed}") from None

    return read


def endpoint(text: str) -> str:
    """A URL that creates uploads, as it is sent."""
    try:
        parts = urlsplit(text)
        is_good = is_http(parts) and is_plain(text)
    except ValueError:
        is_good = False
    if not is_good and "@" in text:  # it is not shown, for there may be a password in it, wherever that begins
        raise ConfigError("no login in the URL, please: it ends up in logs; use --header 'Authorization: Basic ...'")
    if not is_good:
        raise ConfigError(f"{text!r} is no URL of a server; write it as in https://host/files/")
    return parts._replace(path=parts.path or "/", fragment="").geturl()
