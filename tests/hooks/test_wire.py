"""Events and answers as tusd's JSON, both ways."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tusd_py.hooks import wire
from tusd_py.hooks.contract import (
    EVENT_CLASSES,
    Access,
    Answer,
    Change,
    HookError,
    PostFinish,
    PreAccess,
    PreCreate,
    Request,
    Response,
    Upload,
    change,
    reject,
    respond,
    stop,
)

# As tusd 2.9 wrote it, its documentation's example.
TUSDS = b"""{"Type":"post-finish","Event":{"Upload":{"ID":"14b1c4c77771671a8479bc0444bbc5ce","Size":46205,
"SizeIsDeferred":false,"Offset":1592,"MetaData":{"filename":"transloadit.png"},"IsPartial":false,"IsFinal":false,
"PartialUploads":null,"Storage":{"Type":"filestore","Path":"/d/14b1","InfoPath":"/d/14b1.info"}},"HTTPRequest":{
"Method":"PATCH","URI":"/files/14b1","RemoteAddr":"127.0.0.1:59395","Header":{"Host":["localhost:8080"]}}}}"""

TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
UPLOADS = st.builds(
    Upload,
    id=TEXT,
    length=st.none() | st.integers(0, 2**62),
    offset=st.integers(0, 2**62),
    metadata=st.dictionaries(TEXT, TEXT, max_size=3),
    is_partial=st.booleans(),
    is_final=st.booleans(),
    partials=st.lists(TEXT, max_size=3).map(tuple),
    storage=st.dictionaries(TEXT, TEXT, max_size=2),
    digest=st.none() | TEXT,
    created_at=st.floats(0, 1e10),
)
REQUESTS = st.builds(
    Request,
    method=TEXT,
    uri=TEXT,
    remote_address=TEXT,
    headers=st.dictionaries(TEXT, st.lists(TEXT, min_size=1, max_size=2).map(tuple), max_size=3),
)


@given(st.sampled_from(sorted(EVENT_CLASSES)), UPLOADS, REQUESTS, TEXT)
def test_an_event_comes_back_as_it_was(kind: str, upload: Upload, request: Request, key: str) -> None:
    event = EVENT_CLASSES[kind](upload, request, key)
    if isinstance(event, PreAccess):
        event = PreAccess(upload, request, key, Access("write", (upload,)))
    assert wire.decode_event(wire.encode_event(event)) == event


def test_an_event_reads_like_tusds() -> None:
    event = wire.decode_event(TUSDS)
    assert isinstance(event, PostFinish)
    ours = json.loads(wire.encode_event(event))
    del ours["Event"]["Upload"]["TusdPy"]
    assert ours == json.loads(TUSDS)


@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b"{}", b"no", b'{"Type":"post-finish"}', b'{"Type":"post-dinner","Event":{"Upload":{}}}', b"\xff",
     b'{"Type":"post-finish","Event":{"Upload":[]}}'],
)  # fmt: skip
def test_what_is_no_event_is_a_value_error(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        wire.decode_event(text)


def test_headers_have_gos_names() -> None:
    lines = [(b"x-forwarded-for", b"1"), (b"host", b"a"), (b"x-forwarded-for", b"2"), (b"te", b"\xe9")]
    assert wire.headers_of(lines) == {"X-Forwarded-For": ("1", "2"), "Host": ("a",), "Te": ("é",)}


@pytest.mark.parametrize("event", ["pre-create", "pre-access", "pre-terminate", "pre-finish"])
def test_each_answer_comes_back_as_it_was(event: str) -> None:
    answers = [
        Answer(),
        reject("no", status=403, headers={"X-A": "b"}),
        stop("enough"),
        respond("well done", status=200),
        change(id="mine", metadata={"a": "b"}, storage={"Path": "c"}),
        change(metadata={}),
    ]
    for answer in answers:
        assert wire.decode_answer(wire.encode_answer(answer), event) == answer


@pytest.mark.parametrize(
    ("event", "field"),
    [("pre-create", "RejectUpload"), ("pre-finish", "RejectUpload"), ("pre-terminate", "RejectTermination"),
     ("pre-access", "RejectAccess")],
)  # fmt: skip
def test_each_event_has_its_own_word_for_no(event: str, field: str) -> None:
    for each in ("RejectUpload", "RejectTermination", "RejectAccess"):
        said = wire.decode_answer(json.dumps({each: True}).encode(), event)
        assert said.is_rejected == (each == field)


def test_case_and_unknown_fields_do_not_count_as_in_go() -> None:
    text = b'{"rejectupload":true,"Httpresponse":{"statuscode":418,"Headers":{"x":"y"},"BODY":"tea"},"New":[1]}'
    assert wire.decode_answer(text, "pre-create") == reject("tea", status=418)


@pytest.mark.parametrize("text", [b"", b" \n", b"{}", b'{"HTTPResponse":null,"ChangeFileInfo":null,"StopUpload":null}'])
def test_saying_nothing_means_go_on(text: bytes) -> None:
    assert wire.decode_answer(text, "post-receive") == Answer()


def test_zero_and_empty_are_unset_as_in_go() -> None:
    text = b'{"HTTPResponse":{"StatusCode":0,"Body":""},"ChangeFileInfo":{"ID":""}}'
    assert wire.decode_answer(text, "pre-create") == Answer(response=Response(), change=Change())


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (b"nope", "not JSON"),
        (b"[1]", "not an object"),
        (b"{" * 100_000, "not JSON"),
        (b'{"RejectUpload":"yes"}', "RejectUpload"),
        (b'{"HTTPResponse":7}', "HTTPResponse"),
        (b'{"HTTPResponse":{"StatusCode":"400"}}', "StatusCode"),
        (b'{"HTTPResponse":{"StatusCode":42}}', "StatusCode"),
        (b'{"HTTPResponse":{"StatusCode":true}}', "StatusCode"),
        (b'{"HTTPResponse":{"Body":{}}}', "Body"),
        (b'{"HTTPResponse":{"Header":{"a":["b"]}}}', "Header"),
        (b'{"ChangeFileInfo":{"MetaData":[]}}', "MetaData"),
        (b'{"ChangeFileInfo":{"ID":5}}', "ID"),
        (b"\xff\xfe", "not JSON"),
    ],
)
def test_what_is_no_answer_is_named(text: bytes, named: str) -> None:
    with pytest.raises(HookError, match=named) as caught:
        wire.decode_answer(text, "pre-create")
    assert len(str(caught.value)) < 500


def test_metadata_that_is_not_utf8_survives_the_way() -> None:
    event = PreCreate(Upload(metadata={"name": "\udcff"}))
    assert wire.decode_event(wire.encode_event(event)) == event
