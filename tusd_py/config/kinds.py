"""What a setting is: a name, a default, its help, and the kind of its value.

A kind reads a value from text, checks it as a Python value and writes it as text again. Which settings there are
stands in `config`; where values come from in `sources`; how they are printed in `reference`.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
import warnings
from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from decimal import Decimal
from fractions import Fraction
from typing import Any, TypeVar
from urllib.parse import urlsplit

from tusd_py.errors import ConfigError

T = TypeVar("T")

MAX_BYTES = 2**63 - 1
MAX_SECONDS = 36_500 * 86_400

SIZE_UNITS = {"PiB": 2**50, "TiB": 2**40, "GiB": 2**30, "MiB": 2**20, "KiB": 2**10,
              "PB": 10**15, "TB": 10**12, "GB": 10**9, "MB": 10**6, "KB": 10**3, "B": 1}  # fmt: skip
TIME_UNITS = {"d": Fraction(86_400), "h": Fraction(3_600), "m": Fraction(60), "s": Fraction(1), "ms": Fraction(1, 1000)}


class Kind:
    """A sort of value. `parse`, then `check`, give the value as it is kept; both raise ValueError saying what is
    wrong, or nothing where `allowed` says it all. `parse(write(value))` is `value`."""

    placeholder = "TEXT"
    allowed = "text"
    file_types: tuple[type, ...] = (str,)

    def parse(self, text: str) -> Any:
        return text

    def check(self, value: Any) -> Any:
        return value

    def write(self, value: Any) -> str:
        return str(value)


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: a field of `config.Config` and what its metadata say."""

    name: str
    default: Any
    kind: Kind
    group: str
    help_text: str
    differs: str
    is_secret: bool

    @property
    def key(self) -> str:
        return self.name.replace("_", "-")

    @property
    def flag(self) -> str:
        return "--" + self.key

    @property
    def variable(self) -> str:
        return "TUSD_PY_" + self.name.upper()

    def read(self, text: str, where: str) -> Any:
        """The value that `text` stands for."""
        return self._judge(lambda: self.kind.check(self.kind.parse(text)), text, where)

    def accept(self, value: object, where: str) -> Any:
        """A value that Python code gave, as it is kept. Text is read as on a command line: "5GB", "7d", "a,b"."""
        if isinstance(value, str) and not isinstance(self.default, str):
            return self.read(value, where)
        return self._judge(lambda: self.kind.check(value), value, where)

    def _judge(self, verdict: Callable[[], Any], given: object, where: str) -> Any:
        try:
            return verdict()
        except ValueError as error:
            reason = f" ({error})" if str(error) else ""
            shown = "what is given" if self.is_secret else repr(given)
            raise ConfigError(f"{where}: {shown} is wrong{reason}; allowed: {self.kind.allowed}") from None


def setting(default: T, kind: Kind, group: str, help_text: str, *, differs: str = "", is_secret: bool = False) -> T:
    """A dataclass field that is a setting. `differs`: tusd's default, and why ours is another. The value of one that
    `is_secret` is shown nowhere."""
    metadata = {"kind": kind, "group": group, "help_text": help_text, "differs": differs, "is_secret": is_secret}
    return field(default=default, metadata=metadata, repr=not is_secret)


def settings_of(config_type: type, groups: Sequence[str]) -> dict[str, Setting]:
    """Every setting of a dataclass by its name, group by group, in the order of its fields."""
    settings = [Setting(f.name, _default(f), **f.metadata) for f in fields(config_type)]
    return {each.name: each for each in sorted(settings, key=lambda each: groups.index(each.group))}


