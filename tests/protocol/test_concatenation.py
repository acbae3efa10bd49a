"""POST of a final upload: Upload-Concat to `Concatenate` (tus N3, N4, N10 to N12; failures F35)."""

from __future__ import annotations

import pytest
from asking import BASE, TYPE, ask, b64, refused

from tusd_py.core.commands import Concatenate
from tusd_py.protocol.tus import MAX_PARTIALS, decode_create

A = "a" * 32
B = "0123456789abcdef0123456789abcdef"


def final(urls: str, *lines: tuple[str, str], base: str = BASE) -> Concatenate:
    command = decode_create(ask(("Upload-Concat", "final;" + urls), *lines), base)
    assert isinstance(command, Concatenate)
    return command


def test_N3_the_example_of_the_specification_keeps_its_order() -> None:
    assert final("/files/b /files/a").partials == ("b", "a")


FORMS = {
    "absolute path": f"/files/{A}",
    "absolute URL": f"http://example.org/files/{A}",
    "https": f"https://example.org/files/{A}",
    "another host": f"https://somewhere.else:8443/files/{A}",
    "with user": f"https://me:secret@example.org/files/{A}",
    "IPv6": f"http://[::1]:1080/files/{A}",
    "network path": f"//example.org/files/{A}",
    "relative": A,
    "slash at the end": f"/files/{A}/",
    "slash at the end of a relative one": f"{A}/",
    "with query": f"/files/{A}?token=1",
    "with fragment": f"/files/{A}#x",
    "encoded letter": f"/files/%61{A[1:]}",
    "encoded base": f"/%66iles/{A}",
    "encoded slash at the end": f"/files/{A}%2F",
    "upper-case scheme": f"HTTP://EXAMPLE.ORG/files/{A}",
}


@pytest.mark.parametrize("url", FORMS.values(), ids=FORMS)
def test_N11_urls_are_absolute_or_relative_and_the_host_does_not_matter(url: str) -> None:
    assert final(url).partials == (A,)


@pytest.mark.parametrize(
    ("urls", "ids"),
    [
        (f" /files/{A}", (A,)),
        (f"/files/{A} ", (A,)),
        (f"/files/{A}   /files/{B}", (A, B)),
        (f"/files/{A} {B} http://h/files/{A}", (A, B, A)),
    ],
)
def test_N11_blanks_part_urls_and_empty_items_are_skipped(urls: str, ids: tuple[str, ...]) -> None:
    assert final(urls).partials == ids


def test_N5_a_partial_may_appear_several_times() -> None:
    assert final(f"{A} {A} {B} {A}").partials == (A, A, B, A)


NOWHERE = {
    "another path": f"/other/{A}",
    "below an upload": f"/files/{A}/x",
    "no base": f"/{A}",
    "base without slash": "/files",
    "the base itself": "/files/",
    "base as a prefix": f"/filesx/{A}",
    "base relative": f"files/{A}",
    "only a host": "http://example.org",
    "only a query": "?x=1",
    "dots": "/files/..",
    "climbing": f"/files/../files/{A}",
    "climbing, relative": f"../files/{A}",
    "here, relative": f"./{A}",
    "climbing out": "/files/../../etc/passwd",
    "encoded dots": "/files/%2e%2e",
    "encoded slash": "/files/..%2f..%2fetc%2fpasswd",
    "encoded twice": f"/files/%2561{A[1:]}",
    "encoded NUL": f"/files/{A}%00",
    "encoded line end": f"/files/{A}%0d%0a",
    "encoded blank": f"/files/{A}%20",
    "not UTF-8": "/files/%ff",
    "record's name": f"/files/{A}.info",
    "backslash": f"/files\\{A}",
    "double slash": f"/files//{A}",
    "two slashes at the end": f"/files/{A}//",
    "parameter": f"/files/{A};x",
    "129 characters": "/files/" + "a" * 129,
    "full-width": "/files/\uff41",
    "cyrillic": "/files/%D0%B0",
}


@pytest.mark.parametrize("url", NOWHERE.values(), ids=NOWHERE)
def test_N11_F35_a_url_that_cannot_be_one_of_ours_is_400(url: str) -> None:
    with refused(400, "ERR_INVALID_CONCAT"):
        final(f"/files/{B} {url}")


def test_N11_ids_have_at_most_128_characters() -> None:
    assert final("/files/" + "a" * 128).partials == ("a" * 128,)


@pytest.mark.parametrize("url", ["http://[/files/a", "http://[::1/files/a", "//[x]/files/a"])
def test_N11_a_malformed_url_is_400(url: str) -> None:
    with refused(400, "ERR_INVALID_CONCAT"):
        final(url)


@pytest.mark.parametrize(
    "value", ["final", "final;", "final; ", "final;   ", "final ", "Final;a", "FINAL;a", "finals;a"]
)
def test_N3_no_partial_at_all_is_400(value: str) -> None:
    with refused(400, "ERR_INVALID_CONCAT"):
        decode_create(ask(("Upload-Concat", value)), BASE)


def test_N11_a_base_of_its_own() -> None:
    assert final(f"/api/v1/up/{A} {A}", base="/api/v1/up/").partials == (A, A)
    assert final(f"/{A} {A}", base="/").partials == (A, A)
    with refused(400):
        final(f"/files/{A}", base="/api/v1/up/")


@pytest.mark.parametrize("line", [("Upload-Length", "5"), ("Upload-Length", ""), ("Upload-Defer-Length", "1")])
def test_N11_a_length_beside_a_final_is_400(line: tuple[str, str]) -> None:
    with refused(400, "ERR_INVALID_UPLOAD_LENGTH"):
        final(A, line)


@pytest.mark.parametrize("line", [("Content-Length", "5"), ("Transfer-Encoding", "chunked")])
def test_N6_a_final_with_bytes_of_its_own_is_403(line: tuple[str, str]) -> None:
    with refused(403, "ERR_MODIFY_FINAL"):
        final(A, TYPE, line)


def test_N6_a_final_with_an_empty_or_somebody_elses_body_is_fine() -> None:
    assert final(A, TYPE, ("Content-Length", "0")).partials == (A,)
    assert final(A, ("Content-Type", "text/plain"), ("Content-Length", "5")).partials == (A,)


def test_N4_the_metadata_is_the_requests_own() -> None:
    raw = "filename " + b64("joined.bin")
    assert final(A, ("Upload-Metadata", raw)).metadata.raw == raw
    assert final(A).metadata.raw == ""


def test_N4_bad_metadata_of_a_final_is_400() -> None:
    with refused(400, "ERR_INVALID_METADATA"):
        final(A, ("Upload-Metadata", "a ?"))


def test_N10_the_value_is_kept_as_received() -> None:
    value = f"final;  http://h/files/{A}?x  /files/{B}/"
    assert decode_create(ask(("Upload-Concat", value)), BASE).concat == value


def test_N3_as_many_partials_as_allowed_and_not_one_more() -> None:
    assert len(final(" ".join([A] * MAX_PARTIALS)).partials) == MAX_PARTIALS
    with refused(400, "ERR_INVALID_CONCAT"):
        final(" ".join([A] * (MAX_PARTIALS + 1)))
