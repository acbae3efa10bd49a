"""Header fields as values: names, repeated lines, integers (tus K1 and 2.11's integers)."""

from __future__ import annotations

import re

import pytest
from asking import NOT_INTEGERS, ask, refused
from hypothesis import example, given
from hypothesis import strategies as st

from tusd_py.errors import RequestError
from tusd_py.protocol.headers import MAX_INTEGER, Headers


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("00", 0), ("007", 7), ("5", 5), ("9223372036854775807", 2**63 - 1), (" 5 ", 5), ("\t5\t", 5)],
)
def test_K1_integers_are_accepted(text: str, value: int) -> None:
    assert ask(("Upload-Length", text)).integer("upload-length") == value


def test_K1_the_largest_integer_is_what_64_bits_hold() -> None:
    assert MAX_INTEGER == 2**63 - 1


@pytest.mark.parametrize("text", NOT_INTEGERS.values(), ids=NOT_INTEGERS)
def test_K1_anything_else_is_400(text: str) -> None:
    with refused(400, "ERR_X"):
        ask(("Upload-Length", text)).integer("upload-length", "ERR_X")


@pytest.mark.parametrize("text", NOT_INTEGERS.values(), ids=NOT_INTEGERS)
def test_K1_anything_else_is_400_also_as_decoded_text(text: str) -> None:
    """Headers of another front end may be text already, with digits of every script."""
    with refused(400):
        Headers([("upload-length", text)]).integer("upload-length")


def test_K1_leading_zeros_do_not_make_an_integer_too_large() -> None:
    """2.11: `^[0-9]+$`, then bound to 2^63-1. These 25 digits are 7."""
    assert ask(("Upload-Length", "7".zfill(25))).integer("upload-length") == 7


# Without long runs of leading zeros, which the test above holds by itself.
_DIGITS = st.one_of(
    st.integers(0, 2**65).map(str),
    st.integers(2**63 - 3, 2**63 + 3).map(str),
    st.from_regex(r"\A0{0,3}[0-9]{1,15}\Z"),
    st.text(alphabet="0123456789+-_. \t\u0660\u0665\uff15\xb2", min_size=0, max_size=6),
    st.text(max_size=8),
)


@given(_DIGITS)
@example("+5")
@example("5_0")
@example(" 5 ")
@example("\u0665")
@example("")
def test_K1_property_accepted_if_and_only_if_ascii_digits_within_63_bits(text: str) -> None:
    is_integer = re.fullmatch(r"[0-9]+", text, re.ASCII) is not None and int(text) <= 2**63 - 1
    headers = Headers([("upload-offset", text)])
    if is_integer:
        assert headers.integer("upload-offset") == int(text)
    else:
        with refused(400):
            headers.integer("upload-offset")


def test_a_field_that_is_not_there_is_none() -> None:
    headers = ask(("Upload-Length", "5"))
    assert headers.integer("upload-offset") is headers.one("upload-offset") is headers.joined("upload-offset") is None
    assert "upload-offset" not in headers
    assert "upload-length" in headers


@pytest.mark.parametrize("name", ["Upload-Length", "upload-length", "UPLOAD-LENGTH", "uPLOAD-lENGTH"])
def test_names_have_no_case(name: str) -> None:
    assert ask((name, "5")).integer("upload-length") == 5


def test_names_that_differ_only_in_case_are_one_field() -> None:
    headers = ask(("Upload-Length", "5"), ("UPLOAD-LENGTH", "6"))
    with refused(400):
        headers.one("upload-length")


def test_two_lines_of_a_list_are_one_list() -> None:
    assert ask(("Upload-Metadata", "a YQ=="), ("upload-metadata", "b Yg==")).joined("upload-metadata") == (
        "a YQ==,b Yg=="
    )


def test_two_equal_lines_of_a_single_value_are_one() -> None:
    headers = ask(("Upload-Length", "5"), ("Upload-Length", "5 "), ("Upload-Length", "\t5"))
    assert headers.integer("upload-length") == 5


@pytest.mark.parametrize("values", [("5", "6"), ("6", "5"), ("5", ""), ("5", "05"), ("5", "5", "6")])
def test_two_different_lines_of_a_single_value_are_400(values: tuple[str, ...]) -> None:
    headers = ask(*(("Upload-Length", value) for value in values))
    with refused(400, "ERR_X"):
        headers.integer("upload-length", "ERR_X")


def test_the_field_that_is_wrong_is_named() -> None:
    with pytest.raises(RequestError, match="upload-offset"):
        ask(("Upload-Offset", "x")).integer("upload-offset")


def test_bytes_beyond_ascii_survive_as_they_came() -> None:
    value = bytes(range(0x80, 0x100))
    headers = Headers.of_raw([(b"X", value)])
    found = headers.one("x")
    assert found is not None
    assert found.encode("latin-1") == value


def test_only_blanks_and_tabs_around_a_value_are_dropped() -> None:
    assert Headers.of_raw([(b"x", b" \t a b\xa0 \t")]).one("x") == "a b\xa0"