def _default(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


class Switch(Kind):
    placeholder = "true|false"
    allowed = "true or false"
    file_types = (bool,)

    def parse(self, text: str) -> bool:
        word = text.lower()
        if word in {"true", "t", "1", "yes", "on"}:
            return True
        if word in {"false", "f", "0", "no", "off"}:
            return False
        raise ValueError

    def check(self, value: Any) -> bool:
        if not isinstance(value, bool):
            raise ValueError  # noqa: TRY004 - one exception for every wrong value
        return value

    def write(self, value: bool) -> str:
        return "true" if value else "false"


class Number(Kind):
    """A whole number. int() alone would also take `+5`, `1_000` and other scripts' digits."""

    placeholder = "NUMBER"
    file_types = (int, str)

    def __init__(self, minimum: int, maximum: int) -> None:
        self.minimum = minimum
        self.maximum = maximum
        self.allowed = f"a whole number from {minimum} to {maximum}"

    def parse(self, text: str) -> int:
        if not re.fullmatch(r"-?[0-9]{1,20}", text):
            raise ValueError
        return int(text)

    def check(self, value: Any) -> int:
        if type(value) is not int or not self.minimum <= value <= self.maximum:
            raise ValueError
        return value


class Size(Number):
    """Bytes, as an int."""

    placeholder = "SIZE"

    def __init__(self, minimum: int = 0, maximum: int = MAX_BYTES) -> None:
        super().__init__(minimum, maximum)
        self.allowed = (
            "bytes as a whole number, or with a unit: 64KiB, 1.5GiB, 5GB"
            f" (from {self.write(minimum)} to {self.write(maximum)})"
        )

    def parse(self, text: str) -> int:
        match = re.fullmatch(r"([0-9]{1,20}(?:\.[0-9]{1,20})?) ?([A-Za-z]*)", text)
        if not match:
            raise ValueError
        unit = {name.lower(): size for name, size in SIZE_UNITS.items()}.get(match[2].lower() or "b")
        if unit is None:
            raise ValueError(f"no unit {match[2]!r}")
        size = Fraction(match[1]) * unit
        if size.denominator != 1:
            raise ValueError("not a whole number of bytes")
        return int(size)

    def write(self, value: int) -> str:
        for name, unit in SIZE_UNITS.items():
            if unit > 1 and value and value % unit == 0:
                return f"{value // unit}{name}"
        return str(value)


class Duration(Kind):
    """Seconds, as a float."""

    placeholder = "TIME"
    file_types = (int, float, str)

    def __init__(self, *, may_be_zero: bool) -> None:
        self.may_be_zero = may_be_zero
        least = "0" if may_be_zero else "more than 0"
        self.allowed = f"seconds, or a time such as 500ms, 30s, 5m, 1h30m, 7d ({least}, at most 36500d)"

    def parse(self, text: str) -> float:
        number = r"[0-9]{1,20}(?:\.[0-9]{1,30})?"
        if re.fullmatch(number, text):
            return float(Fraction(text))
        if not re.fullmatch(rf"(?:{number}(?:ms|s|m|h|d)){{1,5}}", text):
            raise ValueError
        parts = re.findall(rf"({number})(ms|s|m|h|d)", text)
        return float(sum(Fraction(count) * TIME_UNITS[unit] for count, unit in parts))

    def check(self, value: Any) -> float:
        # The comparison also turns away NaN.
        if type(value) not in (int, float) or not 0 <= value <= MAX_SECONDS:
            raise ValueError
        if value == 0 and not self.may_be_zero:
            raise ValueError
        return float(value)

    def write(self, value: float) -> str:
        exact = Fraction(repr(value))
        for name, unit in TIME_UNITS.items():
            if exact and (exact / unit).denominator == 1:
                return f"{exact / unit}{name}"
        return f"{Decimal(repr(value)):f}s" if exact else "0"


class Text(Kind):
    """One line of text that other programs can read."""

    def __init__(self, allowed: str = "text without control characters", placeholder: str = "TEXT") -> None:
        self.allowed = allowed
        self.placeholder = placeholder

    def check(self, value: Any) -> str:
        if not isinstance(value, str):
            raise ValueError("not a string")  # noqa: TRY004 - one exception for every wrong value
        if any(unicodedata.category(character) in {"Cc", "Cs"} for character in value):
            raise ValueError("control characters, or not UTF-8")
        return value


class Path(Text):
    def __init__(self, *, may_be_empty: bool) -> None:
        super().__init__("a path", "PATH")
        self.may_be_empty = may_be_empty

    def check(self, value: Any) -> str:
        path = super().check(value)
        if not path and not self.may_be_empty:
            raise ValueError("empty")
        return path


class Choice(Text):
    def __init__(self, *options: str, placeholder: str = "") -> None:
        super().__init__(" or ".join(options), placeholder or "|".join(options))
        self.options = options

    def check(self, value: Any) -> str:
        option = super().check(value)
        if option not in self.options:
            raise ValueError
        return option


class Host(Text):
    def __init__(self) -> None:
        super().__init__("an IP address or a host name, without port and brackets", "HOST")

    def check(self, value: Any) -> str:
        host = super().check(value)
        is_numeric = host.replace(".", "").isdigit() or ":" in host
        if is_numeric:
            ipaddress.ip_address(host)
        elif not re.fullmatch(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?", host):
            raise ValueError
        return host


class Regex(Text):
    def __init__(self) -> None:
        super().__init__("a regular expression (Python's re)", "REGEX")

    def check(self, value: Any) -> str:
        pattern = super().check(value)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", FutureWarning)  # what a later Python would read otherwise
                re.compile(pattern)
        except (re.error, RecursionError, OverflowError, FutureWarning) as error:
            raise ValueError(str(error)) from None
        return pattern


class Url(Text):
    """Of a server: scheme, host and perhaps a port."""

    def __init__(self) -> None:
        super().__init__("a URL such as https://s3.example.com:9000, without a path", "URL")

    def check(self, value: Any) -> str:
        url = super().check(value)
        if not url:
            return ""
        parts = urlsplit(url)  # raises ValueError
        if parts.scheme not in {"http", "https"}:
            raise ValueError("does not begin with http:// or https://")
        if not parts.hostname or parts.port == 0 or parts.path.strip("/") or parts.query or parts.fragment:
            raise ValueError
        return url.rstrip("/")


class UrlPath(Text):
    """The path of a URL; that of a folder is kept with a slash at its end, that of a page without."""

    def __init__(self, *, is_folder: bool = True) -> None:
        self._end = "/" if is_folder else ""
        allowed = "a path such as / or /files/: begins with /, no empty segment, no '.' or '..', "
        super().__init__(allowed + "letters, digits and -._~!$&'()*+,;=:@ only", "PATH")

    def check(self, value: Any) -> str:
        path = super().check(value)
        if not path.startswith("/"):
            raise ValueError("does not begin with /")
        inner = path[1:].removesuffix("/")
        if not inner and path != "/":
            raise ValueError("empty segment")
        for segment in inner.split("/") if inner else []:
            if not segment:
                raise ValueError("empty segment")
            if segment in {".", ".."} or not re.fullmatch(r"[A-Za-z0-9._~!$&'()*+,;=:@-]+", segment):
                raise ValueError(f"segment {segment!r}")
        return f"/{inner}{self._end}" if inner else "/"


class Permission(Kind):
    """A file mode, as an int; written in octal everywhere.

    A bare number in a TOML file (`dir-perms = 775`) means its digits, as on the command line. The decimal value of
    a usable mode never reads as a usable octal one, so the two cannot be confused.
    """

    placeholder = "MODE"
    file_types = (int, str)

    def __init__(self, needed: int) -> None:
        self.needed = needed
        self.allowed = f"three octal digits such as 775 (0o775 in Python), with at least {needed:o} for the owner"

    def parse(self, text: str) -> int:
        match = re.fullmatch(r"(?:0o?)?([0-7]{3})", text)
        if not match:
            raise ValueError
        return int(match[1], 8)

    def check(self, value: Any) -> int:
        if type(value) is not int or not 0 <= value <= 0o777 or value & self.needed != self.needed:
            raise ValueError
        return value

    def write(self, value: int) -> str:
        return f"{value:03o}"


class Listing(Kind):
    """Items between commas, kept as a tuple. `check_item` raises ValueError for a wrong one."""

    placeholder = "LIST"
    file_types = (list, str)

    def __init__(self, allowed: str, check_item: Callable[[str], object]) -> None:
        self.allowed = allowed
        self.check_item = check_item

    def parse(self, text: str) -> tuple[str, ...]:
        return tuple(item.strip() for item in text.split(",")) if text.strip() else ()

    def check(self, value: Any) -> tuple[str, ...]:
        if not isinstance(value, tuple | list) or not all(isinstance(item, str) for item in value):
            raise ValueError("not a list of strings")
        for item in value:
            self.check_item(item)
        return tuple(value)

    def write(self, value: tuple[str, ...]) -> str:
        return ",".join(value)


def check_network(item: str) -> None:
    ipaddress.ip_network(item)


def check_token(item: str) -> None:
    """A name as HTTP allows it for methods and headers (RFC 9110, token)."""
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", item):
        raise ValueError(repr(item))


def check_host(item: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", item):
        raise ValueError(repr(item))
