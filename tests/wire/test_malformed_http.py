"""Requests that are not HTTP, or that two parsers could read differently (request smuggling).

What is wanted each time: a 4xx or 5xx, or just the end of the connection; nothing after the fault is taken as a
request; and the stored bytes are only those whose framing was right.
"""

from __future__ import annotations

import pytest
from client import ClosedByServerError, Connection, Response, field_line
from target import Target

HELLO_CLIENT = b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + bytes(160)


def refusal(connection: Connection) -> Response | None:
    """The final answer, if any, after which the connection has to end."""
    try:
        answer: Response | None = connection.response()
    except ClosedByServerError:
        return None
    assert answer is not None
    assert connection.is_closed_by_server(), f"open after {answer.status}"
    return answer


def patch_head(target: Target, path: str, *framing: bytes) -> bytes:
    """The head of a PATCH at offset 0 with the framing lines as they are."""
    lines = [field_line(name, value) for name, value in target.patch_fields(0) if value is not None]
    host = f"Host: {target.authority}\r\n".encode()
    return f"PATCH {path} HTTP/1.1\r\n".encode() + host + b"".join(lines) + b"".join(framing) + b"\r\n"


def hidden_delete(target: Target, path: str) -> bytes:
    return f"DELETE {path} HTTP/1.1\r\nHost: {target.authority}\r\nTus-Resumable: 1.0.0\r\n\r\n".encode()


GARBAGE = {
    "word": b"GARBAGE\r\n\r\n",
    "only method": b"GET\r\n\r\n",
    "no version": b"POST {base}\r\nTus-Resumable: 1.0.0\r\n\r\n",
    "three spaces": b"POST {base} HTTP/1.1 extra\r\nHost: a\r\n\r\n",
    "version 9.9": b"POST {base} HTTP/9.9\r\nHost: a\r\nUpload-Length: 5\r\nTus-Resumable: 1.0.0\r\n\r\n",
    "version xyz": b"POST {base} HTTP/xyz\r\nHost: a\r\n\r\n",
    "lower-case http": b"POST {base} http/1.1\r\nHost: a\r\n\r\n",
    "other protocol": b"POST {base} SIP/2.0\r\nHost: a\r\n\r\n",
    "leading space": b" POST {base} HTTP/1.1\r\nHost: a\r\n\r\n",
    "tabs": b"POST\t{base}\tHTTP/1.1\r\nHost: a\r\n\r\n",
    "NUL in target": b"POST {base}\0 HTTP/1.1\r\nHost: a\r\n\r\n",
    "zero bytes": bytes(64) + b"\r\n\r\n",
    "TLS": HELLO_CLIENT + b"\r\n\r\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "method with umlaut": b"P\xc3\x96ST {base} HTTP/1.1\r\nHost: a\r\n\r\n",
    "empty target": b"POST  HTTP/1.1\r\nHost: a\r\n\r\n",
    "colon first": b": POST {base}\r\n\r\n",
}

BAD_FIELDS = {
    "space before colon": b"X-Field : 1\r\n",
    "tab before colon": b"X-Field\t: 1\r\n",
    "no colon": b"X-Field\r\n",
    "no name": b": 1\r\n",
    "space in name": b"X Field: 1\r\n",
    "parenthesis in name": b"X(Field): 1\r\n",
    "non-ASCII name": b"X-F\xe9ld: 1\r\n",
    "NUL in name": b"X\0Field: 1\r\n",
    "NUL in value": b"X-Field: a\0b\r\n",
    "CR in value": b"X-Field: a\rb\r\n",
    "control character in value": b"X-Field: a\x01b\r\n",
    "DEL in value": b"X-Field: a\x7fb\r\n",
    "obs-fold": b"X-Field: a\r\n b\r\n",
    "obs-fold with tab": b"X-Field: a\r\n\tb\r\n",
    "first line folded": b" X-Field: a\r\n",
}

