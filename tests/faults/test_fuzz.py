"""Whatever is sent, well formed or not: no 5xx, nothing stored but what a 201 says, and the next client is served."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from faultserver import Server
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

UPLOAD = "UPLOAD"  # stands for the path of a real, unfinished upload
CONTENT = b"0123456789"

ARABIC_FIVE = "\u0665"
METHODS = st.sampled_from(
    ["POST", "PATCH", "HEAD", "GET", "DELETE", "OPTIONS", "PUT", "TRACE", "patch"] + ["", "P ST", "\x00"],  # noqa: RUF005
)
PATHS = st.sampled_from([
    "/files/", "/files", UPLOAD, UPLOAD + "/", "/files/../x", "/files/%2e%2e/x", "/files/%00", "/files/a%2fb", "/", "*",
    "/files/" + "a" * 10_000, "/files/" + ARABIC_FIVE, "/files/x.info", "/files/.tusd-py", "//files/",
    "http://h/files/", "",
])  # fmt: skip
TUS_NAMES = st.sampled_from([
    "Tus-Resumable", "Upload-Length", "Upload-Offset", "Upload-Defer-Length", "Upload-Metadata", "Upload-Concat",
    "Upload-Checksum", "X-HTTP-Method-Override", "Content-Type", "Content-Length", "Transfer-Encoding", "Trailer",
    "Expect", "Host", "Range", "If-Range", "Origin", "Connection", "Accept", "Forwarded", "X-Forwarded-Host",
])  # fmt: skip
VALUES = st.one_of(
    st.sampled_from([
        "1.0.0", "0", "5", "10", "+5", "5_0", " 5", "-1", "9223372036854775807", "9223372036854775808", ARABIC_FIVE,
        "1", "9" * 5000, "a YQ==", "a", "a YQ=", ",", "a YQ==,a YQ==", "partial", "final;",
        "final;/files/x /files/../y", "final;" + "/files/a " * 999, "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=", "sha1 x",
        "md4 YQ==", "application/offset+octet-stream", "chunked", "gzip, chunked", "upload-checksum", "100-continue",
        "PATCH", "DELETE", "bytes=0-4", "bytes=5-1,-", "close", "application/json", "http://evil.example",
        "host=a b;proto=gopher", "x" * 70_000, "",
    ]),
    st.text(st.characters(max_codepoint=0x2FF), max_size=30),
)  # fmt: skip
BODIES = st.one_of(
    st.just(b""),
    st.just(CONTENT),
    st.sampled_from(
        [b"5\r\nhello\r\n0\r\n\r\n", b"5\r\nhel", b"g\r\n", b"-5\r\nhello", b"0\r\nUpload-Checksum: sha1 x\r\n\r\n"]
    ),
    st.binary(max_size=200),
)
REQUESTS = st.tuples(METHODS, PATHS, st.lists(st.tuples(TUS_NAMES, VALUES), max_size=8), BODIES)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("fuzz")
    made = Server(folder / "data", folder / "log", ("--durability", "process", "--max-size", "1MiB"))
    made.start()
    yield made
    made.end()


def talk(server: Server, request: bytes) -> bytes:
    """Everything the server answers until it closes or we have closed our side."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        answer = b""
        try:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(65_536):
                answer += piece
        except ConnectionError:
            pass  # a refused request may end in a reset; what was said before counts
        return answer


def ask(server: Server, method: str, path: str, *lines: str, body: bytes = b"") -> bytes:
    head = "\r\n".join(
        [f"{method} {path} HTTP/1.1", "Host: x", "Tus-Resumable: 1.0.0", "Connection: close", *lines, "", ""]
    )
    return talk(server, head.encode() + body)


def stored(directory: Path) -> set[str]:
    return {each.name for each in directory.iterdir() if each.name.endswith(".info")}


def new_upload(server: Server) -> str:
    found = re.search(rb"location: http://[^/]*(\S+)", ask(server, "POST", "/files/", "Upload-Length: 10"))
    assert found is not None
    return found[1].decode()


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(request_=REQUESTS)
@example(
    ("PATCH", UPLOAD, [("Tus-Resumable", "1.0.0"), ("Content-Length", "10"), ("Transfer-Encoding", "chunked")], CONTENT)
)
@example(request_=("POST", "/files/", [("Tus-Resumable", "1.0.0"), ("Upload-Length", "9223372036854775808")], b""))
@example(request_=("GET", UPLOAD, [("Range", "bytes=" + "9" * 5000 + "-")], b""))
def test_no_request_hurts(server: Server, request_: tuple[str, str, list[tuple[str, str]], bytes]) -> None:
    method, path, fields, body = request_
    upload = new_upload(server)
    before = stored(server.directory)
    lines = [
        f"{method} {path.replace(UPLOAD, upload)} HTTP/1.1",
        "Host: x",
        *(f"{name}: {value}" for name, value in fields),
    ]
    answer = talk(server, "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogatepass") + body)
    statuses = [int(status) for status in re.findall(rb"(?:^|\r\n\r\n)HTTP/1\.1 (\d\d\d)", answer)]
    assert all(100 <= status < 500 for status in statuses), answer
    assert b"Traceback" not in answer
    created = stored(server.directory) - before
    assert len(created) <= statuses.count(201), answer
    head = ask(server, "HEAD", upload)
    was_removed = statuses.count(204) and head.startswith(b"HTTP/1.1 404")
    assert was_removed or head.startswith(b"HTTP/1.1 200"), head
    if not was_removed:
        offset = int(re.search(rb"upload-offset: (\d+)", head)[1])
        rest = CONTENT[offset:]
        done = ask(
            server,
            "PATCH",
            upload,
            f"Upload-Offset: {offset}",
            "Content-Type: application/offset+octet-stream",
            f"Content-Length: {len(rest)}",
            body=rest,
        )
        length = re.search(rb"upload-length: (\d+)", head)
        assert length is not None
        assert done.startswith(b"HTTP/1.1 204"), done


def test_the_log_of_all_that_has_no_traceback(server: Server) -> None:
    assert "Traceback" not in server.log
