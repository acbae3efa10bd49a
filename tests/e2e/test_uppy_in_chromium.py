"""Uppy's Dashboard of its newest and its previous major version in Chromium, used as a person uses it.

Its pictures are kept in `build/screenshots`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from chromium_client import Chromium, PageRun
from cutting_proxy import CuttingProxy
from node_client import Release
from upload_server import ROOT, UploadServer

MIB = 1 << 20
BREAK_BYTES = 3_300_000
AT_ONCE = [0] * 20
PATIENTLY = [50] * 200

OpenDashboard = Callable[..., AbstractContextManager[PageRun]]


@pytest.fixture
def open_dashboard(chromium: Chromium, release: Release) -> OpenDashboard:
    """With files chosen and, if all goes well, a picture at its end."""

    @contextmanager
    def opened(*files: Path, picture: str, **options: Any) -> Iterator[PageRun]:
        with chromium.open(f"{release}/uppy.html", options=options) as run:
            choose(run, *files)
            press(run, f"Upload {len(files)} file{'s' * (len(files) > 1)}")
            yield run
            run.page.screenshot(path=ROOT / "build" / "screenshots" / f"uppy-{release}-{picture}.png")

    return opened


def test_F10_cut_uploads_go_on(
    open_dashboard: OpenDashboard, server: UploadServer, proxy: CuttingProxy, tmp_path: Path
) -> None:
    contents = {"Übung 日本語.bin": random.Random(20).randbytes(20 * MIB + 12_345), "b.csv": b"a,b\n", "leer.txt": b""}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    proxy.break_after(2 * MIB + 1_000_000, times=2)
    options = {"endpoint": proxy.through(server.url), "chunkSize": 4 * MIB, "retryDelays": AT_ONCE}
    with open_dashboard(*(tmp_path / name for name in contents), picture="complete", **options) as run:
        run.wait_for("complete")
        run.page.get_by_text("Complete", exact=True).wait_for()
    assert proxy.broken == 2
    run.check_offsets()
    offsets = [each["offset"] for each in run.of("answer") if each["method"] == "HEAD"]
    assert offsets
    assert all(offset % (4 * MIB) for offset in offsets), "what came before a cut is kept"
    urls = {each["name"]: each["url"] for each in run.of("success")}
    types = {"Übung 日本語.bin": "application/octet-stream", "b.csv": "text/csv", "leer.txt": "text/plain"}
    for name, content in contents.items():
        metadata = server.metadata(urls[name])
        assert (metadata["filename"], metadata["filetype"], metadata["team"]) == (name, types[name], "Straße 7")
        server.check_content(urls[name], content)


def test_paused_upload_goes_on(
    open_dashboard: OpenDashboard, server: UploadServer, proxy: CuttingProxy, source: Path, content: bytes
) -> None:
    proxy.break_after(BREAK_BYTES, how="stall")
    with open_dashboard(source, picture="resumed", endpoint=proxy.through(server.url)) as run:
        proxy.wait_for_stall()
        press(run, "Pause")
        run.page.get_by_text("Paused", exact=True).wait_for()
        # The server still has the connection that hangs, and half a PATCH.
        press(run, "Resume")
        url = run.finish()
    assert run.answers == [("POST", 201), ("HEAD", 200), ("PATCH", 204)]
    assert run.of("answer")[1]["offset"] > BREAK_BYTES - 10_000
    server.check_content(url, content)


def test_offline_upload_goes_on_by_itself_once_online(
    open_dashboard: OpenDashboard, server: UploadServer, proxy: CuttingProxy, source: Path, content: bytes
) -> None:
    proxy.break_after(BREAK_BYTES, how="stall")
    with open_dashboard(source, picture="online", endpoint=proxy.through(server.url), retryDelays=AT_ONCE) as run:
        proxy.wait_for_stall()
        run.page.context.set_offline(True)
        proxy.is_refusing = True
        proxy.cut()
        run.page.get_by_text("No Internet connection").first.wait_for()
        proxy.is_refusing = False
        run.page.context.set_offline(False)
        url = run.finish()
    assert run.answers == [("POST", 201), ("HEAD", 200), ("PATCH", 204)]
    server.check_content(url, content)


def test_F1_server_killed_in_the_middle(
    open_dashboard: OpenDashboard, server: UploadServer, proxy: CuttingProxy, source: Path, content: bytes
) -> None:
    proxy.break_after(BREAK_BYTES, how="stall")
    with open_dashboard(source, picture="killed", endpoint=proxy.through(server.url), retryDelays=PATIENTLY) as run:
        proxy.wait_for_stall()
        server.kill()
        proxy.cut()
        server.start()
        url = run.finish()
    run.check_offsets()
    assert run.answers.count(("POST", 201)) == 1
    server.check_content(url, content)


def test_upload_goes_on_after_the_page_was_loaded_again(
    open_dashboard: OpenDashboard, server: UploadServer, proxy: CuttingProxy, source: Path, content: bytes
) -> None:
    proxy.break_after(BREAK_BYTES, how="stall")
    with open_dashboard(source, picture="reloaded", endpoint=proxy.through(server.url)) as run:
        proxy.wait_for_stall()
        run.page.reload()
        choose(run, source)
        press(run, "Upload 1 file")
        url = run.finish()
    assert run.answers == [("HEAD", 200), ("PATCH", 204)]
    server.check_content(url, content)


def test_cancelled_upload_is_removed_from_the_server(
    open_dashboard: OpenDashboard, server: UploadServer, proxy: CuttingProxy, source: Path
) -> None:
    proxy.break_after(BREAK_BYTES, how="stall")
    with open_dashboard(source, picture="cancelled", endpoint=proxy.through(server.url)) as run:
        proxy.wait_for_stall()
        run.page.locator(".uppy-StatusBar").get_by_role("button", name="Cancel").click()
        run.wait_for("answer", count=2)
    assert run.answers == [("POST", 201), ("DELETE", 204)]
    (patched,) = {each["url"] for each in run.of("answer") if each["method"] == "DELETE"}
    assert server.is_gone(patched)


def test_too_large_file_is_refused_in_words(open_dashboard: OpenDashboard, source: Path, tmp_path: Path) -> None:
    with UploadServer(tmp_path / "small", "--max-size", "1MiB") as small:
        with open_dashboard(source, picture="too-large", endpoint=small.url) as run:
            run.wait_for("error")
            run.page.get_by_text("Upload failed").wait_for()
            with run.page.expect_event("dialog") as dialog:
                run.page.once("dialog", lambda each: each.accept())
                run.page.locator(".uppy-StatusBar-details").click()
        assert run.answers == [("POST", 413)]
        assert "ERR_MAX_SIZE_EXCEEDED: longer than the 1048576 bytes allowed here" in dialog.value.message
        assert not list(small.directory.glob("*.info"))


@pytest.mark.parametrize(
    ("options", "answers"),
    [
        ({"uploadDataDuringCreation": True}, [("POST", 201)]),
        ({"parallelUploads": 3}, [("PATCH", 204)] * 3 + [("POST", 201)] * 4),
    ],
    ids=["data in the creation", "parallel parts"],
)
def test_options_of_tus_js_client(
    open_dashboard: OpenDashboard,
    server: UploadServer,
    source: Path,
    content: bytes,
    options: dict[str, Any],
    answers: list[tuple[str, int]],
) -> None:
    with open_dashboard(source, picture="options", endpoint=server.url, **options) as run:
        url = run.finish()
    assert sorted(run.answers) == answers
    server.check_content(url, content)


def choose(run: PageRun, *files: Path) -> None:
    run.page.set_input_files(".uppy-Dashboard-input >> nth=0", files)


def press(run: PageRun, button: str) -> None:
    run.page.get_by_role("button", name=button, exact=True).click()