CONFLICTING_FRAMING = {
    "CL and TE": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    "TE and CL": b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    "CL 0 and TE": b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
    "two different CL": b"Content-Length: 5\r\nContent-Length: 6\r\n",
    "list of different CL": b"Content-Length: 5, 6\r\n",
    "CL with plus": b"Content-Length: +5\r\n",
    "negative CL": b"Content-Length: -5\r\n",
    "hexadecimal CL": b"Content-Length: 0x5\r\n",
    "CL with underscore": b"Content-Length: 1_0\r\n",
    "CL with decimals": b"Content-Length: 5.0\r\n",
    "empty CL": b"Content-Length: \r\n",
    "CL of words": b"Content-Length: five\r\n",
    "CL in other digits": b"Content-Length: \xd9\xa5\r\n",
    "CL with two numbers": b"Content-Length: 5 5\r\n",
    "CL of 20 digits": b"Content-Length: 99999999999999999999\r\n",
    "CL beyond 64 bits": b"Content-Length: 18446744073709551621\r\n",
    "TE chunked twice": b"Transfer-Encoding: chunked, chunked\r\n",
    "TE chunked in two lines": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    "TE xchunked": b"Transfer-Encoding: xchunked\r\n",
    "TE chunkedx": b"Transfer-Encoding: chunkedx\r\n",
    "TE chunked not last": b"Transfer-Encoding: chunked, gzip\r\n",
    "TE chunked, then identity": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
    "TE gzip": b"Transfer-Encoding: gzip\r\n",
    "TE gzip, chunked": b"Transfer-Encoding: gzip, chunked\r\n",
    "TE identity": b"Transfer-Encoding: identity\r\n",
    "TE with quotes": b'Transfer-Encoding: "chunked"\r\n',
    "TE with vertical tab": b"Transfer-Encoding: \x0bchunked\r\n",
    "TE with parameter": b"Transfer-Encoding: chunked;q=1\r\n",
    "empty TE": b"Transfer-Encoding: \r\n",
    "empty TE and CL": b"Transfer-Encoding: \r\nContent-Length: 5\r\n",
    "space before colon of TE": b"Transfer-Encoding : chunked\r\n",
    "space before colon of CL": b"Content-Length : 5\r\n",
    "folded TE": b"Transfer-Encoding:\r\n chunked\r\n",
    "folded CL": b"Content-Length:\r\n 5\r\n",
    "folded TE and CL": b"Content-Length: 5\r\nTransfer-Encoding:\r\n chunked\r\n",
    "TE behind a bare LF": b"Content-Length: 5\r\nX-Field: a\nTransfer-Encoding: chunked\r\n",
    "TE behind a bare CR": b"Content-Length: 5\r\nX-Field: a\rTransfer-Encoding: chunked\r\n",
}

BAD_CHUNKS = {
    "0x5": b"0x5\r\nhello\r\n",
    "+5": b"+5\r\nhello\r\n",
    "-1": b"-1\r\nhello\r\n",
    "-5": b"-5\r\nhello\r\n",
    "20 hex digits": b"F" * 20 + b"\r\nhello\r\n",
    "17 hex digits": b"10000000000000005\r\nhello\r\n",
    "empty": b"\r\nhello\r\n",
    "no digit": b"g\r\nhello\r\n",
    "only extension": b";a=b\r\nhello\r\n",
    "underscore": b"0_5\r\nhello\r\n",
    "leading space": b" 5\r\nhello\r\n",
    "two numbers": b"5 5\r\nhello\r\n",
    "comma": b"5,5\r\nhello\r\n",
    "other digits": b"\xd9\xa5\r\nhello\r\n",
    "bare LF after the size": b"5\nhello\r\n",
    "bare CR after the size": b"5\rhello\r\n",
    "bare LF in the extension": b"5;a\nb\r\nhello\r\n",
    "bare LF after the data": b"5\r\nhello\n",
    "no end of the data": b"5\r\nhello",
    "longer than its size": b"5\r\nhelloXX\r\n",
    "NUL in the extension": b"5;a\0\r\nhello\r\n",
}


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_instead_of_a_request_line(target: Target, name: str) -> None:
    with target.connect() as connection:
        connection.send(GARBAGE[name].replace(b"{base}", target.base.encode()))
        connection.stop_sending()
        answer = refusal(connection)
        assert answer is None or answer.status in (400, 405, 414, 501, 505), answer


@pytest.mark.parametrize("name", BAD_FIELDS)
def test_malformed_header_field_is_400_and_changes_nothing(target: Target, name: str) -> None:
    path = target.create(5)
    with target.connect() as connection:
        connection.send(patch_head(target, path, BAD_FIELDS[name], b"Content-Length: 5\r\n") + b"XXXXX")
        answer = refusal(connection)
        assert answer is None or answer.status == 400, answer
    target.check_resumable(path, b"hello", at_most=0)


