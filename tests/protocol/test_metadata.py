"""Upload-Metadata (tus C8, C9) and base64 as 2.11 wants it."""

from __future__ import annotations

import base64

import pytest
from asking import ask, b64, refused
from hypothesis import given
from hypothesis import strategies as st

from tusd_py.core.upload import Metadata
from tusd_py.errors import RequestError
from tusd_py.protocol.headers import Headers
from tusd_py.protocol.metadata import MAX_BYTES, parse_metadata

CODE = "ERR_INVALID_METADATA"


@pytest.mark.parametrize(
    ("raw", "values"),
    [
        ("filename d29ybGQudHh0", {"filename": "world.txt"}),
        ("filename d29ybGQudHh0,is_confidential", {"filename": "world.txt", "is_confidential": ""}),
        ("is_confidential,filename d29ybGQudHh0", {"filename": "world.txt", "is_confidential": ""}),
        ("empty ,b Yg==", {"empty": "", "b": "b"}),
        ("a YQ==, b Yg==", {"a": "a", "b": "b"}),
        ("a YQ== , b Yg==", {"a": "a", "b": "b"}),
        ("a YQ==,A Yg==", {"a": "a", "A": "b"}),
        ("name 4pyTLvA=", {"name": "✓.\ufffd"}),
        ("a;b=c/d YQ==", {"a;b=c/d": "a"}),
        ("+/~! YQ==", {"+/~!": "a"}),
        ("quote Ig0K", {"quote": '"\r\n'}),
    ],
)
def test_C8_the_grammar(raw: str, values: dict[str, str]) -> None:
    assert parse_metadata(raw) == Metadata(raw, values)


@pytest.mark.parametrize("raw", [None, ""])
def test_C8_no_metadata_and_an_empty_field_are_the_same(raw: str | None) -> None:
    assert parse_metadata(raw) == Metadata()


@pytest.mark.parametrize("field", ["", "  ", "\t"])
def test_C8_a_field_of_blanks_is_empty(field: str) -> None:
    assert parse_metadata(ask(("Upload-Metadata", field)).joined("upload-metadata")) == Metadata()


BAD = {
    "only a comma": ",",
    "comma at the end": "a YQ==,",
    "comma at the start": ",a YQ==",
    "two commas": "a YQ==,,b Yg==",
    "blank pair": "a YQ==, ,b Yg==",
    "key twice": "a YQ==,a YQ==",
    "key twice, once empty": "a,a YQ==",
    "key with latin-1": "nam\xe9 YQ==",
    "key with tab": "a\tYQ==",
    "key with control": "a\x01 YQ==",
    "key with delete": "a\x7f YQ==",
    "key with no-break space": "a\xa0b YQ==",
}


@pytest.mark.parametrize("raw", BAD.values(), ids=BAD)
def test_C8_keys_are_unique_visible_and_not_empty(raw: str) -> None:
    with refused(400, CODE):
        parse_metadata(raw)


NOT_BASE64 = {
    "one = too many": "YQ===",
    "blank inside": "Y Q==",
    "two blanks before": " YQ==",
    "no padding": "YQ",
    "half the padding": "YQ=",
    "one character": "Y",
    "only padding": "====",
    "padding in the middle": "YQ==YQ==",
    "url alphabet": "_-8=",
    "foreign character": "YQ$==",
    "line end": "YQ==\r\n",
    "latin-1": "Y\xe9==",
    "beyond latin-1": "\uff39",
    "tab": "YQ==\t",
}


@pytest.mark.parametrize("value", NOT_BASE64.values(), ids=NOT_BASE64)
def test_C8_values_are_strict_base64(value: str) -> None:
    with refused(400, CODE):
        parse_metadata(f"a {value},b Yg==")


def test_C8_a_refusal_names_the_key() -> None:
    with pytest.raises(RequestError, match="colour"):
        parse_metadata("a YQ==,colour ?")


def test_C8_the_longest_field_is_taken_and_a_longer_one_is_431() -> None:
    longest = "a " + b64(b"x" * (MAX_BYTES // 4 * 3 - 3))
    longest = "k" * (MAX_BYTES - len(longest)) + longest
    assert len(longest) == MAX_BYTES
    assert parse_metadata(longest).raw == longest
    with refused(431, CODE):
        parse_metadata("k" + longest)


def test_C8_two_lines_are_one_list() -> None:
    headers = ask(("Upload-Metadata", "a YQ=="), ("Upload-Metadata", "b Yg=="))
    assert parse_metadata(headers.joined("upload-metadata")).values == {"a": "a", "b": "b"}


def test_C8_the_same_key_on_two_lines_is_400() -> None:
    headers = ask(("Upload-Metadata", "a YQ=="), ("Upload-Metadata", "a YQ=="))
    with refused(400, CODE):
        parse_metadata(headers.joined("upload-metadata"))


def test_C9_the_raw_value_is_kept_with_its_own_blanks_and_order() -> None:
    raw = "b Yg==,  a YQ==  ,c,d "
    assert parse_metadata(raw).raw == raw


def test_C9_values_that_are_not_utf8_are_kept_in_raw() -> None:
    raw = "bin " + b64(b"\xff\xfe\x00")
    parsed = parse_metadata(raw)
    assert parsed.raw == raw
    assert parsed.values == {"bin": "\ufffd\ufffd\x00"}


_KEYS = st.text(alphabet=[chr(code) for code in range(0x21, 0x7F) if chr(code) != ","], min_size=1, max_size=20)
_VALUES = st.one_of(st.binary(max_size=40), st.text(max_size=20).map(lambda text: text.encode("utf-8", "replace")))


@given(st.dictionaries(_KEYS, _VALUES, max_size=8), st.randoms(use_true_random=False))
def test_C8_C9_property_a_round_trip_changes_nothing(pairs: dict[str, bytes], random: object) -> None:
    def write(key: str, value: bytes) -> str:
        return f"{key} {b64(value)}" if value or random.random() < 0.5 else key

    raw = ",".join(write(*pair) for pair in pairs.items())
    headers = Headers.of_raw([(b"Upload-Metadata", raw.encode("latin-1"))])
    parsed = parse_metadata(headers.joined("upload-metadata"))
    assert parsed.raw == raw.strip(" \t")  # what HTTP itself takes away, for an empty value at the end
    assert list(parsed.values) == list(pairs)
    for key, value in pairs.items():
        assert parsed.values[key] == value.decode("utf-8", "replace")
    for pair in parsed.raw.split(",") if pairs else ():
        key, _, encoded = pair.partition(" ")
        assert base64.b64decode(encoded) == pairs[key]


@given(st.dictionaries(_KEYS, st.text(max_size=20), max_size=5))
def test_C9_property_metadata_whose_raw_form_is_lost_is_written_so_that_it_parses(values: dict[str, str]) -> None:
    made = Metadata.of(values)
    assert parse_metadata(made.raw) == made
