"""The Rust crate tus_client against the real server: over cuts, each time in a new process, for it retries nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from compiled_client import Start, compiled_client
from cutting_proxy import CuttingProxy, How
from upload_server import UploadServer

FOLDER = Path(__file__).parent / "rust"
MIB = 1 << 20
BREAK_BYTES = 3_300_000
NAME = "Übung 日本語.bin"


@pytest.fixture(scope="module")
def start() -> Start:
    return compiled_client(
        FOLDER,
        name="tus_client",
        fetch="cargo fetch -q --locked",
        build="cargo build -q --locked --offline --target-dir build",
        program="build/debug/upload",
    )


@pytest.mark.parametrize("how", ["close", "reset"])
def test_F10_cut_upload_goes_on(
    start: Start, server: UploadServer, proxy: CuttingProxy, source: Path, content: bytes, how: How
) -> None:
    proxy.break_after(BREAK_BYTES, how=how)
    with start("create", proxy.through(server.url), source) as creation:
        url = creation.finish()
    with start("resume", url, source, 4 * MIB) as cut:
        cut.wait_for("error")
    assert cut.answers == [("HEAD", 200), ("HEAD", 200)]
    with start("resume", url, source, 4 * MIB) as run:
        run.finish()
    assert proxy.broken == 1
    assert run.of("found")[0]["offset"] > BREAK_BYTES - 10_000
    assert run.answers == [("HEAD", 200), ("HEAD", 200), ("PATCH", 204), ("PATCH", 204)]
    assert server.metadata(url) == {"filename": NAME}
    server.check_content(url, content)


def test_termination(start: Start, server: UploadServer, source: Path) -> None:
    with start("create", server.url, source) as creation:
        url = creation.finish()
    with start("delete", url) as run:
        run.finish()
    assert run.answers == [("DELETE", 204)]
    assert server.is_gone(url)


def test_too_large_file_is_refused(start: Start, source: Path, tmp_path: Path) -> None:
    with UploadServer(tmp_path / "small", "--max-size", "1MiB") as small:
        with start("create", small.url, source) as run:
            refused = run.wait_for("error")
        assert run.answers == [("POST", 413)]
        assert "larger" in refused["message"]
        assert not list(small.directory.glob("*.info"))
