"""Whatever a client sends becomes a command or a refusal with a 4xx status; nothing else ever comes out."""

from __future__ import annotations

import string

import pytest
from asking import BASE, ID, TYPE, refused
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tusd_py.core.checksum import ALGORITHMS
from tusd_py.core.commands import Append, Concatenate, Create
from tusd_py.core.upload import Upload, parse_id
from tusd_py.errors import RequestError
from tusd_py.protocol.headers import MAX_INTEGER, Headers
from tusd_py.protocol.tus import (
    announces_checksum,
    check_version,
    decode_append,
    decode_create,
    encode_inspected,
)

NAMES = [
    "Content-Length",
    "Content-Type",
    "Transfer-Encoding",
    "Trailer",
    "Tus-Resumable",
    "Upload-Checksum",
    "Upload-Concat",
    "Upload-Defer-Length",
    "Upload-Length",
    "Upload-Metadata",
    "Upload-Offset",
]

# Pieces that get past the first check more often than noise does.
_PIECES = st.sampled_from(
    ["final;", "partial", "/files/", "http://", "//", "[", "]", "%2e%2e", "%", "%00", "..", "a", " ", ",", ";", "?",
     "@", "sha1 ", "Kq5sNclPz7QV2+lfQIuc6R7oRu0=", "YQ==", "key ", "=", "1", "0", "5", "+", "-", "\t", "\xa0", "\xff",
     "\u0665", "\ud800", "\x00", "\r\n", "chunked", TYPE[1], "1.0.0"]
)  # fmt: skip
_VALUES = st.one_of(
    st.text(max_size=30),
    st.lists(_PIECES, max_size=8).map("".join),
    st.integers(-2, 2**64).map(str),
    st.sampled_from(["0", "1", "5", "partial", TYPE[1], "1.0.0"]),
)
_REQUESTS = st.lists(st.tuples(st.sampled_from(NAMES), _VALUES), max_size=7)
_RAW_VALUES = st.one_of(st.binary(max_size=40), _VALUES.map(lambda text: text.encode("utf-8", "surrogatepass")))
_RAW_REQUESTS = st.lists(st.tuples(st.sampled_from([name.encode() for name in NAMES]), _RAW_VALUES), max_size=7)

many = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def check_create(headers: Headers) -> None:
    try:
        command = decode_create(headers, BASE)
    except RequestError as error:
        check_refusal(error)
        return
    if isinstance(command, Concatenate):
        assert command.partials
        assert all(parse_id(each) == each for each in command.partials)
        return
    assert isinstance(command, Create)
    assert command.length is None or 0 <= command.length <= MAX_INTEGER
    assert command.content_length is None or 0 <= command.content_length <= MAX_INTEGER
    assert command.is_partial == (command.concat == "partial")
    assert command.checksum is None or command.checksum.algorithm in ALGORITHMS
    assert command.metadata.raw.isascii()


def check_append(headers: Headers) -> None:
    try:
        command = decode_append(ID, headers)
    except RequestError as error:
        check_refusal(error)
        return
    assert isinstance(command, Append)
    assert 0 <= command.offset <= MAX_INTEGER
    assert command.length is None or 0 <= command.length <= MAX_INTEGER


def check_others(headers: Headers) -> None:
    assert announces_checksum(headers) in (True, False)
    for method in ("POST", "HEAD", "OPTIONS"):
        try:
            check_version(method, headers)
        except RequestError as error:
            check_refusal(error)


def check_refusal(error: RequestError) -> None:
    assert 400 <= error.status < 500
    assert error.code.startswith("ERR_")
    assert error.message
    for name, value in error.headers.items():
        assert set(name + value) <= set(string.printable) - set("\r\n\v\f")


@many
@given(_REQUESTS)
def test_property_any_text_is_a_command_or_a_4xx(lines: list[tuple[str, str]]) -> None:
    headers = Headers((name.lower(), value) for name, value in lines)
    check_create(headers)
    check_append(headers)
    check_others(headers)


@many
@given(_RAW_REQUESTS)
def test_property_any_bytes_are_a_command_or_a_4xx(lines: list[tuple[bytes, bytes]]) -> None:
    headers = Headers.of_raw(lines)
    check_create(headers)
    check_append(headers)
    check_others(headers)


@many
@given(_VALUES, st.sampled_from(["upload-concat", "upload-metadata"]))
def test_property_one_value_beside_good_ones(value: str, name: str) -> None:
    lines = {"upload-length": "5", "content-length": "0", name: value}
    check_create(Headers(lines.items()))
    if name == "upload-concat":
        check_create(Headers([(name, "final;" + value)]))
        check_create(Headers([(name, "final;http://" + value)]))


@many
@given(_VALUES)
def test_C8_property_metadata_that_was_accepted_can_be_sent_back(value: str) -> None:
    """It goes back as it came (tus C9): it must not be able to split an answer."""
    try:
        command = decode_create(Headers([("upload-length", "5"), ("upload-metadata", value)]), BASE)
    except RequestError:
        return
    answer = encode_inspected(Upload(id=ID, length=5, metadata=command.metadata))
    assert can_be_sent(answer.headers.get("Upload-Metadata", ""))


SPLITTING = {
    "line end in an id": "a\r\nb",
    "line end in a query": "a?\r\nb",
    "another field": "a#\r\nSet-Cookie: b",
    "line feed": "a\nb",
    "NUL in a query": "a?\x00",
}


@pytest.mark.parametrize("urls", SPLITTING.values(), ids=SPLITTING)
def test_N10_a_concat_that_was_accepted_can_be_sent_back(urls: str) -> None:
    """It goes back as it came too. Good servers refuse such values, but urlsplit drops line ends in silence."""
    with refused(400, "ERR_INVALID_CONCAT"):
        decode_create(Headers([("upload-concat", "final;" + urls)]), BASE)


def can_be_sent(value: str) -> bool:
    return not set("\r\n\x00") & set(value)
