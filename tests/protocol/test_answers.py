"""Uploads to headers: OPTIONS, POST, PATCH, HEAD (tus K2 to K17, K22, C2 to C11, W1, W3, E, S6, S7, D1, N)."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from email.utils import parsedate_to_datetime

import pytest
from asking import ID
from hypothesis import given
from hypothesis import strategies as st

from tusd_py.core.checksum import ALGORITHMS
from tusd_py.core.rules import Offers
from tusd_py.core.upload import Metadata, State, Upload, UploadId
from tusd_py.protocol.tus import Answer, encode_appended, encode_created, encode_inspected, encode_options

ALL = Offers(
    termination=True,
    concatenation=True,
    deferred_length=True,
    expiration=True,
    download=True,
    max_size_bytes=1073741824,
)
NOTHING = Offers(
    termination=False,
    concatenation=False,
    deferred_length=False,
    expiration=False,
    download=False,
    max_size_bytes=None,
)
UPLOAD = Upload(id=ID, length=100, offset=70, created_at=1403712000.0, touched_at=1403712000.0)
FINAL = replace(
    UPLOAD,
    offset=0,
    state=State.ASSEMBLING,
    concat="final;/files/a /files/b",
    partials=(UploadId("a"), UploadId("b")),
)
DONE = replace(UPLOAD, offset=100, state=State.AVAILABLE)
EXPIRES = "Wed, 25 Jun 2014 16:00:00 GMT"


def extensions(answer: Answer) -> list[str]:
    return answer.headers["Tus-Extension"].split(",")


def test_K2_K22_options_say_the_version() -> None:
    answer = encode_options(ALL, reads_trailers=True)
    assert answer.status == 204
    assert answer.headers["Tus-Version"].split(",") == ["1.0.0"]


def test_K5_C1_C6_W1_E1_S1_S7_D1_N1_everything_offered_is_listed_once() -> None:
    assert sorted(extensions(encode_options(ALL, reads_trailers=True))) == [
        "checksum",
        "checksum-trailer",
        "concatenation",
        "concatenation-unfinished",
        "creation",
        "creation-defer-length",
        "creation-with-upload",
        "expiration",
        "termination",
    ]


def test_K5_W1_what_is_not_offered_is_not_listed() -> None:
    assert sorted(extensions(encode_options(NOTHING, reads_trailers=False))) == [
        "checksum",
        "creation",
        "creation-with-upload",
    ]


@pytest.mark.parametrize(
    ("offers", "reads_trailers", "names"),
    [
        (replace(NOTHING, deferred_length=True), False, {"creation-defer-length"}),
        (replace(NOTHING, expiration=True), False, {"expiration"}),
        (replace(NOTHING, termination=True), False, {"termination"}),
        (replace(NOTHING, concatenation=True), False, {"concatenation", "concatenation-unfinished"}),
        (NOTHING, True, {"checksum-trailer"}),
    ],
)
def test_C6_E1_S7_D1_N1_each_offer_is_listed_by_its_own(offers: Offers, reads_trailers: bool, names: set[str]) -> None:
    listed = set(extensions(encode_options(offers, reads_trailers=reads_trailers)))
    assert listed - set(extensions(encode_options(NOTHING, reads_trailers=False))) == names


def test_S1_S5_S6_the_algorithms_are_listed() -> None:
    answer = encode_options(NOTHING, reads_trailers=False)
    assert "checksum" in extensions(answer)
    assert answer.headers["Tus-Checksum-Algorithm"].split(",") == list(ALGORITHMS)
    assert "sha1" in ALGORITHMS


def test_K6_the_largest_size_is_an_integer_and_left_out_without_limit() -> None:
    assert encode_options(ALL, reads_trailers=True).headers["Tus-Max-Size"] == "1073741824"
    assert encode_options(replace(ALL, max_size_bytes=0), reads_trailers=True).headers["Tus-Max-Size"] == "0"
    assert "Tus-Max-Size" not in encode_options(NOTHING, reads_trailers=True).headers


def test_C11_a_creation_is_201_with_location() -> None:
    answer = encode_created(replace(UPLOAD, offset=0), "http://h/files/x")
    assert (answer.status, answer.headers["Location"]) == (201, "http://h/files/x")


@pytest.mark.parametrize("offset", [0, 5, 100])
def test_W3_a_creation_says_the_offset_zero_included(offset: int) -> None:
    assert encode_created(replace(UPLOAD, offset=offset), "/files/x").headers["Upload-Offset"] == str(offset)


@pytest.mark.parametrize("offset", [0, 70, 100])
def test_K16_K17_an_append_is_204_with_the_new_offset(offset: int) -> None:
    assert encode_appended(replace(UPLOAD, offset=offset)) == Answer(204, {"Upload-Offset": str(offset)})


@pytest.mark.parametrize("upload", [replace(UPLOAD, offset=0), UPLOAD, DONE], ids=["new", "middle", "done"])
def test_K8_K9_K11_K12_head_says_where_the_upload_stands(upload: Upload) -> None:
    assert encode_inspected(upload) == Answer(
        200, {"Cache-Control": "no-store", "Upload-Offset": str(upload.offset), "Upload-Length": "100"}
    )


def test_K8_K9_C7_head_of_an_empty_upload() -> None:
    headers = encode_inspected(replace(DONE, length=0, offset=0)).headers
    assert (headers["Upload-Offset"], headers["Upload-Length"]) == ("0", "0")


def test_C2_C5_defer_is_said_while_the_length_is_unknown_and_never_after() -> None:
    headers = encode_inspected(replace(UPLOAD, length=None)).headers
    assert headers["Upload-Defer-Length"] == "1"
    assert "Upload-Length" not in headers
    assert headers["Upload-Offset"] == "70"
    assert "Upload-Defer-Length" not in encode_inspected(UPLOAD).headers


def test_C9_metadata_comes_back_as_sent_and_not_when_there_was_none() -> None:
    raw = "b Yg==,  a YQ==  ,c,d "
    headers = encode_inspected(replace(UPLOAD, metadata=Metadata(raw, {"a": "changed"}))).headers
    assert headers["Upload-Metadata"] == raw
    assert "Upload-Metadata" not in encode_inspected(UPLOAD).headers


@pytest.mark.parametrize("encode", [encode_appended, lambda upload: encode_created(upload, "/x"), encode_inspected])
def test_E2_E4_expiry_is_said_in_post_patch_and_head_if_the_upload_expires(encode: object) -> None:
    expiring = replace(UPLOAD, created_at=1403711000.0, touched_at=1403711900.0, expire_after_seconds=100.0)
    assert encode(expiring).headers["Upload-Expires"] == EXPIRES
    assert "Upload-Expires" not in encode(UPLOAD).headers
    assert "Upload-Expires" not in encode(replace(expiring, state=State.AVAILABLE)).headers


@given(st.integers(0, 253402300799 - 1))
def test_E4_property_the_date_is_an_imf_fixdate_of_that_second(second: int) -> None:
    text = encode_appended(replace(UPLOAD, touched_at=float(second), created_at=0.0, expire_after_seconds=1.0)).headers[
        "Upload-Expires"
    ]
    assert re.fullmatch(r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT", text, re.ASCII)
    assert parsedate_to_datetime(text).timestamp() == second + 1


def test_N7_N9_head_of_an_unfinished_final_has_no_offset_but_its_length_if_known() -> None:
    headers = encode_inspected(FINAL).headers
    assert "Upload-Offset" not in headers
    assert headers["Upload-Length"] == "100"
    headers = encode_inspected(replace(FINAL, length=None)).headers
    assert not {"Upload-Offset", "Upload-Length"} & set(headers)


def test_N7_head_of_an_unfinished_final_has_no_offset_even_when_all_bytes_are_there() -> None:
    assert "Upload-Offset" not in encode_inspected(replace(FINAL, offset=100)).headers


def test_N7_head_of_a_finished_final_has_both_and_they_are_equal() -> None:
    headers = encode_inspected(replace(FINAL, offset=100, state=State.AVAILABLE)).headers
    assert headers["Upload-Offset"] == headers["Upload-Length"] == "100"


def test_N7_creation_of_an_unfinished_final_says_no_offset() -> None:
    assert "Upload-Offset" not in encode_created(FINAL, "/x").headers


@pytest.mark.parametrize("offset", [0, 70, 100])
def test_N8_N10_head_of_a_partial_has_its_offset_and_its_concat(offset: int) -> None:
    headers = encode_inspected(replace(UPLOAD, offset=offset, is_partial=True, concat="partial")).headers
    assert (headers["Upload-Offset"], headers["Upload-Concat"]) == (str(offset), "partial")


@pytest.mark.parametrize("state", [State.ASSEMBLING, State.AVAILABLE])
def test_N10_head_of_a_final_has_its_concat_as_received(state: State) -> None:
    concat = "final;  http://h/files/a?x  /files/b/"
    assert encode_inspected(replace(FINAL, concat=concat, state=state)).headers["Upload-Concat"] == concat


def test_N10_an_upload_that_is_neither_has_no_concat() -> None:
    assert "Upload-Concat" not in encode_inspected(UPLOAD).headers


def test_head_of_a_finished_upload_tells_its_digest() -> None:
    value = hashlib.sha256(b"abc")
    expected = f"sha-256=:{base64.b64encode(value.digest()).decode()}:"
    known = replace(UPLOAD, state=State.AVAILABLE, digest=f"sha256:{value.hexdigest()}")
    assert encode_inspected(known).headers["Repr-Digest"] == expected
    for digest in (None, "sha1:00"):  # RFC 9530 advises against the rest
        assert "Repr-Digest" not in encode_inspected(replace(known, digest=digest)).headers
