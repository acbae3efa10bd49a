"""What strangers say: which of it is a number or an address, what may be shown, and where a login may go."""

from __future__ import annotations

import pytest

from tusd_py.client.answers import LONGEST_SHOWN, address, is_at_home, number, shown

ENDPOINT = "http://host/files/"


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("007", 7), ("9" * 19, int("9" * 19))])
def test_numbers(text: str, value: int) -> None:
    assert number(text) == value


@pytest.mark.parametrize(
    "text", ["", "-1", "+1", "1.0", "1e3", "0x1", " 1", "1_0", "²", "\u0661", "9" * 20, "9" * 5000]
)
def test_no_numbers(text: str) -> None:
    assert number(text) is None


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("1", "http://host/files/1"),
        ("/1?a=b", "http://host/1?a=b"),
        ("//other/1", "http://other/1"),
        ("https://other:8443/@1", "https://other:8443/@1"),
        ("http://[::1]:80/1", "http://[::1]:80/1"),
    ],
)
def test_addresses(location: str, url: str) -> None:
    assert address(ENDPOINT, location) == url


@pytest.mark.parametrize(
    "location",
    ["", "http://[", "http://h:99999/", "http://h:0/", "http://h:x/", "javascript:alert(1)", "file:///etc/passwd",
     "https:///1", "http://user:pw@other/1", "/a b", "/a\x1b[2J", "/\x7f", "/\u202e", "/ÿ", "\thttp://h/", "data:,x"],
)  # fmt: skip
def test_no_addresses(location: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        address(ENDPOINT, location)


@pytest.mark.parametrize(
    ("endpoint", "url", "is_home"),
    [
        ("http://host/files/", "http://HOST:80/other?x", True),
        ("https://host/files/", "https://host:443/1", True),
        ("http://host/files/", "https://host/1", True),
        ("http://host:8080/files/", "https://host/1", False),
        ("http://host/files/", "https://host:8443/1", False),
        ("https://host/files/", "http://host/1", False),
        ("http://host/files/", "http://host:8080/1", False),
        ("http://host/files/", "http://sub.host/1", False),
        ("http://host/files/", "http://host.evil/1", False),
    ],
)
def test_where_a_login_may_go(endpoint: str, url: str, is_home: bool) -> None:
    assert is_at_home(endpoint, url) is is_home


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("ü 日本 ok", "ü 日本 ok"),
        ("a\x1b]0;t\x07\nb\r\t", r"a\x1b]0;t\x07\nb\r\t"),
        ("\u202egpj\u2066", r"\u202egpj\u2066"),
        ("\x9b2J\x00\x7f", r"\x9b2J\x00\x7f"),
        ("\udcff", r"\udcff"),
    ],
)
def test_what_is_shown(text: str, seen: str) -> None:
    assert shown(text) == seen


def test_what_is_shown_has_an_end() -> None:
    assert len(shown("a" * 70_000)) == LONGEST_SHOWN + 4
