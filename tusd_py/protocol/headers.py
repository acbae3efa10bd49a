"""Request headers as values: ASCII integers, single-valued fields, lists. Strict, since Python's own `int` is not.

Errors name the field; codes are tusd's where it has one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Self

from tusd_py.errors import RequestError

MAX_INTEGER = 2**63 - 1
"""What the other tus servers can hold; beyond it lies only mischief."""

_INTEGER = re.compile(r"0*([0-9]{1,19})", re.ASCII)


class Headers:
    """The header lines of one request: names lower-case, values as latin-1 text without outer blanks."""

    __slots__ = ("_lines",)

    def __init__(self, lines: Iterable[tuple[str, str]]) -> None:
        self._lines: dict[str, list[str]] = {}
        for name, value in lines:
            if name in self._lines:
                self._lines[name].append(value)
            else:
                self._lines[name] = [value]

    @classmethod
    def of_raw(cls, raw: Iterable[tuple[bytes, bytes]]) -> Self:
        return cls([(name.decode("latin-1").lower(), value.decode("latin-1").strip(" \t")) for name, value in raw])

    def __contains__(self, name: str) -> bool:
        return name in self._lines

    def joined(self, name: str) -> str | None:
        """A list field: repeated lines mean one list (RFC 9110 5.3). None if there is none."""
        lines = self._lines.get(name)
        return ",".join(lines) if lines is not None else None

    def one(self, name: str, code: str = "ERR_INVALID_REQUEST") -> str | None:
        """A single-valued field. The same value twice is harmless, two different ones are a lie: 400."""
        lines = self._lines.get(name)
        if lines is None:
            return None
        if len(lines) > 1 and any(line != lines[0] for line in lines):
            raise RequestError(f"{name} is given twice with different values", code=code)
        return lines[0]

    def integer(self, name: str, code: str = "ERR_INVALID_REQUEST") -> int | None:
        """A non-negative integer up to 2^63-1 (tus K1); anything else is 400."""
        text = self.one(name, code)
        if text is None:
            return None
        # int() alone would also take "+5", "5_0", " 5 " and the digits of a dozen scripts.
        found = _INTEGER.fullmatch(text)
        if found is None or int(found[1]) > MAX_INTEGER:
            raise RequestError(f"{name} must be an integer from 0 to {MAX_INTEGER}", code=code)
        return int(found[1])
