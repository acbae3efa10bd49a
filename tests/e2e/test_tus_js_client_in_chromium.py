"""tus-js-client of its newest and its previous major version in Chromium, on a page of an origin of its own."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest
from chromium_client import Chromium, PageRun
from cutting_proxy import CuttingProxy
from node_client import Release
from upload_server import UploadServer

MIB = 1 << 20
BREAK_BYTES = 3_300_000
AT_ONCE = [0] * 20
PATIENTLY = [50] * 200
NAME = "Übung 日本語.bin"

OpenPage = Callable[..., AbstractContextManager[PageRun]]


@pytest.fixture
def open_page(chromium: Chromium, release: Release) -> OpenPage:
    return partial(chromium.open, f"{release}/tus.html")


@pytest.fixture
def source(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / NAME
    path.write_bytes(content)
    return path


def test_F10_cut_upload_goes_on(open_page: OpenPage, server: UploadServer, proxy: CuttingProxy, tmp_path: Path) -> None:
    content = random.Random(20).randbytes(20 * MIB + 12_345)
    source = tmp_path / NAME
    source.write_bytes(content)
    for how in ("close", "reset"):
        proxy.break_after(2 * MIB + 1_000_000, how=how)
    options = {"endpoint": proxy.through(server.url), "chunkSize": 4 * MIB, "retryDelays": AT_ONCE}
    with open_page(options=options) as run:
        choose(run, source)
        url = run.finish()
    assert proxy.broken == 2
    run.check_offsets()
    offsets = [each["offset"] for each in run.of("answer") if each["method"] == "HEAD"]
    assert offsets
    assert all(offset % (4 * MIB) for offset in offsets), "what came before a cut is kept"
    # When a connection dies that it used before, Chromium itself repeats the PATCH. Then 409 tells the client to look.
    assert set(run.answers[1:]) <= {("HEAD", 200), ("PATCH", 204), ("PATCH", 409)}
    assert run.answers[0] == ("POST", 201)
    assert proxy.sent_bytes < len(content) + 2 * 4 * MIB, "more was sent again than those"
    assert server.metadata(url) == {"filename": NAME, "filetype": "application/octet-stream"}
    server.check_content(url, content)


def test_page_that_CORS_does_not_allow_can_create_nothing(open_page: OpenPage, source: Path, tmp_path: Path) -> None:
    with UploadServer(tmp_path / "strict", "--disable-cors") as strict:
        with open_page(options={"endpoint": strict.url, "retryDelays": []}) as run:
            choose(run, source)
            run.wait_for("error")
        assert not run.answers
        assert not list(strict.directory.glob("*.info")), "the preflight should have stopped it"


def test_paused_upload_goes_on(
    open_page: OpenPage, server: UploadServer, proxy: CuttingProxy, source: Path, content: bytes
) -> None:
    proxy.break_after(BREAK_BYTES, how="stall")
    with open_page(options={"endpoint": proxy.through(server.url)}) as run:
        choose(run, source)
        proxy.wait_for_stall()
        run.page.click("#pause")
        run.wait_for("paused")
        # The server still has the connection that hangs, and half a PATCH.
        run.page.click("#resume")
        url = run.finish()
    assert run.answers == [("POST", 201), ("HEAD", 200), ("PATCH", 204)]
    assert run.of("answer")[1]["offset"] > BREAK_BYTES - 10_000
    server.check_content(url, content)
    proxy.release()
    server.check_content(url, content)


def test_offline_browser_gives_up_at_once_and_can_go_on(
    open_page: OpenPage, server: UploadServer, proxy: CuttingProxy, source: Path, content: bytes
) -> None:
    proxy.break_after(BREAK_BYTES, how="stall")
    with open_page(options={"endpoint": proxy.through(server.url), "retryDelays": AT_ONCE}) as run:
        choose(run, source)
        proxy.wait_for_stall()
        run.page.context.set_offline(True)
        proxy.is_refusing = True
        proxy.cut()
        run.wait_for("error")
        run.page.evaluate("window.events.length = 0")
        proxy.is_refusing = False
        run.page.context.set_offline(False)
        run.page.click("#resume")
        url = run.finish()
    assert run.answers == [("HEAD", 200), ("PATCH", 204)]
    assert run.of("answer")[0]["offset"] > BREAK_BYTES - 10_000
    server.check_content(url, content)


def test_F1_server_killed_in_the_middle(
    open_page: OpenPage, server: UploadServer, proxy: CuttingProxy, source: Path, content: bytes
) -> None:
    proxy.break_after(BREAK_BYTES, how="stall")
    with open_page(options={"endpoint": proxy.through(server.url), "retryDelays": PATIENTLY}) as run:
        choose(run, source)
        proxy.wait_for_stall()
        server.kill()
        proxy.cut()
        server.start()
        url = run.finish()
    run.check_offsets()
    assert run.answers.count(("POST", 201)) == 1
    server.check_content(url, content)


@pytest.mark.parametrize("parallel", [1, 3])
def test_upload_goes_on_after_the_page_was_loaded_again(
    open_page: OpenPage, server: UploadServer, proxy: CuttingProxy, source: Path, content: bytes, parallel: int
) -> None:
    proxy.break_after(MIB, how="stall", times=parallel)
    options = {"endpoint": proxy.through(server.url), "parallelUploads": parallel}
    with open_page(options=options) as run:
        choose(run, source)
        for _ in range(parallel):
            proxy.wait_for_stall()
        run.page.reload()
        choose(run, source)
        url = run.finish()
    assert run.of("found") == [{"event": "found", "uploads": 1}]
    assert run.answers.count(("HEAD", 200)) == parallel
    assert run.answers.count(("POST", 201)) == (0 if parallel == 1 else 1), "only the final upload is new"
    server.check_content(url, content)


def test_F26_terminated_in_the_middle(
    open_page: OpenPage, server: UploadServer, proxy: CuttingProxy, source: Path
) -> None:
    proxy.break_after(BREAK_BYTES, how="stall")
    with open_page(options={"endpoint": proxy.through(server.url)}) as run:
        choose(run, source)
        proxy.wait_for_stall()
        run.page.click("#terminate")
        run.wait_for("terminated")
    assert run.answers == [("POST", 201), ("DELETE", 204)]
    url = run.of("url")[0]["url"]
    assert server.is_gone(url)
    proxy.release()
    assert server.is_gone(url)


def test_too_large_file_is_refused_in_words(open_page: OpenPage, source: Path, tmp_path: Path) -> None:
    with UploadServer(tmp_path / "small", "--max-size", "1MiB") as small:
        with open_page(options={"endpoint": small.url, "retryDelays": AT_ONCE}) as run:
            choose(run, source)
            run.wait_for("error")
        assert run.answers == [("POST", 413)], "what cannot succeed is not tried again"
        assert "ERR_MAX_SIZE_EXCEEDED" in run.of("error")[0]["message"]
        assert not list(small.directory.glob("*.info"))


def test_N3_parallel_parts_over_cuts(
    open_page: OpenPage, server: UploadServer, proxy: CuttingProxy, source: Path, content: bytes
) -> None:
    proxy.break_after(700_000, times=4)
    options = {"endpoint": proxy.through(server.url), "parallelUploads": 4, "retryDelays": AT_ONCE}
    with open_page(options=options) as run:
        choose(run, source)
        url = run.finish()
    assert proxy.broken == 4
    run.check_offsets()
    assert run.answers.count(("POST", 201)) == 5
    assert server.metadata(url)["filename"] == NAME
    server.check_content(url, content)


@pytest.mark.parametrize("chunk_bytes", [None, MIB])
def test_W3_data_in_the_creation(
    open_page: OpenPage, server: UploadServer, source: Path, content: bytes, chunk_bytes: int | None
) -> None:
    options = {"endpoint": server.url, "uploadDataDuringCreation": True, "chunkSize": chunk_bytes or 1 << 40}
    with open_page(options=options) as run:
        choose(run, source)
        url = run.finish()
    assert run.answers == [("POST", 201)] + ([("PATCH", 204)] * 8 if chunk_bytes else [])
    server.check_content(url, content)


@pytest.mark.parametrize("cuts", [0, 2])
def test_F15_stream_of_unknown_length(
    open_page: OpenPage, server: UploadServer, proxy: CuttingProxy, source: Path, content: bytes, cuts: int
) -> None:
    proxy.break_after(700_000, times=cuts)
    options = {
        "endpoint": proxy.through(server.url),
        "uploadLengthDeferred": True,
        "chunkSize": MIB,
        "retryDelays": AT_ONCE,
    }
    with open_page(options=options, asStream=True) as run:
        choose(run, source)
        url = run.finish()
    assert proxy.broken == cuts
    assert run.answers.count(("POST", 201)) == 1
    server.check_content(url, content)


def test_S4_wrong_checksum_counts_nothing_and_right_ones_count(
    open_page: OpenPage, server: UploadServer, source: Path, content: bytes
) -> None:
    with open_page(options={"endpoint": server.url, "chunkSize": 4 * MIB}, checksums=True) as run:
        run.page.evaluate("window.isChecksumWrong = true")
        choose(run, source)
        run.wait_for("error")
        assert run.answers == [("POST", 201), ("PATCH", 460)]
        assert "ERR_CHECKSUM_MISMATCH" in run.of("error")[0]["message"]
        url = run.of("url")[0]["url"]
        assert server.offset(url) == 0
        run.page.evaluate("window.isChecksumWrong = false; window.events.length = 0")
        run.page.click("#resume")
        assert run.finish() == url
    assert run.answers == [("HEAD", 200)] + [("PATCH", 204)] * 3
    server.check_content(url, content)


def choose(run: PageRun, source: Path) -> None:
    run.page.set_input_files("#file", source)
