"""tus-java-client against the real server: over cuts, and in a new process."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
from client_run import ClientRun
from cutting_proxy import CuttingProxy, How
from upload_server import UploadServer

FOLDER = Path(__file__).parent / "java"
MIB = 1 << 20
BREAK_BYTES = 3_300_000
NAME = "Übung 日本語.bin"

Start = Callable[..., ClientRun]


@pytest.fixture(scope="module")
def start(java: list[str]) -> Start:
    """Starts a client: endpoint, file, bytes of a request, retries and, if it exists, the upload's URL."""
    return partial(start_client, [*java, str(FOLDER / "Upload.java")])


def start_client(command: list[str], *arguments: object) -> ClientRun:
    return ClientRun([*command, *map(str, arguments)])


@pytest.mark.parametrize("request_bytes", [1 << 30, 4 * MIB])
@pytest.mark.parametrize("how", ["close", "reset"])
def test_F10_cut_upload_goes_on(
    start: Start,
    server: UploadServer,
    proxy: CuttingProxy,
    source: Path,
    content: bytes,
    how: How,
    request_bytes: int,
) -> None:
    proxy.break_after(BREAK_BYTES, times=2, how=how)
    with start(proxy.through(server.url), source, request_bytes, 20) as run:
        url = run.finish()
    assert proxy.broken == 2
    assert {each["url"] for each in run.of("attempt")} == {url}
    offsets = [each["offset"] for each in run.of("attempt")]
    assert offsets[0] == 0
    assert all(after - before > BREAK_BYTES - 10_000 for before, after in pairwise(offsets)), "what was sent is kept"
    assert server.metadata(url) == {"filename": NAME}
    server.check_content(url, content)


def test_F20_upload_goes_on_in_a_new_process(
    start: Start, server: UploadServer, proxy: CuttingProxy, source: Path, content: bytes
) -> None:
    proxy.break_after(BREAK_BYTES, how="stall")
    with start(proxy.through(server.url), source, 1 << 30, 0) as killed:
        url = killed.wait_for("attempt")["url"]
        proxy.wait_for_stall()
    with start(server.url, source, 1 << 30, 0, server.direct(url)) as run:
        assert run.wait_for("attempt")["offset"] > BREAK_BYTES - 10_000
        run.finish()
    server.check_content(url, content)
    proxy.release()
    server.check_content(url, content)


def test_too_large_file_is_refused(start: Start, source: Path, tmp_path: Path) -> None:
    with UploadServer(tmp_path / "small", "--max-size", "1MiB") as small:
        with start(small.url, source, 1 << 30, 5) as run:
            refused = run.wait_for("error")
        assert refused["status"] == 413
        assert not list(small.directory.glob("*.info"))
