"""Cross-origin rules: who is let in, what browsers are told, and that an Origin cannot smuggle a header."""

from __future__ import annotations

import re
from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tusd_py.errors import Refused
from tusd_py.web.cors import Cors

TUSD_ALLOWS = (
    "Authorization, Origin, X-Requested-With, X-Request-ID, X-HTTP-Method-Override, Content-Type, Upload-Length, "
    "Upload-Offset, Tus-Resumable, Upload-Metadata, Upload-Defer-Length, Upload-Concat, Upload-Incomplete, "
    "Upload-Complete, Upload-Draft-Interop-Version"
)
TUSD_EXPOSES = (
    "Upload-Offset, Location, Upload-Length, Tus-Version, Tus-Resumable, Tus-Max-Size, Tus-Extension, "
    "Upload-Metadata, Upload-Defer-Length, Upload-Concat, Upload-Incomplete, Upload-Complete, "
    "Upload-Draft-Interop-Version"
)


def headers_of(cors: Cors, origin: str | None, *, is_preflight: bool = False) -> dict[str, str]:
    headers = cors.headers(origin, is_preflight=is_preflight)
    assert len({name for name, _ in headers}) == len(headers)
    assert all(name == name.lower() for name, _ in headers)
    return {name.decode(): value.decode() for name, value in headers}


def allows(cors: Cors, origin: str) -> bool:
    """What `headers` say, after making sure that `check` says the same."""
    preflight = headers_of(cors, origin, is_preflight=True)
    actual = headers_of(cors, origin)
    if "access-control-allow-origin" in actual:
        assert actual["access-control-allow-origin"] == preflight["access-control-allow-origin"] == origin
        cors.check(origin)
        return True
    assert actual == preflight == {"vary": "Origin"}
    with pytest.raises(Refused) as caught:
        cors.check(origin)
    assert (caught.value.status, caught.value.code) == (403, "ERR_ORIGIN_NOT_ALLOWED")
    return False


def test_request_without_origin_is_let_in_and_varies() -> None:
    cors = Cors(allow_origin="https://only\\.example", allow_credentials=True)
    cors.check(None)
    assert headers_of(cors, None) == {"vary": "Origin"}
    assert headers_of(cors, None, is_preflight=True) == {"vary": "Origin"}


def test_preflight_tells_what_is_allowed() -> None:
    headers = headers_of(Cors(), "https://tus.io", is_preflight=True)
    assert headers.pop("access-control-allow-headers").startswith(f"{TUSD_ALLOWS}, ")
    assert headers == {
        "vary": "Origin",
        "access-control-allow-origin": "https://tus.io",
        "access-control-allow-methods": "POST, HEAD, PATCH, OPTIONS, GET, DELETE",
        "access-control-max-age": "86400",
    }


def test_other_requests_expose_what_clients_read() -> None:
    headers = headers_of(Cors(), "https://tus.io")
    exposed = headers.pop("access-control-expose-headers")
    assert exposed.startswith(f"{TUSD_EXPOSES}, ")
    assert {"Upload-Expires", "Tus-Checksum-Algorithm", "Content-Range", "ETag"} <= set(exposed.split(", "))
    assert headers == {"vary": "Origin", "access-control-allow-origin": "https://tus.io"}


@pytest.mark.parametrize("name", ["Upload-Checksum", "Upload-Expires", "Range", "If-Range", "If-None-Match"])
def test_preflight_allows_what_tusd_has_not(name: str) -> None:
    assert name in headers_of(Cors(), "null", is_preflight=True)["access-control-allow-headers"].split(", ")


def test_settings_add_to_the_fixed_lists() -> None:
    cors = Cors(
        allow_credentials=True,
        allow_methods=("PUT",),
        allow_headers=("X-Tenant", "X-Trace"),
        max_age=5,
        expose_headers=("X-Trace",),
    )
    preflight = headers_of(cors, "https://a.example", is_preflight=True)
    assert preflight["access-control-allow-methods"] == "POST, HEAD, PATCH, OPTIONS, GET, DELETE, PUT"
    assert preflight["access-control-allow-headers"].endswith(", X-Tenant, X-Trace")
    assert preflight["access-control-max-age"] == "5"
    assert preflight["access-control-allow-credentials"] == "true"
    actual = headers_of(cors, "https://a.example")
    assert actual["access-control-expose-headers"].endswith(", X-Trace")
    assert actual["access-control-allow-credentials"] == "true"
    assert not {"access-control-allow-methods", "access-control-allow-headers", "access-control-max-age"} & set(actual)


@pytest.mark.parametrize(
    ("pattern", "origin", "is_allowed"),
    [
        (".*", "https://anybody.example:8443", True),
        (".*", "null", True),
        (r"https://app\.example", "https://app.example", True),
        (r"^https://app\.example$", "https://app.example", True),
        (r"https://app\.example", "https://app.example.evil.example", False),
        (r"https://app\.example", "https://evil.example/https://app.example", False),
        (r"https://app\.example", "https://appxexample", False),
        (r"https://app\.example", "http://app.example", False),
        (r"https://app\.example", "https://app.example:444", False),
        (r"https://app\.example", "null", False),
        (r"https://a\.example|https://b\.example", "https://b.example", True),
        (r"https://a\.example|https://b\.example", "https://b.example.evil", False),
        (r"^https://a\.example$|^https://b\.example$", "https://a.example", True),
        (r"https?://(.+\.)?tus\.io", "http://x.y.tus.io", True),
        (r"(?s).*", "https://a.example\n", False),
        (r"(?s).*", "https://a.example\r\nSet-Cookie: a=b", False),
        (r"(?s).*", "https://a.example, https://b.example", False),
        (r"(?s).*", "https://a\u00e9.example", False),
        (r"(?s).*", "https://a.example\x00", False),
        (r"(?s).*", "", False),
        (r"(?s).*", "https://" + "a" * 292, True),
        (r"(?s).*", "https://" + "a" * 293, False),
        (r"https://a\.example$", "https://a.example\n", False),
    ],
)
def test_the_whole_origin_must_match(pattern: str, origin: str, is_allowed: bool) -> None:
    assert allows(Cors(allow_origin=pattern), origin) is is_allowed


@given(st.one_of(st.text(), st.text(st.characters(max_codepoint=255)), st.from_regex(r"https?://[a-z.]+(:[0-9]+)?\s?")))
def test_no_origin_can_smuggle_a_header(origin: str) -> None:
    cors = Cors(allow_origin="(?s).*", allow_credentials=True)
    is_visible_ascii = re.fullmatch(r"[\x21-\x7e]{1,300}", origin) is not None
    assert allows(cors, origin) is is_visible_ascii
    for is_preflight in (False, True):
        for name, value in cors.headers(origin, is_preflight=is_preflight):
            assert not re.search(rb"[^\x20-\x7e]", name + value)


def test_it_is_a_value() -> None:
    cors = Cors()
    with pytest.raises(FrozenInstanceError):
        cors.max_age = 1  # type: ignore[misc]
    assert cors == Cors()
