"""GET: ranges, validators, names, and that a browser is never made to run what was uploaded. HEAD stays tus's HEAD."""

from __future__ import annotations

import re
from urllib.parse import unquote

import pytest
from client import Connection, Response
from target import Target, metadata, noise

pytestmark = pytest.mark.needs("creation", "download")

CONTENT = b"0123456789"

# RFC 6266 4.1, as far as a server needs it: a type, a quoted name, an extended name.
DISPOSITION = re.compile(
    r"(?P<type>inline|attachment)"
    r"(?:; ?filename="
    r"(?:\"(?P<quoted>(?:[^\"\\\x00-\x1f\x7f-\U0010ffff]|\\[\x20-\x7e])*)\"|(?P<token>[!#$&+.^_`|~0-9A-Za-z-]+)))?"
    r"(?:; ?filename\*=(?i:utf-8)''(?P<extended>(?:[!#$&+.^_`|~0-9A-Za-z-]|%[0-9A-Fa-f]{2})*))?"
)

ODD_NAMES = {
    "plain": "report.txt",
    "space": "my report.txt",
    "umlaut": "r\u00e9sum\u00e9.txt",
    "Chinese": "\u6570\u636e\u96c6.csv",
    "emoji": "\U0001f600.bin",
    "quotes": 'a"b".txt',
    "semicolon": "a; filename=evil.exe",
    "percent": "100%41.txt",
    "apostrophe": "it's.txt",
}
HOSTILE_NAMES: dict[str, str | bytes] = {
    "CRLF": "a\r\nX-Evil: 1",
    "LF": "a\nX-Evil: 1",
    "CR": "a\rX-Evil: 1",
    "CRLF and body": "a\r\n\r\n<script>alert(1)</script>",
    "NUL": "a\0b",
    "controls": "a\x1b[31m\x7f",
    "not UTF-8": b"\xff\xfe\x80",
    "next line": "a\u0085X-Evil: 1\u2028X-Evil: 1",
    "overlong": "x" * 5000,
    "surrogate bytes": b"\xed\xa0\x80",
    "empty": "",
    "backslash at the end": "a\\",
    "path": "../../etc/passwd",
    "other path": "..\\..\\a.txt",
    "directions": "a\u202egpj.exe",
}
ACTIVE_TYPES = [
    "text/html", "TEXT/HTML", "text/html; charset=utf-8", " text/html", "application/xhtml+xml", "image/svg+xml",
    "text/xml", "application/javascript", "text/html,image/png", "text/html\timage/png",
]  # fmt: skip


def get(target: Target, path: str, *fields: tuple[str, str]) -> Response:
    return target.ask("GET", path, [("Tus-Resumable", None), *fields])


def disposition(answer: Response) -> re.Match[str]:
    value = answer.header("Content-Disposition")
    assert value is not None
    match = DISPOSITION.fullmatch(value)
    assert match, value
    return match


def test_get_is_200_with_length_and_type(target: Target) -> None:
    answer = get(target, target.upload(CONTENT))
    assert answer.status == 200
    assert answer.body == CONTENT
    assert answer.header("Content-Length") == "10"
    assert answer.header("Content-Type")


def test_get_with_tus_header_is_the_same(target: Target) -> None:
    assert target.ask("GET", target.upload(CONTENT)).body == CONTENT


def test_get_of_large_upload(target: Target) -> None:
    content = noise(5_000_003)
    assert get(target, target.upload(content)).body == content


@pytest.mark.parametrize(
    ("value", "start", "end"),
    [
        ("bytes=0-0", 0, 1), ("bytes=2-4", 2, 5), ("bytes=5-", 5, 10), ("bytes=9-", 9, 10), ("bytes=-3", 7, 10),
        ("bytes=-10", 0, 10), ("bytes=-100", 0, 10), ("bytes=0-999", 0, 10), ("bytes=3-99999999999999999999", 3, 10),
        ("bytes=0-9", 0, 10), ("Bytes=1-2", 1, 3), ("bytes=003-004", 3, 5),
    ],
)  # fmt: skip
def test_range_is_206(target: Target, value: str, start: int, end: int) -> None:
    answer = get(target, target.upload(CONTENT), ("Range", value))
    assert answer.status == 206
    assert answer.body == CONTENT[start:end]
    assert answer.header("Content-Range") == f"bytes {start}-{end - 1}/10"
    assert answer.header("Content-Length") == str(end - start)


def test_ranges_are_offered(target: Target) -> None:
    assert get(target, target.upload(CONTENT)).header("Accept-Ranges") == "bytes"


