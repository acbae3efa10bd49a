"""tus-js-client on Node, and Uppy on top of it, against the real server, a bad network and a server that dies.

Each test runs with the newest and with the previous major version.
"""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path

import pytest
from client_run import ClientRun
from cutting_proxy import CuttingProxy
from node_client import NodeClient
from upload_server import UploadServer

CHUNK_BYTES = 1 << 20
BREAK_BYTES = 3_300_000
AT_ONCE = [0] * 20
PATIENTLY = [50] * 200


def test_upload(node: NodeClient, server: UploadServer, source: Path, content: bytes) -> None:
    run = node.upload(endpoint=server.url, file=str(source))
    assert run.answers == [("POST", 201), ("PATCH", 204)]
    progress = [each["sent"] for each in run.of("progress")]
    assert all(before <= after for before, after in pairwise(progress))
    assert (progress[0], progress[-1]) == (0, len(content))
    server.check_content(run.url, content)


def test_chunks(node: NodeClient, server: UploadServer, source: Path, content: bytes) -> None:
    run = node.upload(endpoint=server.url, file=str(source), options={"chunkSize": CHUNK_BYTES})
    assert run.answers == [("POST", 201)] + [("PATCH", 204)] * 9
    assert [each["offset"] for each in run.of("chunk")] == [
        *range(CHUNK_BYTES, len(content), CHUNK_BYTES),
        len(content),
    ]
    progress = [each["sent"] for each in run.of("progress")]
    assert all(before <= after for before, after in pairwise(progress))
    server.check_content(run.url, content)


