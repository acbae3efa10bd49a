"""Keep-alive, pipelining, early errors, Expect: 100-continue: what happens to a connection around a request."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from client import Chunks, ClosedByServerError, Connection, Fields
from target import OFFSET_TYPE, VERSION, Target, merged, noise

TUS = [("Tus-Resumable", VERSION)]

# How a PATCH that is right but for one thing goes wrong: its status, and the fields and the length that make it so.
EARLY_ERRORS: dict[int, Callable[[Target, str], tuple[str, Fields, int]]] = {
    400: lambda target, path: (path, target.patch_fields("x"), 5),
    404: lambda target, path: (target.unknown, target.patch_fields(0), 5),
    409: lambda target, path: (path, target.patch_fields(3), 2),
    412: lambda target, path: (path, target.patch_fields(0, [("Tus-Resumable", "0.2.2")]), 5),
    413: lambda target, path: (path, target.patch_fields(0), 500),
    415: lambda target, path: (path, target.patch_fields(0, [("Content-Type", "text/plain")]), 5),
}


def hidden_delete(target: Target, path: str) -> bytes:
    """A body that, taken for a request, would remove the upload."""
    return f"DELETE {path} HTTP/1.1\r\nHost: {target.authority}\r\nTus-Resumable: 1.0.0\r\n\r\n".encode()


def next_is_right_or_closed(
    target: Target, connection: Connection, path: str, says_close: bool, offset: int = 0
) -> None:
    """The next request is answered as what it is, or the server had said that there would be no next one."""
    if says_close:
        assert connection.is_closed_by_server()
        return
    connection.send_request("HEAD", path, TUS)
    answer = connection.response("HEAD")
    assert answer.status in (200, 204), answer
    assert answer.header("Upload-Offset") == str(offset)


def test_keep_alive_through_the_life_of_an_upload(target: Target) -> None:
    content = noise(200_000)
    with target.connect() as connection:
        answer = connection.request("POST", target.base, [*TUS, ("Upload-Length", "200000")], b"")
        path = target.path_of(answer.header("Location"))
        for offset in range(0, 200_000, 50_000):
            body = content[offset : offset + 50_000]
            assert connection.request("HEAD", path, TUS).header("Upload-Offset") == str(offset)
            assert connection.request("PATCH", path, target.patch_fields(offset), body).status == 204
        assert connection.request("OPTIONS", target.base).status in (200, 204)
        assert connection.request("HEAD", path, TUS).header("Upload-Offset") == "200000"
    target.check_content(path, content)


@pytest.mark.parametrize("status", EARLY_ERRORS)
@pytest.mark.parametrize("coding", ["length", "chunked"])
def test_early_error_with_a_sent_body_never_swallows_the_next_request(target: Target, status: int, coding: str) -> None:
    path = target.create(5)
    asked, fields, _ = EARLY_ERRORS[status](target, path)
    body = hidden_delete(target, path)
    with target.connect() as connection:
        answer = connection.request("PATCH", asked, fields, Chunks((body,)) if coding == "chunked" else body)
        assert answer.status == status, answer
        # No early error: only its body shows that a chunked PATCH is too long, and what fits is kept (K20).
        kept = body[:5] if (status, coding) == (413, "chunked") else b""
        next_is_right_or_closed(target, connection, path, answer.says_close, target.offset(path))
    target.check_resumable(path, kept or b"hello", at_most=len(kept))


@pytest.mark.parametrize("status", EARLY_ERRORS)
def test_early_error_does_not_wait_for_the_body(target: Target, status: int) -> None:
    path = target.create(5)
    asked, fields, _ = EARLY_ERRORS[status](target, path)
    length = "1000000" if status == 413 else "5"
    with target.connect() as connection:
        connection.send_request("PATCH", asked, merged([("Content-Length", length)], fields))
        assert connection.response().status == status
    target.check_resumable(path, b"hello", at_most=0)


@pytest.mark.parametrize("status", [404, 409, 412, 413, 415])
def test_early_error_is_readable_although_a_large_body_is_on_its_way(target: Target, status: int) -> None:
    path = target.create(5)
    asked, fields, _ = EARLY_ERRORS[status](target, path)
    with target.connect() as connection:
        connection.send_request("PATCH", asked, fields, noise(3_000_000))
        assert connection.response().status == status
    target.check_resumable(path, b"hello", at_most=0)


@pytest.mark.parametrize("method", ["HEAD", "GET", "DELETE", "OPTIONS"])
def test_body_of_a_request_that_has_none_is_skipped_or_ends_the_connection(target: Target, method: str) -> None:
    path = target.create(5)
    asked = target.unknown if method == "DELETE" else path
    with target.connect() as connection:
        answer = connection.request(method, asked, TUS, hidden_delete(target, path))
        next_is_right_or_closed(target, connection, path, answer.says_close)
    target.check_resumable(path, b"hello", at_most=0)


@pytest.mark.parametrize("path", ["unknown", "elsewhere"])
def test_keep_alive_after_errors_without_body(target: Target, path: str) -> None:
    upload = target.create(5)
    asked = target.unknown if path == "unknown" else "/elsewhere"
    with target.connect() as connection:
        answer = connection.request("HEAD", asked, TUS)
        assert answer.status in (404, 410) if path == "unknown" else answer.status >= 200
        next_is_right_or_closed(target, connection, upload, answer.says_close)


@pytest.mark.needs("checksum")
def test_keep_alive_after_460(target: Target) -> None:
    path = target.create(5)
    with target.connect() as connection:
        fields = target.patch_fields(0, [("Upload-Checksum", "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=")])
        answer = connection.request("PATCH", path, fields, b"XXXXX")
        assert answer.status == 460
        next_is_right_or_closed(target, connection, path, answer.says_close)
    target.check_resumable(path, b"hello", at_most=0)


def test_ignored_body_of_a_creation_is_not_the_next_request(target: Target) -> None:
    path = target.create(5)
    with target.connect() as connection:
        fields = [*TUS, ("Upload-Length", "5"), ("Content-Type", "text/plain")]
        answer = connection.request("POST", target.base, fields, hidden_delete(target, path))
        assert answer.status == 201
        next_is_right_or_closed(target, connection, path, answer.says_close)
    target.check_resumable(path, b"hello", at_most=0)


@pytest.mark.parametrize("body", [b"hello", Chunks((b"he", b"llo"))], ids=["length", "chunked"])
def test_pipelined_upload(target: Target, body: bytes | Chunks) -> None:
    path = target.create(10)
    with target.connect() as connection:
        connection.send_request("PATCH", path, target.patch_fields(0), body)
        connection.send_request("HEAD", path, TUS)
        connection.send_request("PATCH", path, target.patch_fields(5), b"world")
        connection.send_request("HEAD", path, TUS)
        assert connection.response().header("Upload-Offset") == "5"
        assert connection.response("HEAD").header("Upload-Offset") == "5"
        assert connection.response().header("Upload-Offset") == "10"
        assert connection.response("HEAD").header("Upload-Offset") == "10"
    target.check_content(path, b"helloworld")


def test_pipelined_creations(target: Target) -> None:
    with target.connect() as connection:
        for length in range(1, 21):
            connection.send_request("POST", target.base, [*TUS, ("Upload-Length", str(length))], b"")
        paths = [target.path_of(connection.response().header("Location")) for _ in range(20)]
    assert [target.head(path).header("Upload-Length") for path in paths] == [str(length) for length in range(1, 21)]


def test_pipelined_patches_of_large_bodies(target: Target) -> None:
    content = noise(900_000)
    path = target.create(len(content))
    with target.connect() as connection:
        for offset in range(0, len(content), 300_000):
            connection.send_request("PATCH", path, target.patch_fields(offset), content[offset : offset + 300_000])
        assert [connection.response().status for _ in range(3)] == [204] * 3
    target.check_content(path, content)


def test_pipelined_requests_behind_an_error(target: Target) -> None:
    path = target.create(5)
    with target.connect() as connection:
        connection.send_request("PATCH", path, target.patch_fields(3), b"lo")
        connection.send_request("HEAD", path, TUS)
        answer = connection.response()
        assert answer.status == 409
        if answer.says_close:
            assert connection.is_closed_by_server()
        else:
            assert connection.response("HEAD").header("Upload-Offset") == "0"


def test_connection_close_is_obeyed(target: Target) -> None:
    path = target.create(5)
    with target.connect() as connection:
        answer = connection.request("HEAD", path, [*TUS, ("Connection", "close")])
        assert answer.header("Upload-Offset") == "0"
        assert answer.says_close
        assert connection.is_closed_by_server()


def test_expect_100_of_a_good_patch(target: Target) -> None:
    path = target.create(5)
    with target.connect() as connection:
        fields = target.patch_fields(0, [("Expect", "100-continue")])
        connection.send_request("PATCH", path, fields, b"hello", only_head=True)
        assert connection.head().status == 100
        connection.send(b"hello")
        answer = connection.response()
        assert answer.status == 204
        assert not answer.interim
        assert connection.request("HEAD", path, TUS).header("Upload-Offset") == "5"
    target.check_content(path, b"hello")


def test_expect_100_of_a_chunked_patch(target: Target) -> None:
    path = target.create(5)
    with target.connect() as connection:
        fields = target.patch_fields(0, [("expect", "100-Continue")])
        connection.send_request("PATCH", path, fields, Chunks((b"hello",)), only_head=True)
        assert connection.head().status == 100
        connection.send(Chunks((b"hello",)).encode())
        assert connection.response().status == 204
    target.check_content(path, b"hello")


@pytest.mark.needs("creation-with-upload")
def test_expect_100_of_a_creation_with_upload(target: Target) -> None:
    with target.connect() as connection:
        fields = [*TUS, ("Upload-Length", "5"), ("Content-Type", OFFSET_TYPE), ("Expect", "100-continue")]
        connection.send_request("POST", target.base, fields, b"hello", only_head=True)
        assert connection.head().status == 100
        connection.send(b"hello")
        answer = connection.response()
    assert answer.status == 201
    target.check_content(target.path_of(answer.header("Location")), b"hello")


def test_expect_100_with_a_body_that_did_not_wait(target: Target) -> None:
    path = target.create(5)
    with target.connect() as connection:
        fields = target.patch_fields(0, [("Expect", "100-continue")])
        assert connection.request("PATCH", path, fields, b"hello").status == 204
        assert connection.request("HEAD", path, TUS).header("Upload-Offset") == "5"
    target.check_content(path, b"hello")


@pytest.mark.parametrize("status", EARLY_ERRORS)
def test_no_100_where_the_head_earns_an_error(target: Target, status: int) -> None:
    path = target.create(5)
    asked, fields, length = EARLY_ERRORS[status](target, path)
    with target.connect() as connection:
        fields = [*fields, ("Expect", "100-continue"), ("Content-Length", str(length))]
        connection.send_request("PATCH", asked, fields)
        answer = connection.response()
        assert answer.status == status
        assert not answer.interim
        # The body was not sent and will not be: what comes next is a request.
        next_is_right_or_closed(target, connection, path, answer.says_close)
    target.check_resumable(path, b"hello", at_most=0)


def test_no_100_for_http_1_0(target: Target) -> None:
    path = target.create(5)
    lines = "".join(f"{name}: {value}\r\n" for name, value in target.patch_fields(0))
    head = f"PATCH {path} HTTP/1.0\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n{lines}\r\n"
    with target.connect() as connection:
        connection.send(head.encode() + b"hello")
        answer = connection.response()
        assert answer.status == 204
        assert not answer.interim
    target.check_content(path, b"hello")


def test_unknown_expectation_is_417_or_ignored(target: Target) -> None:
    path = target.create(5)
    answer = target.patch(path, 0, b"hello", [("Expect", "the-unexpected")])
    assert answer.status in (204, 417)
    target.check_resumable(path, b"hello", at_most=5 if answer.status == 204 else 0)


def test_idle_connections_are_no_hindrance(target: Target) -> None:
    idle = []
    try:
        for _ in range(50):
            idle.append(target.connect())
            idle[-1].send(b"PATCH ")
        target.check_content(target.upload(b"hello"), b"hello")
    finally:
        for connection in idle:
            connection.close()


def test_client_that_closes_between_requests_does_no_harm(target: Target) -> None:
    path = target.create(5)
    with target.connect() as connection:
        connection.request("HEAD", path, TUS)
        connection.stop_sending()
        with pytest.raises((ClosedByServerError, TimeoutError)):
            connection.response()
    target.check_resumable(path, b"hello", at_most=0)