@pytest.mark.parametrize("value", ["bytes=10-", "bytes=10-20", "bytes=99999999999999999999-", "bytes=-0"])
def test_range_beyond_the_end_is_416(target: Target, value: str) -> None:
    answer = get(target, target.upload(CONTENT), ("Range", value))
    assert answer.status == 416
    assert answer.header("Content-Range") == "bytes */10"


@pytest.mark.parametrize(
    "value",
    [
        "bytes=abc", "bytes", "bytes=", "bytes=-", "bytes=5-2", "bytes=+1-2", "bytes=1_0-2", "bytes=0x0-1", "=1-2", "",
        "bytes=1-2-3", "bytes=\u0661-".encode().decode("latin-1"), "bytes=--5", "bytes 1-2", "bytes=1.0-2",
        "bytes=" + "9" * 5000 + "-",
    ],
)  # fmt: skip
def test_malformed_range_is_ignored_or_416(target: Target, value: str) -> None:
    answer = get(target, target.upload(CONTENT), ("Range", value))
    assert answer.status in (200, 416)
    if answer.status == 200:
        assert answer.body == CONTENT


def test_range_of_another_unit_is_ignored(target: Target) -> None:
    answer = get(target, target.upload(CONTENT), ("Range", "items=0-1"))
    assert (answer.status, answer.body) == (200, CONTENT)


def test_several_ranges_are_whole_or_multipart(target: Target) -> None:
    answer = get(target, target.upload(CONTENT), ("Range", "bytes=0-1,8-9"))
    assert answer.status in (200, 206)
    if answer.status == 200:
        assert answer.body == CONTENT
    else:
        assert (answer.header("Content-Type") or "").startswith("multipart/byteranges")
        assert b"\r\n\r\n01\r\n" in answer.body
        assert b"\r\n\r\n89\r\n" in answer.body


def test_many_overlapping_ranges_do_not_multiply_the_answer(target: Target) -> None:
    content = noise(100_000)
    answer = get(target, target.upload(content), ("Range", "bytes=" + ",".join(["0-"] * 1000)))
    assert answer.status in (200, 206, 416)
    assert len(answer.body) < 200_000


def test_range_of_empty_upload(target: Target) -> None:
    answer = get(target, target.create(0), ("Range", "bytes=0-"))
    assert answer.status in (200, 416)
    assert answer.status == 416 or answer.body == b""


def test_range_of_large_upload_in_the_middle(target: Target) -> None:
    content = noise(3_000_000)
    answer = get(target, target.upload(content), ("Range", "bytes=1000001-2500000"))
    assert answer.body == content[1_000_001:2_500_001]


def test_etag_and_304(target: Target) -> None:
    path = target.upload(CONTENT)
    etag = get(target, path).header("ETag")
    assert etag
    assert re.fullmatch(r'(W/)?"[\x21\x23-\x7e]*"', etag)
    for value in (etag, f'"x", {etag}', "*", f"W/{etag.removeprefix('W/')}"):
        answer = get(target, path, ("If-None-Match", value))
        assert answer.status == 304, value
        assert answer.header("ETag") == etag
    for value in ('"x"', '"x", "y"'):
        answer = get(target, path, ("If-None-Match", value))
        assert (answer.status, answer.body) == (200, CONTENT)


def test_etag_differs_between_uploads(target: Target) -> None:
    assert get(target, target.upload(CONTENT)).header("ETag") != get(target, target.upload(CONTENT)).header("ETag")


def test_304_leaves_the_connection_usable(target: Target) -> None:
    path = target.upload(CONTENT)
    etag = get(target, path).header("ETag") or ""
    with target.connect() as connection:
        assert connection.request("GET", path, [("If-None-Match", etag)]).status == 304
        assert connection.request("GET", path).body == CONTENT


def test_if_range(target: Target) -> None:
    path = target.upload(CONTENT)
    etag = get(target, path).header("ETag") or ""
    part = ("Range", "bytes=2-4")
    answer = get(target, path, part, ("If-Range", etag))
    assert (answer.status, answer.body) == (206, b"234")
    for other in ('"other"', 'W/"other"', f"W/{etag}", "Wed, 21 Oct 2015 07:28:00 GMT", "x"):
        answer = get(target, path, part, ("If-Range", other))
        assert (answer.status, answer.body) == (200, CONTENT), other


def test_if_range_comes_before_416(target: Target) -> None:
    answer = get(target, target.upload(CONTENT), ("Range", "bytes=50-"), ("If-Range", '"other"'))
    assert (answer.status, answer.body) == (200, CONTENT)


def test_if_none_match_comes_before_range(target: Target) -> None:
    path = target.upload(CONTENT)
    etag = get(target, path).header("ETag") or ""
    assert get(target, path, ("Range", "bytes=2-4"), ("If-None-Match", etag)).status == 304