@pytest.mark.parametrize("name", CONFLICTING_FRAMING)
def test_conflicting_framing_is_refused_and_nothing_smuggled(target: Target, name: str) -> None:
    path = target.create(5)
    with target.connect() as connection:
        # Read by either length, what follows would be a second request.
        body = b"0\r\n\r\n" + hidden_delete(target, path)
        connection.send(patch_head(target, path, CONFLICTING_FRAMING[name]) + body)
        answer = refusal(connection)
        assert answer is None or answer.status in (400, 413, 501), answer
    target.check_resumable(path, b"hello", at_most=0)


@pytest.mark.parametrize("name", BAD_CHUNKS)
def test_bad_chunk_is_refused_and_keeps_only_what_was_framed_well(target: Target, name: str) -> None:
    path = target.create(15)
    with target.connect() as connection:
        head = patch_head(target, path, b"Transfer-Encoding: chunked\r\n")
        connection.send(head + b"5\r\nhello\r\n" + BAD_CHUNKS[name] + b"0\r\n\r\n" + hidden_delete(target, path))
        answer = refusal(connection)
        assert answer is None or answer.status in (400, 413, 423), answer
    # The data of a chunk are good until its end turns out wrong.
    at_most = 10 if BAD_CHUNKS[name].startswith(b"5\r\n") else 5
    target.check_resumable(path, b"hellohelloworld", at_most=at_most)


@pytest.mark.parametrize("size", ["7fffffffffffffff", "8000000000000005", "ffffffffffffffff"])
def test_chunk_as_large_as_a_number_can_be_is_all_data(target: Target, size: str) -> None:
    path = target.create(15)
    rest = b"hello\r\n0\r\n\r\n" + hidden_delete(target, path)
    with target.connect() as connection:
        connection.send(patch_head(target, path, b"Transfer-Encoding: chunked\r\n") + f"{size}\r\n".encode() + rest)
        answer = refusal(connection)
        assert answer is None or answer.status in (400, 413), answer
    target.check_resumable(path, rest[:15], at_most=15)


@pytest.mark.parametrize("trailer", [b"X\r\n", b"X : 1\r\n", b": 1\r\n", b"X: a\0\r\n", b"X: a\nY: b\r\n"])
def test_malformed_trailer_is_refused(target: Target, trailer: bytes) -> None:
    path = target.create(10)
    with target.connect() as connection:
        head = patch_head(target, path, b"Transfer-Encoding: chunked\r\n")
        connection.send(head + b"5\r\nhello\r\n0\r\n" + trailer + b"\r\n")
        answer = refusal(connection)
        assert answer is None or answer.status in (400, 423), answer
    target.check_resumable(path, b"helloworld", at_most=5)


def test_two_equal_content_lengths_are_refused_or_one(target: Target) -> None:
    path = target.create(5)
    with target.connect() as connection:
        connection.send(patch_head(target, path, b"Content-Length: 5\r\nContent-Length: 5\r\n") + b"hello")
        assert connection.response().status in (204, 400)
    target.check_resumable(path, b"hello")


def test_chunked_in_http_1_0_is_refused_or_ends_the_connection(target: Target) -> None:
    path = target.create(5)
    with target.connect() as connection:
        head = patch_head(target, path, b"Transfer-Encoding: chunked\r\nConnection: keep-alive\r\n")
        connection.send(
            head.replace(b"HTTP/1.1", b"HTTP/1.0") + b"5\r\nhello\r\n0\r\n\r\n" + hidden_delete(target, path)
        )
        answer = refusal(connection)
        assert answer is None or answer.status in (204, 400), answer
    target.check_resumable(path, b"hello")


def test_bare_line_feeds_are_refused_or_read_as_line_ends(target: Target) -> None:
    path = target.create(5)
    with target.connect() as connection:
        connection.send(patch_head(target, path, b"Content-Length: 5\r\n").replace(b"\r\n", b"\n") + b"hello")
        connection.stop_sending()
        try:
            assert connection.response().status in (204, 400)
        except ClosedByServerError:
            assert target.offset(path) == 0
    target.check_resumable(path, b"hello")


@pytest.mark.parametrize("hosts", [b"", b"Host: a\r\nHost: b\r\n"], ids=["none", "two"])
def test_http_1_1_without_exactly_one_host_is_400(target: Target, hosts: bytes) -> None:
    with target.connect() as connection:
        rest = b"Tus-Resumable: 1.0.0\r\nUpload-Length: 5\r\nContent-Length: 0\r\n\r\n"
        connection.send(f"POST {target.base} HTTP/1.1\r\n".encode() + hosts + rest)
        assert connection.response().status == 400