def test_C7_empty_file(node: NodeClient, server: UploadServer, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    run = node.upload(endpoint=server.url, file=str(empty))
    assert run.answers == [("POST", 201)]
    server.check_content(run.url, b"")


def test_C9_metadata_of_other_alphabets_comes_back(
    node: NodeClient, server: UploadServer, source: Path, content: bytes
) -> None:
    metadata = {"filename": "Übung 日本語 🐍.csv", "owner": "Ольга", "empty": ""}
    run = node.upload(endpoint=server.url, file=str(source), options={"metadata": metadata})
    assert server.metadata(run.url) == metadata
    server.check_content(run.url, content)


@pytest.mark.parametrize("chunk_bytes", [None, CHUNK_BYTES])
def test_W3_data_in_the_creation(
    node: NodeClient, server: UploadServer, source: Path, content: bytes, chunk_bytes: int | None
) -> None:
    options = {"uploadDataDuringCreation": True} | ({} if chunk_bytes is None else {"chunkSize": chunk_bytes})
    run = node.upload(endpoint=server.url, file=str(source), options=options)
    assert run.answers == [("POST", 201)] + ([] if chunk_bytes is None else [("PATCH", 204)] * 8)
    assert run.of("answer")[0]["offset"] == (chunk_bytes or len(content))
    server.check_content(run.url, content)


def test_K7_method_override(node: NodeClient, server: UploadServer, source: Path, content: bytes) -> None:
    options = {"overridePatchMethod": True, "chunkSize": 4 << 20}
    run = node.upload(endpoint=server.url, file=str(source), options=options)
    assert run.answers == [("POST", 201)] + [("POST", 204)] * 3
    server.check_content(run.url, content)


@pytest.mark.parametrize("cuts", [0, 2])
def test_F15_stream_of_unknown_length(
    node: NodeClient, server: UploadServer, proxy: CuttingProxy, source: Path, content: bytes, cuts: int
) -> None:
    # A stream that ends exactly with a chunk makes this client wait for ever, whatever the server.
    assert len(content) % CHUNK_BYTES
    options = {"uploadLengthDeferred": True, "chunkSize": CHUNK_BYTES, "retryDelays": AT_ONCE}
    proxy.break_after(BREAK_BYTES, times=cuts)
    run = node.upload(endpoint=proxy.through(server.url), file=str(source), asStream=True, options=options)
    assert proxy.broken == cuts
    assert run.answers.count(("POST", 201)) == 1
    server.check_content(run.url, content)


def test_F10_retries_keep_what_was_sent(
    node: NodeClient, server: UploadServer, proxy: CuttingProxy, source: Path, content: bytes
) -> None:
    for how in ("close", "reset", "close"):
        proxy.break_after(2_000_000, how=how)
    run = node.upload(endpoint=proxy.through(server.url), file=str(source), options={"retryDelays": AT_ONCE})
    assert proxy.broken == 3
    assert run.answers == [("POST", 201)] + [("HEAD", 200)] * 3 + [("PATCH", 204)]
    # Nothing was sent twice.
    assert proxy.sent_bytes < len(content) + 10_000
    server.check_content(run.url, content)


@pytest.mark.parametrize("cuts", [0, 6])
def test_N3_parallel_parts(
    node: NodeClient, server: UploadServer, proxy: CuttingProxy, source: Path, content: bytes, cuts: int
) -> None:
    proxy.break_after(700_000, times=cuts)
    options = {"parallelUploads": 4, "retryDelays": AT_ONCE, "metadata": {"filename": "joined.bin"}}
    run = node.upload(endpoint=proxy.through(server.url), file=str(source), options=options)
    assert proxy.broken == cuts
    run.check_offsets()
    assert run.answers.count(("POST", 201)) == 5
    assert server.metadata(run.url) == {"filename": "joined.bin"}
    server.check_content(run.url, content)


@pytest.mark.parametrize("parallel", [1, 4])
def test_upload_goes_on_by_a_stored_url(
    node: NodeClient, server: UploadServer, source: Path, content: bytes, tmp_path: Path, parallel: int
) -> None:
    scenario = {
        "endpoint": server.url,
        "file": str(source),
        "urlStorage": str(tmp_path / "urls.json"),
        "options": {"chunkSize": CHUNK_BYTES // 2, "parallelUploads": parallel},
    }
    Path(scenario["urlStorage"]).touch()
    if parallel == 1:
        with node.start(**scenario, abortAfterBytes=3 * CHUNK_BYTES) as first:
            first.wait_for("ended")
    else:
        with node.start(**scenario) as first:
            while sum(each["status"] == 204 for each in first.of("answer")) < 6:
                first.wait_for("answer")
            # Not asked, but killed, as by a closed laptop.
    second = node.upload(**scenario, resume=True)
    (found,) = second.of("found")
    assert len(found["uploads"]) == 1
    assert second.answers.count(("POST", 201)) == (0 if parallel == 1 else 1)
    offsets = [each["offset"] for each in second.of("answer") if each["method"] == "HEAD"]
    assert len(offsets) == parallel
    assert sum(offsets) >= 6 * CHUNK_BYTES // 2
    server.check_content(second.url, content)


def test_F20_upload_whose_connection_hangs_is_taken_over(
    node: NodeClient, server: UploadServer, proxy: CuttingProxy, source: Path, content: bytes
) -> None:
    proxy.break_after(BREAK_BYTES, how="stall")
    with node.start(endpoint=proxy.through(server.url), file=str(source)) as hung:
        url = hung.wait_for("url")["url"]
        proxy.wait_for_stall()
        hung.tell("abort")
        hung.wait_for("ended")
    # The client is gone, but the server still has its connection and half a PATCH.
    started = time.monotonic()
    with node.start(endpoint=server.url, file=str(source), options={"uploadUrl": server.direct(url)}) as resumed:
        head = resumed.wait_for("answer")
        assert time.monotonic() - started < 2.5, "of which Node takes half a second to start"
        resumed.finish()
    assert (head["method"], head["status"]) == ("HEAD", 200)
    server.check_content(url, content)
    proxy.release()
    server.check_content(url, content)


def test_F26_terminated_in_the_middle(
    node: NodeClient, server: UploadServer, proxy: CuttingProxy, source: Path
) -> None:
    proxy.break_after(BREAK_BYTES, how="stall")
    with node.start(endpoint=proxy.through(server.url), file=str(source)) as run:
        url = run.wait_for("url")["url"]
        proxy.wait_for_stall()
        run.tell("terminate")
        run.wait_for("ended", seconds=3)
    assert server.is_gone(url)
    # Late bytes of the request that was ended do not bring it back.
    proxy.release()
    assert server.is_gone(url)


@pytest.mark.parametrize(
    ("is_graceful", "chunk_bytes"),
    [(False, None), (False, CHUNK_BYTES), (True, None)],
    ids=["SIGKILL", "SIGKILL in chunks", "SIGTERM"],
)
def test_F1_server_restarted_in_the_middle(
    node: NodeClient,
    server: UploadServer,
    proxy: CuttingProxy,
    source: Path,
    content: bytes,
    is_graceful: bool,
    chunk_bytes: int | None,
) -> None:
    options = {"retryDelays": PATIENTLY} | ({} if chunk_bytes is None else {"chunkSize": chunk_bytes})
    proxy.break_after(BREAK_BYTES, how="stall")
    with node.start(endpoint=proxy.through(server.url), file=str(source), options=options) as run:
        url = run.wait_for("url")["url"]
        proxy.wait_for_stall()
        proxy.is_refusing = True  # until we have looked
        if is_graceful:
            assert server.stop() == 0
        else:
            server.kill()
        server.start()
        offset = server.offset(url)
        proxy.is_refusing = False
        assert run.finish() == url
    assert ("PATCH", 503) in run.answers or not is_graceful
    run.check_offsets()
    # What was asked to stop has saved all it had.
    assert offset <= BREAK_BYTES
    assert not is_graceful or offset >= BREAK_BYTES - 2000
    assert run.answers.count(("POST", 201)) == 1
    server.check_content(url, content)


def test_F1_server_killed_again_and_again_under_parallel_parts(
    node: NodeClient, server: UploadServer, proxy: CuttingProxy, source: Path, content: bytes
) -> None:
    options = {"parallelUploads": 4, "retryDelays": PATIENTLY, "chunkSize": 300_000}
    with node.start(endpoint=proxy.through(server.url), file=str(source), options=options) as run:
        for _ in range(3):
            for _ in range(4):
                wait_for_progress(run)
            server.kill()
            server.start()
        url = run.finish()
    run.check_offsets()
    server.check_content(url, content)


def test_uppy(node: NodeClient, server: UploadServer, proxy: CuttingProxy, tmp_path: Path, content: bytes) -> None:
    parts = {"eins.bin": content[:5_000_000], "zwei 日本.bin": content[5_000_000:]}
    files = []
    for number, (name, part) in enumerate(parts.items()):
        path = tmp_path / str(number)
        path.write_bytes(part)
        files.append({"name": name, "type": "application/x-parts", "path": str(path)})
    proxy.break_after(1_500_000, times=2)
    with node.start(
        "uppy.mjs", endpoint=proxy.through(server.url), files=files, options={"retryDelays": AT_ONCE}
    ) as run:
        uploaded = {each["name"]: each["url"] for each in (run.wait_for("success") for _ in files)}
    assert proxy.broken == 2
    for name, part in parts.items():
        metadata = server.metadata(uploaded[name])
        assert (metadata["filename"], metadata["filetype"]) == (name, "application/x-parts")
        assert metadata["team"] == "Straße 7"
        server.check_content(uploaded[name], part)


def wait_for_progress(run: ClientRun) -> None:
    """Until one more chunk is acknowledged."""
    while run.wait_for("answer")["status"] != 204:
        pass
