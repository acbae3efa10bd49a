"""tuspy against the real server: whole, in chunks, cut off, gone on with, in parts, of unknown length."""

from __future__ import annotations

import asyncio
import io
import threading
import time
from pathlib import Path

import pytest
import requests
from cutting_proxy import CuttingProxy, How
from tusclient.client import TusClient
from tusclient.exceptions import TusCommunicationError, TusUploadFailed
from tusclient.storage.filestorage import FileStorage
from upload_server import VERSION, UploadServer

CHUNK_BYTES = 1 << 20
BREAK_BYTES = 3_300_000


class Reusable(io.BytesIO):
    """tuspy closes the stream it took a fingerprint of, and then wants to send it."""

    def __exit__(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("chunk_bytes", [None, CHUNK_BYTES])
def test_upload(server: UploadServer, content: bytes, chunk_bytes: int | None) -> None:
    options = {} if chunk_bytes is None else {"chunk_size": chunk_bytes}
    uploader = TusClient(server.url).uploader(file_stream=io.BytesIO(content), **options)
    uploader.upload()
    server.check_content(uploader.url, content)


@pytest.mark.parametrize("upload_checksum", [False, True])
@pytest.mark.parametrize("cuts", [0, 2])
def test_asynchronous_upload(
    server: UploadServer, proxy: CuttingProxy, content: bytes, cuts: int, upload_checksum: bool
) -> None:
    proxy.break_after(CHUNK_BYTES // 2, times=cuts)
    uploader = TusClient(proxy.through(server.url)).async_uploader(
        file_stream=io.BytesIO(content),
        chunk_size=CHUNK_BYTES,
        retries=5,
        retry_delay=0,
        upload_checksum=upload_checksum,
    )
    asyncio.run(uploader.upload())
    assert proxy.broken == cuts
    server.check_content(uploader.url, content)


def test_too_large_file_is_refused(content: bytes, tmp_path: Path) -> None:
    with UploadServer(tmp_path / "small", "--max-size", "1MiB") as small:
        with pytest.raises(TusCommunicationError) as refused:
            TusClient(small.url).uploader(file_stream=io.BytesIO(content)).upload()
        assert refused.value.status_code == 413
        assert b"ERR_MAX_SIZE_EXCEEDED" in refused.value.response_content
        assert not list(small.directory.glob("*.info"))


def test_C7_empty_file_is_complete_after_creation(server: UploadServer) -> None:
    uploader = TusClient(server.url).uploader(file_stream=io.BytesIO(b""))
    uploader.upload()
    server.check_content(uploader.url, b"")


def test_C9_metadata_of_other_alphabets_comes_back(server: UploadServer) -> None:
    metadata = {"filename": "Übung 日本語 🐍.csv", "owner": "Ольга", "empty": ""}
    uploader = TusClient(server.url).uploader(file_stream=io.BytesIO(b"a,b\n"), metadata=metadata)
    uploader.upload()
    assert server.metadata(uploader.url) == metadata
    server.check_content(uploader.url, b"a,b\n")


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("chunk_bytes", [None, 4 << 20])
def test_F10_cut_upload_goes_on_by_retries(
    server: UploadServer, proxy: CuttingProxy, content: bytes, how: How, chunk_bytes: int | None
) -> None:
    proxy.break_after(BREAK_BYTES, times=2, how=how)
    options = {} if chunk_bytes is None else {"chunk_size": chunk_bytes}
    client = TusClient(proxy.through(server.url))
    uploader = client.uploader(file_stream=io.BytesIO(content), retries=5, retry_delay=0, **options)
    uploader.upload()
    assert proxy.broken == 2
    server.check_content(uploader.url, content)


def test_F10_bytes_before_the_cut_are_kept(server: UploadServer, proxy: CuttingProxy, content: bytes) -> None:
    proxy.break_after(BREAK_BYTES)
    cut = TusClient(proxy.through(server.url)).uploader(file_stream=io.BytesIO(content))
    with pytest.raises(TusUploadFailed):
        cut.upload()
    resumed = TusClient(server.url).uploader(file_stream=io.BytesIO(content), url=server.direct(cut.url))
    # All that the proxy passed on but the request's head.
    assert BREAK_BYTES - 1000 < resumed.offset < BREAK_BYTES
    resumed.upload()
    server.check_content(cut.url, content)


def test_upload_goes_on_by_a_stored_url(server: UploadServer, tmp_path: Path, content: bytes) -> None:
    urls, offsets = [], []
    for stop_at in (3 * CHUNK_BYTES, len(content)):
        # Opened anew, as by a script that is started again.
        storage = FileStorage(tmp_path / "urls.json")
        try:
            uploader = TusClient(server.url).uploader(
                file_stream=Reusable(content), store_url=True, url_storage=storage, chunk_size=CHUNK_BYTES
            )
            offsets.append(uploader.offset)
            uploader.upload(stop_at=stop_at)
            urls.append(uploader.url)
        finally:
            storage.close()
    assert urls[0] == urls[1]
    assert offsets == [0, 3 * CHUNK_BYTES]
    server.check_content(urls[0], content)


def test_S8_every_chunk_with_a_checksum(server: UploadServer, content: bytes) -> None:
    uploader = TusClient(server.url).uploader(
        file_stream=io.BytesIO(content), chunk_size=CHUNK_BYTES, upload_checksum=True
    )
    uploader.upload()
    server.check_content(uploader.url, content)


def test_S9_cut_chunk_with_a_checksum_counts_nothing(server: UploadServer, proxy: CuttingProxy, content: bytes) -> None:
    uploader = TusClient(proxy.through(server.url)).uploader(
        file_stream=io.BytesIO(content), chunk_size=CHUNK_BYTES, upload_checksum=True
    )
    uploader.upload(stop_at=2 * CHUNK_BYTES)
    proxy.break_after(CHUNK_BYTES // 2)
    with pytest.raises(TusUploadFailed):
        uploader.upload()
    assert server.offset(uploader.url) == 2 * CHUNK_BYTES
    uploader.retries, uploader.retry_delay = 5, 0
    proxy.break_after(CHUNK_BYTES // 2, times=2)
    uploader.upload()
    assert proxy.broken == 3
    server.check_content(uploader.url, content)


def test_S4_wrong_checksum_is_refused_and_changes_nothing(server: UploadServer, content: bytes) -> None:
    uploader = TusClient(server.url).uploader(file_stream=io.BytesIO(content), chunk_size=CHUNK_BYTES)
    uploader.upload(stop_at=CHUNK_BYTES)
    uploader.client.set_headers({"Upload-Checksum": "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0="})
    with pytest.raises(TusUploadFailed) as refused:
        uploader.upload()
    assert refused.value.status_code == 460
    uploader.client.headers.clear()
    assert server.offset(uploader.url) == CHUNK_BYTES
    uploader.upload()
    server.check_content(uploader.url, content)


def test_N3_parts_joined_in_the_listed_order(server: UploadServer, content: bytes) -> None:
    middle = 5_000_001
    urls = []
    for part in (content[middle:], content[:middle]):
        client = TusClient(server.url, headers={"Upload-Concat": "partial"})
        uploader = client.uploader(file_stream=io.BytesIO(part), chunk_size=CHUNK_BYTES)
        uploader.upload()
        urls.append(uploader.url)
    final = VERSION | {"Upload-Concat": f"final;{urls[1]} {urls[0]}"}
    answer = requests.post(server.url, headers=final, timeout=10)
    assert answer.status_code == 201, answer.text
    server.check_content(answer.headers["Location"], content)


def test_C5_length_that_comes_with_the_last_chunks(server: UploadServer, content: bytes) -> None:
    answer = requests.post(server.url, headers=VERSION | {"Upload-Defer-Length": "1"}, timeout=10)
    assert answer.status_code == 201, answer.text
    url = answer.headers["Location"]
    uploader = TusClient(server.url).uploader(file_stream=io.BytesIO(content), url=url, chunk_size=CHUNK_BYTES)
    uploader.upload(stop_at=3 * CHUNK_BYTES)
    assert server.head(url).headers["Upload-Defer-Length"] == "1"
    uploader.client.set_headers({"Upload-Length": str(len(content))})
    uploader.upload()
    server.check_content(url, content)


def test_F20_upload_whose_connection_hangs_is_taken_over(
    server: UploadServer, proxy: CuttingProxy, content: bytes
) -> None:
    proxy.break_after(BREAK_BYTES, how="stall")
    hung = TusClient(proxy.through(server.url)).uploader(file_stream=io.BytesIO(content))
    failures: list[Exception] = []

    def upload() -> None:
        try:
            hung.upload()
        except TusUploadFailed as error:
            failures.append(error)

    thread = threading.Thread(target=upload)
    thread.start()
    try:
        proxy.wait_for_stall()
        asked = time.monotonic()
        resumed = TusClient(server.url).uploader(file_stream=io.BytesIO(content), url=server.direct(hung.url))
        assert time.monotonic() - asked < 1.2
        assert BREAK_BYTES - 1000 < resumed.offset < BREAK_BYTES
        resumed.upload()
        server.check_content(hung.url, content)
        # The network heals: what the old request still had to say arrives, and must not matter.
        proxy.release()
    finally:
        proxy.release()
        thread.join(20)
    assert len(failures) == 1
    server.check_content(hung.url, content)


@pytest.mark.parametrize("is_graceful", [False, True], ids=["SIGKILL", "SIGTERM"])
def test_F1_server_restarted_in_the_middle(
    server: UploadServer, proxy: CuttingProxy, content: bytes, is_graceful: bool
) -> None:
    uploader = TusClient(proxy.through(server.url)).uploader(
        file_stream=io.BytesIO(content), chunk_size=CHUNK_BYTES, retries=200, retry_delay=0.05
    )
    uploader.upload(stop_at=2 * CHUNK_BYTES)
    proxy.break_after(CHUNK_BYTES // 2, how="stall")
    thread = threading.Thread(target=uploader.upload)
    thread.start()
    try:
        proxy.wait_for_stall()
        proxy.is_refusing = True  # until we have looked
        if is_graceful:
            assert server.stop() == 0
        else:
            server.kill()
        server.start()
        offset = server.offset(uploader.url)
        assert 2 * CHUNK_BYTES <= offset < 3 * CHUNK_BYTES
        assert not is_graceful or offset > 2 * CHUNK_BYTES
    finally:
        proxy.is_refusing = False
        thread.join(20)
    server.check_content(uploader.url, content)
