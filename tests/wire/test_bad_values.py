"""Well-formed HTTP with wrong values (section 2.11): ids, integers, repeated fields."""

from __future__ import annotations

import pytest
from target import OFFSET_TYPE, Target, merged

BAD_IDS = [
    "../x", "../../etc/passwd", "%2e%2e", "%2e%2e/x", "%2e%2e%2fx", "..%2f..%2fetc%2fpasswd", "%2f", "%2fetc%2fpasswd",
    "..", ".", "...", "%2e", "%00", "a%00b", "{id}%00", "{id}%00.info", "{id}.info", "{id}%2einfo", "{id}.lock",
    "{id}%0d%0aX-Evil:%201", "{id}%20", "%20{id}", "{id}%5c", "..%5cx", "{id}/x", "x/{id}", "{id}%2f..%2f{id}",
    "%c0%ae%c0%ae%c0%af", "%ff%fe", "%u0041", "%", "%zz", "~root", "-", "con", "{id};x", "\xe9", "%e2%80%ae", "*",
    "{id},{id}", "$HOME",
]  # fmt: skip

BAD_INTEGERS: list[str | bytes] = [
    "", "+5", "-5", "-0", "-1", "5_0", "5 5", "5\t5", "5,5", "5, 5", "5;", "5.0", "5.", "5e0", "5L", "0x5", "0b101",
    "0o5", "five", "NaN", "Infinity", "true", "1/2", '"5"', b"\xb2", b"\xa05", b"5\xa0", b"\x855",
    "\u0665".encode(), "\uff15".encode(), "\u20035".encode(),
]  # fmt: skip
TOO_LARGE = [str(2**63), str(2**64), str(2**64 + 5), "9" * 30, "1" * 5000]


@pytest.mark.parametrize("name", BAD_IDS)
@pytest.mark.parametrize("method", ["HEAD", "GET", "PATCH", "DELETE"])
def test_F35_bad_id_is_refused_and_harms_nothing(target: Target, method: str, name: str) -> None:
    path = target.create(5)
    bad = target.base.rstrip("/") + "/" + name.replace("{id}", path.rpartition("/")[2])
    fields = target.patch_fields(0) if method == "PATCH" else []
    answer = target.ask(method, bad, fields, b"XXXXX" if method == "PATCH" else None)
    # 405: a server may resolve dots before routing (RFC 3986 6.2.2.3) and arrive at the creation URL.
    assert answer.status in (400, 404, 405), answer
    assert answer.header("X-Evil") is None
    target.check_resumable(path, b"hello", at_most=0)


@pytest.mark.parametrize("method", ["HEAD", "GET", "PATCH", "DELETE"])
def test_F35_id_of_10_kB_is_refused(target: Target, method: str) -> None:
    fields = target.patch_fields(0) if method == "PATCH" else []
    bad = target.base.rstrip("/") + "/" + "a" * 10_000
    assert target.ask(method, bad, fields, b"x" if method == "PATCH" else None).status in (400, 404, 414)


@pytest.mark.parametrize("value", BAD_INTEGERS)
def test_K1_length_that_is_no_number_is_400(target: Target, value: str | bytes) -> None:
    answer = target.post([("Upload-Length", value)])
    assert answer.status == 400
    assert answer.header("Location") is None


@pytest.mark.parametrize("value", BAD_INTEGERS)
def test_K1_offset_that_is_no_number_is_400_and_changes_nothing(target: Target, value: str | bytes) -> None:
    path = target.create(10)
    assert target.patch(path, 0, b"hello").status == 204
    assert target.patch(path, 5, b"XXXXX", [("Upload-Offset", value)]).status == 400
    target.check_resumable(path, b"helloworld", at_most=5)


@pytest.mark.needs("creation-defer-length")
@pytest.mark.parametrize("value", BAD_INTEGERS)
def test_K1_deferred_length_that_is_no_number_is_400(target: Target, value: str | bytes) -> None:
    path = target.create(None)
    assert target.patch(path, 0, b"XXXXX", [("Upload-Length", value)]).status == 400
    assert target.offset(path) == 0
    assert target.patch(path, 0, b"hello", [("Upload-Length", "5")]).status == 204
    target.check_content(path, b"hello")


@pytest.mark.parametrize("value", TOO_LARGE)
def test_K1_length_beyond_63_bits_is_refused(target: Target, value: str) -> None:
    assert target.post([("Upload-Length", value)]).status in (400, 413)


@pytest.mark.needs("max-size")
def test_C10_largest_length_is_413(target: Target) -> None:
    assert target.post([("Upload-Length", str(2**63 - 1))]).status == 413