@pytest.mark.parametrize("name", ODD_NAMES)
def test_filename_survives(target: Target, name: str) -> None:
    path = target.upload(CONTENT, [("Upload-Metadata", metadata(filename=ODD_NAMES[name]))])
    match = disposition(get(target, path))
    quoted = re.sub(r"\\(.)", r"\1", match["quoted"]) if match["quoted"] is not None else match["token"]
    told = unquote(match["extended"]) if match["extended"] is not None else quoted
    assert told == ODD_NAMES[name]
    assert match["extended"] is not None or ODD_NAMES[name].isascii()


@pytest.mark.parametrize("key", ["filename", "name"])
@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_hostile_filename_cannot_leave_its_header(target: Target, name: str, key: str) -> None:
    path = target.upload(CONTENT, [("Upload-Metadata", metadata(**{key: HOSTILE_NAMES[name]}))])
    answer = get(target, path)
    assert answer.status == 200
    assert answer.body == CONTENT
    assert answer.header("X-Evil") is None
    match = disposition(answer)
    assert not re.search(r"[\x00-\x1f\x7f]", unquote(match["extended"] or ""))


@pytest.mark.parametrize("filetype", ACTIVE_TYPES)
def test_active_content_is_never_inline(target: Target, filetype: str) -> None:
    path = target.upload(b"<script>alert(1)</script>", [("Upload-Metadata", metadata(filetype=filetype))])
    answer = get(target, path)
    assert answer.status == 200
    assert disposition(answer)["type"] == "attachment"


@pytest.mark.parametrize(
    "filetype", ["text/plain\r\nX-Evil: 1", "a\nX-Evil: 1", "\0", "", "x", "\u00e9/\u00e9", 'a/b; c="d', "y" * 3000]
)
def test_hostile_filetype_cannot_leave_its_header(target: Target, filetype: str) -> None:
    answer = get(target, target.upload(CONTENT, [("Upload-Metadata", metadata(filetype=filetype))]))
    assert answer.status == 200
    assert answer.body == CONTENT
    assert answer.header("X-Evil") is None
    assert re.fullmatch(r"[\x20-\x7e]{3,200}", answer.header("Content-Type") or "")


def test_types_are_not_guessed(target: Target) -> None:
    for path in (
        target.upload(b"<html>"),
        target.upload(b"<html>", [("Upload-Metadata", metadata(filename="a.html"))]),
    ):
        answer = get(target, path)
        assert answer.header("X-Content-Type-Options") == "nosniff"
        assert "html" not in (answer.header("Content-Type") or "") or disposition(answer)["type"] == "attachment"


def test_harmless_filetype_is_told(target: Target) -> None:
    path = target.upload(CONTENT, [("Upload-Metadata", metadata(filetype="image/png"))])
    assert get(target, path).header("Content-Type") == "image/png"


@pytest.mark.parametrize("sent", [b"", b"01234"], ids=["new", "begun"])
@pytest.mark.parametrize("extra", [(), (("Range", "bytes=0-1"),)], ids=["whole", "range"])
def test_unfinished_upload_is_400(target: Target, sent: bytes, extra: tuple[tuple[str, str], ...]) -> None:
    path = target.create(10)
    if sent:
        target.patch(path, 0, sent)
    answer = get(target, path, *extra)
    assert answer.status == 400
    assert answer.text.startswith("ERR_INCOMPLETE_UPLOAD: ")
    target.check_resumable(path, CONTENT)


@pytest.mark.needs("creation-defer-length")
def test_upload_of_unknown_length_is_400(target: Target) -> None:
    path = target.create(None)
    target.patch(path, 0, b"hello")
    assert get(target, path).status == 400


def test_K8_K12_head_of_finished_upload_is_tus_head(target: Target) -> None:
    path = target.upload(CONTENT)
    answer = target.head(path, [("Range", "bytes=0-1"), ("If-None-Match", "*")])
    assert answer.status in (200, 204)
    assert answer.header("Upload-Offset") == answer.header("Upload-Length") == "10"
    assert "no-store" in answer.tokens("Cache-Control")
    assert answer.header("Content-Range") is None


def test_download_that_is_left_does_no_harm(target: Target) -> None:
    content = noise(4_000_000)
    path = target.upload(content)
    for _ in range(3):
        with Connection(target.host, target.port, receive_buffer_bytes=4096) as connection:
            connection.send_request("GET", path)
            assert connection.head().status == 200
            connection.reset()
    assert get(target, path).body == content


def test_pipelined_downloads(target: Target) -> None:
    first, second = noise(300_000, 1), noise(300_000, 2)
    paths = [target.upload(first), target.upload(second)]
    with target.connect() as connection:
        for path in paths * 2:
            connection.send_request("GET", path)
        assert [connection.response().body for _ in range(4)] == [first, second] * 2
