"""A bucket that tusd wrote is served, and its unfinished uploads go on: as recorded from tusd 2.x, and with a real one
where its program is given (`TUSD=/path/to/tusd`)."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from s3scene import FENCED, MIB, Scene, add, content, some
from s3servers import S3Server

from tusd_py.core.upload import State, UploadId
from tusd_py.errors import RequestError
from tusd_py.stores.s3 import S3Store
from tusd_py.stores.s3.connecting import connect
from tusd_py.stores.s3.settings import S3Settings

pytestmark = pytest.mark.anyio

ID = UploadId("0123456789abcdef0123456789abcdef")
EITHER = pytest.mark.parametrize("scene", [None, FENCED], ids=["conditional", "fenced"], indirect=True)


def leave(scene: Scene, parts: dict[int, bytes], tail: bytes = b"", **fields: Any) -> None:
    """An upload as tusd leaves it."""
    metadata = {"filename": "t?st.txt"}
    begun = scene.s3.create_multipart_upload(Bucket=scene.bucket, Key=ID, ContentType="text/plain", Metadata=metadata)
    multipart = {"Bucket": scene.bucket, "Key": ID, "UploadId": begun["UploadId"]}
    sent = [
        {"PartNumber": number, "ETag": scene.s3.upload_part(**multipart, PartNumber=number, Body=body)["ETag"]}
        for number, body in parts.items()
    ]
    if fields.pop("is_completed", False):
        scene.s3.complete_multipart_upload(**multipart, MultipartUpload={"Parts": sent})
    if tail:
        scene.s3.put_object(Bucket=scene.bucket, Key=f"{ID}.part", Body=tail)
    info = {
        "ID": f"{ID}+{begun['UploadId']}",
        "Size": 10,
        "SizeIsDeferred": False,
        "Offset": 0,
        "MetaData": {"filename": "tést.txt", "filetype": "text/plain"},
        "IsPartial": False,
        "IsFinal": False,
        "PartialUploads": None,
        "Storage": {"Bucket": scene.bucket, "Key": ID, "Type": "s3store"},
    }
    scene.s3.put_object(Bucket=scene.bucket, Key=f"{ID}.info", Body=json.dumps(info | fields).encode())


@EITHER
@pytest.mark.parametrize("tail_bytes", [0, 100, MIB])
async def test_an_unfinished_upload_goes_on(scene: Scene, tail_bytes: int) -> None:
    data = some(17 * MIB)
    sent = 11 * MIB + tail_bytes
    leave(scene, {1: data[: 5 * MIB], 2: data[5 * MIB : 11 * MIB]}, data[11 * MIB : sent], Size=len(data))
    before = scene.objects()
    found = await scene.store().read(ID)
    assert (found.offset, found.length, found.state) == (sent, len(data), State.RECEIVING)
    assert found.metadata.values["filename"] == "tést.txt"
    assert scene.objects() == before
    await add(scene.store(), ID, data[sent : sent + 1000], sent)
    assert f"{ID}.part" not in scene.objects()
    await add(scene.store(), ID, data[sent + 1000 :], sent + 1000)
    assert await content(scene.store(), ID) == data
    assert scene.s3.head_object(Bucket=scene.bucket, Key=ID)["ContentType"] == "text/plain"
    assert scene.multiparts() == []


@EITHER
async def test_one_that_has_no_part_yet(scene: Scene) -> None:
    leave(scene, {}, b"01234")
    assert (await scene.store().read(ID)).offset == 5
    await add(scene.store(), ID, b"56789", 5)
    assert await content(scene.store(), ID) == b"0123456789"


@pytest.mark.parametrize("numbers", [(2,), (1, 3)], ids=str)
async def test_F2_F4_what_follows_a_missing_part_does_not_count(scene: Scene, numbers: tuple[int, ...]) -> None:
    data = some(17 * MIB)
    parts = {number: data[(number - 1) * 5 * MIB : number * 5 * MIB] for number in numbers}
    leave(scene, parts, data[-MIB:], Size=len(data))
    offset = 5 * MIB if 1 in numbers else 0
    assert (await scene.store().read(ID)).offset == offset
    await add(scene.store(), ID, data[offset:], offset)
    assert await content(scene.store(), ID) == data


@EITHER
async def test_a_length_that_was_deferred(scene: Scene) -> None:
    leave(scene, {}, b"abc", Size=0, SizeIsDeferred=True)
    store = scene.store()
    assert (await store.read(ID)).length is None
    await store.declare_length(ID, 3)
    stored = await store.open(ID)
    await stored.finish()
    await stored.close()
    assert await content(store, ID) == b"abc"


@EITHER
async def test_a_finished_one_is_served_and_not_rewritten(scene: Scene) -> None:
    leave(scene, {1: b"0123456789"}, is_completed=True, PartialUploads=["a" * 32 + "+x", "b" * 32 + "+y"])
    before = scene.s3.get_object(Bucket=scene.bucket, Key=f"{ID}.info")["Body"].read()
    store = scene.store()
    found = await store.read(ID)
    assert found.is_available
    assert found.partials == ("a" * 32, "b" * 32)
    assert found.touched_at > 1e9
    assert await content(store, ID) == b"0123456789"
    assert [each async for each in store.unfinished()] == []
    assert scene.s3.get_object(Bucket=scene.bucket, Key=f"{ID}.info")["Body"].read() == before


async def test_one_whose_bytes_are_lost_is_not_found(scene: Scene) -> None:
    leave(scene, {})
    scene.s3.abort_multipart_upload(Bucket=scene.bucket, Key=ID, UploadId=scene.multiparts()[0])
    for use in (lambda: scene.store().read(ID), lambda: scene.store().open(ID)):
        with pytest.raises(RequestError) as error:
            await use()
        assert error.value.status == 404


@EITHER
async def test_the_sweep_leaves_it_alone_and_a_delete_removes_all(scene: Scene) -> None:
    leave(scene, {1: some(5 * MIB)}, b"tail", Size=9 * MIB)
    store = scene.store()
    before = scene.objects()
    assert [each async for each in store.unfinished()] == []
    assert scene.objects() == before
    await store.terminate(ID)
    assert scene.multiparts() == []
    assert [each for each in scene.objects() if not each.startswith(f"{ID}.info.")] == []
    with pytest.raises(RequestError):
        await store.read(ID)


async def test_two_of_us_take_it_over_and_one_wins(scene: Scene) -> None:
    leave(scene, {}, b"01234")
    one, two = scene.store(), scene.store()
    opened = await one.open(ID)
    await add(two, ID, b"56789", 5)
    await opened.close()
    assert await content(one, ID) == b"0123456789"


# With the real one.


@contextmanager
def tusd(server: S3Server, bucket: str) -> Iterator[int]:
    """It runs on this port."""
    program = os.environ.get("TUSD")
    if not program:
        pytest.skip("TUSD names no program")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [program, "-host", "127.0.0.1", "-port", str(port), "-s3-bucket", bucket, "-s3-endpoint", server.endpoint]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _await_answer(port)
            yield port
        finally:
            process.terminate()


def _await_answer(port: int) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.02)  # nothing tells when a port is listened on
        else:
            return


def _ask(port: int, method: str, path: str, body: bytes = b"", **headers: str) -> dict[str, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, {"Tus-Resumable": "1.0.0", **names})
        answer = connection.getresponse()
        assert answer.status in (200, 201, 204), answer.read()
        answer.read()
        return {name.lower(): value for name, value in answer.getheaders()}
    finally:
        connection.close()


@pytest.mark.parametrize("kind", ["minio", "versitygw"])
@pytest.mark.parametrize("sent", [1000, 7 * MIB, 12 * MIB], ids=["tail", "part", "parts"])
async def test_what_a_real_tusd_began_is_finished(
    request: pytest.FixtureRequest, kind: str, sent: int, connected: Callable[[S3Server, str], S3Store]
) -> None:
    server: S3Server = request.getfixturevalue(kind)
    bucket, data = server.new_bucket(), some(20 * MIB)
    with tusd(server, bucket) as port:
        made = _ask(port, "POST", "/files/", Upload_Length=str(len(data)), Upload_Metadata="filename dMOpc3Q=")
        path = made["location"].partition(str(port))[2]
        assert "+" in path
        half = sent // 2
        for start, end in ((0, half), (half, sent)):
            _ask(
                port, "PATCH", path, data[start:end],
                Upload_Offset=str(start), Content_Type="application/offset+octet-stream",
            )  # fmt: skip
    upload_id = UploadId(path.removeprefix("/files/").partition("+")[0])
    store = connected(server, bucket)
    found = await store.read(upload_id)
    assert (found.offset, found.length) == (sent, len(data))
    assert found.metadata.values["filename"] == "tést"
    await add(store, upload_id, data[sent : sent + MIB], sent)
    await add(connected(server, bucket), upload_id, data[sent + MIB :], sent + MIB)
    assert await content(store, upload_id) == data


@pytest.fixture
async def connected() -> Any:
    stores = []

    def make(server: S3Server, bucket: str) -> S3Store:
        stores.append(connect(S3Settings(bucket=bucket, endpoint=server.endpoint)))
        return stores[-1]

    yield make
    for store in stores:
        await store.aclose()