def test_empty_lines_before_a_request_are_skipped(target: Target) -> None:
    path = target.create(5)
    with target.connect() as connection:
        connection.send(b"\r\n" + patch_head(target, path, b"Content-Length: 5\r\n") + b"hello")
        assert connection.response().status == 204
    target.check_content(path, b"hello")


@pytest.mark.parametrize("shape", ["one value", "many fields", "name", "target", "method", "never ending"])
def test_head_of_2_MB_is_refused(target: Target, shape: str) -> None:
    check_huge_head(target, shape, 2_000_000)


@pytest.mark.parametrize("shape", ["one value", "many fields", "name", "target", "method", "never ending"])
def test_head_of_200_kB_is_refused(target: Target, shape: str) -> None:
    check_huge_head(target, shape, 200_000)


def check_huge_head(target: Target, shape: str, size: int) -> None:
    start, rest = (
        f"POST {target.base} HTTP/1.1\r\nHost: a\r\n".encode(),
        b"Tus-Resumable: 1.0.0\r\nUpload-Length: 5\r\n",
    )
    head = {
        "one value": start + b"X-Field: " + b"x" * size + b"\r\n" + rest + b"\r\n",
        "many fields": start + b"X-Field: 0123456789\r\n" * (size // 21) + rest + b"\r\n",
        "name": start + b"X" * size + b": 1\r\n" + rest + b"\r\n",
        "target": start.replace(b" HTTP", b"?" + b"x" * size + b" HTTP") + rest + b"\r\n",
        "method": b"X" * size + start + rest + b"\r\n",
        "never ending": start + b"X-Field: " + b"x" * size,
    }[shape]
    with target.connect() as connection:
        connection.try_to_send(head)
        if shape == "never ending":
            connection.stop_sending()
        answer = refusal(connection)
        assert answer is None or answer.status in (400, 405, 414, 431, 501), answer


@pytest.mark.needs("creation")
def test_metadata_of_200_kB_is_refused(target: Target) -> None:
    head = (
        f"POST {target.base} HTTP/1.1\r\nHost: a\r\nTus-Resumable: 1.0.0\r\nUpload-Length: 5\r\nContent-Length: 0\r\n"
    )
    with target.connect() as connection:
        connection.try_to_send(head.encode() + b"Upload-Metadata: a " + b"YWFh" * 50_000 + b"\r\n\r\n")
        answer = refusal(connection)
        assert answer is None or answer.status in (400, 413, 431), answer


def test_trailers_of_2_MB_are_refused(target: Target) -> None:
    path = target.create(10)
    with target.connect() as connection:
        connection.send(patch_head(target, path, b"Transfer-Encoding: chunked\r\n") + b"5\r\nhello\r\n0\r\n")
        connection.try_to_send(b"X-Field: 0123456789\r\n" * 100_000 + b"\r\n")
        answer = refusal(connection)
        assert answer is None or answer.status in (400, 413, 423, 431), answer
    target.check_resumable(path, b"helloworld", at_most=5)


def test_chunk_extension_of_2_MB_is_refused(target: Target) -> None:
    path = target.create(10)
    with target.connect() as connection:
        connection.send(patch_head(target, path, b"Transfer-Encoding: chunked\r\n") + b"5\r\nhello\r\n5;a=")
        connection.try_to_send(b"x" * 2_000_000 + b"\r\nworld\r\n0\r\n\r\n")
        answer = refusal(connection)
        assert answer is None or answer.status in (400, 413, 423, 431), answer
    target.check_resumable(path, b"helloworld", at_most=5)


def test_content_length_that_is_too_short_leaves_no_second_request(target: Target) -> None:
    path = target.create(10)
    with target.connect() as connection:
        connection.send(patch_head(target, path, b"Content-Length: 3\r\n") + b"helloworld\r\n\r\n")
        first = connection.response()
        assert first.status == 204
        assert first.header("Upload-Offset") == "3"
        answer = refusal(connection)
        assert answer is None or answer.status in (400, 405, 501), answer
    assert target.check_resumable(path, b"helloworld") == 3


def test_server_lives_on_after_all_that(target: Target) -> None:
    with target.connect() as connection:
        connection.send(bytes(range(256)) * 8 + b"\r\n\r\n")
        connection.reset()
    target.check_content(target.upload(b"hello"), b"hello")