@pytest.mark.parametrize("value", TOO_LARGE)
def test_K1_offset_beyond_63_bits_is_refused_and_changes_nothing(target: Target, value: str) -> None:
    path = target.create(5)
    assert target.patch(path, 0, b"XXXXX", [("Upload-Offset", value)]).status in (400, 409)
    target.check_resumable(path, b"hello", at_most=0)


def test_K1_leading_zeros_are_digits(target: Target) -> None:
    path = target.create(5, [("Upload-Length", "0005")])
    assert target.head(path).header("Upload-Length") == "5"
    assert target.patch(path, "00", b"hello").status == 204
    target.check_content(path, b"hello")


def test_K1_white_space_around_a_value_is_no_part_of_it(target: Target) -> None:
    path = target.create(5, [("Upload-Length", " \t5 \t")])
    assert target.patch(path, "  0 ", b"hello").status == 204
    target.check_content(path, b"hello")


def test_repeated_equal_lengths_are_one(target: Target) -> None:
    path = target.create(5, [("Upload-Length", "5"), ("Upload-Length", "5")])
    assert target.head(path).header("Upload-Length") == "5"


@pytest.mark.parametrize(("first", "second"), [("5", "6"), ("6", "5"), ("5", ""), ("", "5"), ("5", "x")])
def test_repeated_different_lengths_are_400(target: Target, first: str, second: str) -> None:
    assert target.post([("Upload-Length", first), ("Upload-Length", second)]).status == 400


def test_repeated_equal_offsets_are_one(target: Target) -> None:
    path = target.create(5)
    assert target.patch(path, 0, b"hello", [("Upload-Offset", "0"), ("Upload-Offset", "0")]).status == 204
    target.check_content(path, b"hello")


@pytest.mark.parametrize(("first", "second"), [("0", "1"), ("1", "0"), ("0", "")])
def test_repeated_different_offsets_are_400_and_change_nothing(target: Target, first: str, second: str) -> None:
    path = target.create(5)
    assert target.patch(path, 0, b"XXXX", [("Upload-Offset", first), ("Upload-Offset", second)]).status == 400
    target.check_resumable(path, b"hello", at_most=0)


@pytest.mark.parametrize("versions", [("1.0.0", "0.2.2"), ("0.2.2", "1.0.0")])
def test_repeated_different_versions_are_refused(target: Target, versions: tuple[str, str]) -> None:
    path = target.create(5)
    answer = target.patch(path, 0, b"XXXXX", [("Tus-Resumable", version) for version in versions])
    assert answer.status in (400, 412)
    target.check_resumable(path, b"hello", at_most=0)


def test_repeated_different_content_types_are_refused(target: Target) -> None:
    path = target.create(5)
    types = [("Content-Type", OFFSET_TYPE), ("Content-Type", "text/plain")]
    assert target.patch(path, 0, b"XXXXX", types).status in (400, 415)
    target.check_resumable(path, b"hello", at_most=0)


def test_repeated_different_overrides_are_refused(target: Target) -> None:
    path = target.upload(b"hello")
    fields = [("X-HTTP-Method-Override", "HEAD"), ("X-HTTP-Method-Override", "DELETE")]
    assert target.ask("POST", path, fields, b"").status in (400, 405)
    target.check_content(path, b"hello")


@pytest.mark.needs("concatenation")
def test_repeated_different_upload_concat_is_400(target: Target) -> None:
    path = target.upload(b"hello", [("Upload-Concat", "partial")])
    for values in (("partial", f"final;{path}"), (f"final;{path}", "partial")):
        fields = [("Upload-Length", "5"), *[("Upload-Concat", value) for value in values]]
        assert target.post(fields).status == 400


def test_query_of_an_upload_url_is_ignored_or_unknown(target: Target) -> None:
    path = target.create(5)
    answer = target.head(path + "?a=b&../x")
    assert answer.status in (200, 204, 404)


@pytest.mark.parametrize("number", [1, 500])
def test_headers_that_nobody_knows_are_ignored(target: Target, number: int) -> None:
    path = target.create(5)
    fields = merged([(f"X-Unknown-{index}", "value") for index in range(number)], target.patch_fields(0))
    assert target.ask("PATCH", path, fields, b"hello").status == 204
    target.check_content(path, b"hello")


@pytest.mark.parametrize("host", ["a b", "a/b", 'x"><script>', "user@host", "host:port", "a,b", "[::1", ""])
def test_C11_bad_host_does_not_get_into_location(target: Target, host: str) -> None:
    answer = target.post([("Upload-Length", "5"), ("Host", host)])
    location = answer.header("Location") or ""
    if answer.status == 201:
        assert not host or f"//{host}/" not in location
        assert not set(' "<>@') & set(location)
    else:
        assert answer.status == 400
