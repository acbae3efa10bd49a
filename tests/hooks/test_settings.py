"""Settings of hooks: what is taken as what, and how it is said that something is wrong."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from pathlib import Path
from typing import Any, Literal

import pytest

from tusd_py.errors import ConfigError
from tusd_py.hooks.settings import Described, describe, fill


class Colour(StrEnum):
    RED = "red"
    GREEN = "green"


class Level(Enum):
    LOW = 1


@dataclass(frozen=True)
class Limits:
    """Of one run.

    most_rows: no more than these
    """

    most_rows: int = 10
    most_bytes: int | None = None


@dataclass(frozen=True)
class Settings:
    """What may be set.

    name: what it is called,
        and by whom
    ratio (of rows): how many may be wrong

    Not of a setting.
    """

    name: str
    limit: int = 3
    ratio: float = 0.5
    is_strict: bool = False
    folder: Path = Path("out")
    mode: Literal["fast", "slow", 3] = "fast"
    colour: Colour = Colour.RED
    level: Level = Level.LOW
    endings: tuple[str, ...] = (".csv", ".txt")
    sizes: list[int] = field(default_factory=list, metadata={"help": "in bytes"})
    note: str | None = None
    either: int | str = 1
    limits: Limits = Limits()
    users: dict[str, int] = field(default_factory=lambda: {"ann": 1})
    token: str = field(default="", repr=False)


@pytest.mark.parametrize(
    ("name", "given", "kept"),
    [
        ("name", "12", "12"),
        ("limit", 5, 5),
        ("limit", "5", 5),
        ("limit", "-5", -5),
        ("ratio", 1, 1.0),
        ("ratio", "1e-3", 0.001),
        ("is_strict", True, True),
        ("is-strict", "Yes", True),
        ("is_strict", "off", False),
        ("folder", "a/b", Path("a/b")),
        ("folder", Path("a"), Path("a")),
        ("mode", "slow", "slow"),
        ("mode", "3", 3),
        ("colour", "green", Colour.GREEN),
        ("colour", Colour.GREEN, Colour.GREEN),
        ("level", 1, Level.LOW),
        ("level", "1", Level.LOW),
        ("endings", [".a"], (".a",)),
        ("endings", ".a, .b", (".a", ".b")),
        ("endings", "", ()),
        ("sizes", "1,2", [1, 2]),
        ("note", None, None),
        ("note", "x", "x"),
        ("either", "7", 7),
        ("either", "seven", "seven"),
        ("limits", {"most-rows": "4"}, Limits(4)),
        ("limits", {"most_bytes": 4}, Limits(10, 4)),
        ("users", {"bob": "2"}, {"bob": 2}),
        ("token", "s3cret", "s3cret"),
    ],
)
def test_a_value_is_kept_as_its_type(name: str, given: object, kept: object) -> None:
    value = getattr(fill(Settings, {"name": "a", name: given}, "here"), name.replace("-", "_"))
    assert value == kept
    assert type(value) is type(kept)


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("name", 12, "here: name: 12 is wrong (write it as text, in quotes); it is text"),
        ("limit", True, "here: limit: True is wrong; it is a whole number"),
        ("limit", 5.0, "a whole number"),
        ("limit", "1_000", "'1_000' is wrong"),
        ("limit", "", "'' is wrong"),
        ("ratio", False, "a number"),
        ("ratio", "nan", "no number can be compared with it"),
        ("is_strict", 1, "here: is-strict: 1 is wrong; it is true or false"),
        ("is_strict", "maybe", "true or false"),
        ("folder", "", "a path"),
        ("mode", "medium", "one of fast, slow, 3"),
        ("colour", "blue", "one of red, green"),
        ("level", True, "one of 1"),
        ("endings", ".csv", None),
        ("endings", 5, "a list of: text"),
        ("endings", [5], "a list of: text"),
        ("sizes", "1,x", "a list of: a whole number"),
        ("note", 5, "text, or nothing"),
        ("either", 1.5, "a whole number or text"),
        ("limits", 5, "a table of settings"),
        ("limits", {"most_rows": "x"}, "here: limits: most-rows: 'x' is wrong; it is a whole number"),
        ("limits", {"rows": 1}, "here: limits: there is no setting 'rows'; did you mean most-rows?"),
        ("users", "bob", "a table of: a whole number"),
        ("users", {"bob": "x"}, "a table of: a whole number"),
        ("lmit", 5, "there is no setting 'lmit'; did you mean limit?"),
        ("zzz", 5, "there is no setting 'zzz'; there are name, limit, ratio"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(name: str, given: object, said: str | None) -> None:
    if said is None:
        assert fill(Settings, {"name": "a", name: given}, "here").endings == (".csv",)
        return
    with pytest.raises(ConfigError) as caught:
        fill(Settings, {"name": "a"} | {name: given}, "here")
    assert said in str(caught.value)


def test_what_must_be_set_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^here: not set, and it must be: name \(text\)$"):
        fill(Settings, {}, "here")


def test_a_key_in_both_ways_of_writing_is_one_too_many() -> None:
    with pytest.raises(ConfigError, match="is-strict is given twice"):
        fill(Settings, {"name": "a", "is-strict": True, "is_strict": False}, "here")


@dataclass(frozen=True)
class Checked:
    size: int = 1
    token: str = field(default="", repr=False)
    number: int = field(default=1, repr=False)

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError("size: at least 1")
        if self.token == "hunter2":
            raise ValueError(f"{self.token!r} is everybody's token")
        if self.size == 13:
            raise RuntimeError("it broke")


def test_the_authors_own_check_is_told_in_its_words() -> None:
    with pytest.raises(ConfigError, match=r"^here: size: at least 1$"):
        fill(Checked, {"size": 0}, "here")
    with pytest.raises(ConfigError, match=r"^here: RuntimeError: it broke$"):
        fill(Checked, {"size": 13}, "here")


@pytest.mark.parametrize("given", [{"token": "hunter2"}, {"number": "hunter2"}, {"token": ["hunter2"]}])
def test_no_error_shows_a_secret(given: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        fill(Checked, given, "here")
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))
    assert "here" in str(caught.value)


def test_a_type_that_nobody_can_write_is_the_authors_mistake() -> None:
    @dataclass(frozen=True)
    class Odd:
        when: complex = 1j

    with pytest.raises(ConfigError, match=r"Odd\.when: settings of hooks have no type complex; they have str, int"):
        fill(Odd, {}, "here")


def test_settings_are_described_for_people() -> None:
    described = {each.key: each for each in describe(Settings)}
    assert described["name"] == Described("name", "text", None, "what it is called, and by whom")
    assert described["ratio"].doc == "how many may be wrong"
    assert described["sizes"] == Described("sizes", "a list of: a whole number", "none", "in bytes")
    assert described["endings"].default == ".csv,.txt"
    assert described["is-strict"].default == "false"
    assert described["colour"].default == "red"
    assert described["users"].default == "ann=1"
    assert described["token"].default == "(secret)"
    assert described["limits.most-rows"] == Described("limits.most-rows", "a whole number", "10", "no more than these")
    assert "Not of a setting" not in str(described)
