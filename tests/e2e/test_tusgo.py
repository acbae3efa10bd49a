"""The Go module tusgo against the real server: the only client that sends checksums in trailers."""

from __future__ import annotations

from pathlib import Path

import pytest
from client_run import ClientRun
from compiled_client import Start, compiled_client
from cutting_proxy import CuttingProxy, How
from upload_server import UploadServer

FOLDER = Path(__file__).parent / "go"
MIB = 1 << 20
BREAK_BYTES = 3_300_000
NAME = {"filename": "Übung 日本語.bin"}


@pytest.fixture(scope="module")
def start() -> Start:
    return compiled_client(
        FOLDER,
        name="tusgo",
        fetch="go mod download github.com/bdragon300/tusgo",
        build="go build -mod=readonly -o build/upload .",
        program="build/upload",
    )


def finish(start: Start, *arguments: object) -> tuple[str, ClientRun]:
    with start(*arguments) as run:
        return run.finish(), run


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("checksum", [[], ["sha256"]], ids=["plain", "checksum"])
def test_F10_cut_upload_goes_on(
    start: Start, server: UploadServer, proxy: CuttingProxy, source: Path, content: bytes, how: How, checksum: list[str]
) -> None:
    proxy.break_after(BREAK_BYTES, how=how)
    url, _ = finish(start, "create", proxy.through(server.url), source)
    _, run = finish(start, "resume", url, source, MIB, *checksum)
    assert proxy.broken == 1
    assert len(run.of("cut")) == 1
    after_cut = run.answers.index(("HEAD", 200), 2)
    assert run.answers[after_cut - 1] == ("PATCH", 204)
    found = run.of("answer")[after_cut]["offset"]
    assert (found % MIB == 0) == bool(checksum)  # of a chunk with a checksum all counts, or nothing
    assert BREAK_BYTES - MIB < found < BREAK_BYTES
    run.check_offsets()
    assert server.metadata(url) == NAME
    server.check_content(url, content)


def test_a_new_process_goes_on(
    start: Start, server: UploadServer, proxy: CuttingProxy, source: Path, content: bytes
) -> None:
    proxy.break_after(BREAK_BYTES, how="stall")
    url, _ = finish(start, "create", proxy.through(server.url), source)
    with start("resume", url, source, 8 * MIB):
        proxy.wait_for_stall()
    finish(start, "resume", url, source, 8 * MIB)
    server.check_content(url, content)


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "md5", "crc32"])
def test_S7_checksum_in_a_trailer(
    start: Start, server: UploadServer, source: Path, content: bytes, algorithm: str
) -> None:
    url, _ = finish(start, "create", server.url, source)
    _, run = finish(start, "resume", url, source, 0, algorithm)
    assert run.answers.count(("PATCH", 204)) == 1
    server.check_content(url, content)


def test_length_declared_later(start: Start, server: UploadServer, source: Path, content: bytes) -> None:
    url, _ = finish(start, "deferred", server.url)
    assert server.head(url).headers["Upload-Defer-Length"] == "1"
    finish(start, "resume", url, source, 2 * MIB)
    server.check_content(url, content)


def test_data_in_the_creation(start: Start, server: UploadServer, source: Path, content: bytes) -> None:
    url, run = finish(start, "with-data", server.url, source)
    assert run.answers == [("OPTIONS", 204), ("POST", 201)]
    assert server.metadata(url) == NAME
    server.check_content(url, content)


def test_parts_joined(start: Start, server: UploadServer, source: Path, content: bytes) -> None:
    url, run = finish(start, "join", server.url, source)
    assert run.answers.count(("POST", 201)) == 3
    assert server.metadata(url) == NAME
    server.check_content(url, content)


def test_termination(start: Start, server: UploadServer, source: Path) -> None:
    url, _ = finish(start, "create", server.url, source)
    _, run = finish(start, "delete", url)
    assert run.answers == [("DELETE", 204)]
    assert server.is_gone(url)


def test_too_large_file_is_refused(start: Start, source: Path, tmp_path: Path) -> None:
    with UploadServer(tmp_path / "small", "--max-size", "1MiB") as small:
        with start("create", small.url, source) as run:
            run.wait_for("error")
        assert run.answers == [("OPTIONS", 204), ("POST", 413)]
        assert not list(small.directory.glob("*.info"))
