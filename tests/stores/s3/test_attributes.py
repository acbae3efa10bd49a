"""What objects are made with: as headers, and as real storages then have it."""

from __future__ import annotations

import email.header
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from s3proxy import FaultProxy
from s3scene import MIB, Scene, add, content, create, fill, new_upload, some
from s3servers import KMS_KEY, S3Server, SecureMinIO

from tusd_py.core.upload import Metadata, UploadId
from tusd_py.errors import BackendError, ConfigError
from tusd_py.stores.s3.attributes import MAX_METADATA_BYTES, METADATA, UPLOAD_ID, Attributes
from tusd_py.stores.s3.connecting import connect
from tusd_py.stores.s3.settings import S3Settings
from tusd_py.stores.s3.store import S3Store

METADATA_GIVEN = Metadata.of({"filename": "Mäuse 1.csv", "filetype": "text/csv", "Project": "mice", "a b": "no name"})


def metadata_of(values: dict[str, str]) -> dict[str, str]:
    """What of them becomes user metadata of the object."""
    upload = replace(new_upload(1), metadata=Metadata("", values))
    headers = Attributes().headers(upload)
    assert headers[METADATA + UPLOAD_ID] == upload.id
    return {
        name.removeprefix(METADATA): value
        for name, value in headers.items()
        if name.startswith(METADATA) and name != METADATA + UPLOAD_ID
    }


def test_names_and_values_become_headers() -> None:
    given_values = {"Name": "plain text", "empty": "", "bad name": "x", "q": "a?=b", UPLOAD_ID: "mine", "b": " x"}
    assert metadata_of(given_values) == {"name": "plain text", "q": "a?=b", "b": "=?UTF-8?B?IHg=?="}


@given(st.text(min_size=1, max_size=300))
def test_any_value_comes_back_by_rfc_2047(value: str) -> None:
    header = metadata_of({"name": value})["name"]
    assert re.fullmatch(r"[!-~](?:[ -~]*[!-~])?", header)
    decoded = email.header.decode_header(header) if header.startswith("=?UTF-8?B?") else [(header, None)]
    ((text, charset),) = decoded
    assert (text.decode("utf-8", "surrogateescape") if isinstance(text, bytes) else text) == value
    assert charset in (None, "utf-8")


def test_what_does_not_fit_into_two_kilobytes_is_in_the_record_only() -> None:
    values = {"first": "a" * 1000, "long": "b" * 2000, "last": "c" * 900}
    kept = metadata_of(values)
    assert list(kept) == ["first", "last"]
    upload_bytes = len(UPLOAD_ID) + 32
    assert sum(len(name) + len(value) for name, value in kept.items()) + upload_bytes <= MAX_METADATA_BYTES


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"object_key": "{name}"}, "--s3-object-key: '{name}' is wrong"),
        ({"storage_class": "cold storage"}, "--s3-storage-class: 'cold storage' is none"),
        ({"tags": "mice"}, "--s3-tags: 'mice' is wrong"),
        ({"tags": "a=1&a=2"}, "each with a name of its own"),
        ({"tags": "a=<b>"}, "S3 does not take a=<b>"),
        ({"kms_key": "k"}, "--s3-kms-key is for --s3-encryption aws:kms"),
        ({"encryption": "customer"}, "need each other"),
        ({"customer_key_file": "/nowhere"}, "need each other"),
        ({"encryption": "customer", "customer_key_file": "/nowhere"}, "cannot be read"),
        ({"encryption": "customer", "customer_key_file": __file__}, "neither 32 bytes nor these in base64"),
        ({"encryption": "customer", "customer_key_file": "x", "endpoint": "http://127.0.0.1:9"}, "needs TLS"),
        ({"redirect_seconds": 8 * 86400.0}, "7d at most"),
        ({"redirect_seconds": 60.0, "encryption": "customer", "customer_key_file": "x"}, "clients do not have the key"),
        ({"public_endpoint": "http://s3.example.com"}, "is for --s3-redirect-downloads"),
    ],
)
def test_what_cannot_be_is_said_at_the_start(
    settings: dict[str, Any], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "some")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "some")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    with pytest.raises(ConfigError, match=re.escape(reason)):
        connect(S3Settings(**{"bucket": "data", "endpoint": "https://127.0.0.1:9", **settings}))


@asynccontextmanager
async def scene_on(server: S3Server) -> AsyncGenerator[Scene, None]:
    with FaultProxy(server.host, server.port) as proxy:
        scene = Scene(server, proxy)
        yield scene
        await scene.aclose()


@pytest.fixture(params=["minio", "versitygw"])
async def scene(request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    async with scene_on(request.getfixturevalue(request.param)) as scene:
        yield scene


@pytest.fixture
async def minio_scene(minio: S3Server) -> AsyncIterator[Scene]:
    """Of the one that has storage classes and encrypts."""
    async with scene_on(minio) as scene:
        yield scene


Upload = Callable[[S3Store], Any]


async def small(store: S3Store) -> UploadId:
    upload_id = await create(store, 4096, metadata=METADATA_GIVEN)
    await add(store, upload_id, some(4096), 0)
    return upload_id


async def at_once(store: S3Store) -> UploadId:
    made = replace(new_upload(4096), metadata=METADATA_GIVEN)
    await fill(await store.create(made, 4096), some(4096))
    return made.id


async def in_parts(store: S3Store) -> UploadId:
    upload_id = await create(store, 12 * MIB, metadata=METADATA_GIVEN)
    await add(store, upload_id, some(6 * MIB), 0)
    await add(store, upload_id, some(6 * MIB), 6 * MIB)
    return upload_id


async def joined(store: S3Store) -> UploadId:
    partials = []
    for count in (6 * MIB, 3, 7 * MIB):
        partials.append(await create(store, count, is_partial=True, concat="partial"))
        await add(store, partials[-1], some(count), 0)
    final = await create(store, None, concat="final;x", partials=tuple(partials), metadata=METADATA_GIVEN)
    await store.concatenate(final, partials)
    stored = await store.open(final)
    await stored.finish()
    await stored.close()
    expected = b"".join([await content(store, each) for each in partials])
    assert await content(store, final) == expected
    return final


WAYS = [small, at_once, in_parts, joined]


@pytest.mark.anyio
@pytest.mark.parametrize("way", WAYS)
async def test_objects_have_the_clients_metadata_and_the_operators_marks(way: Upload, scene: Scene) -> None:
    store = scene.store(tags="project=mice&team=a%20b", object_key="{date:%Y}/{id}/{metadata[filename]}", acl="private")
    upload_id = await way(store)
    (key,) = [each for each in scene.objects() if each.endswith("Mäuse_1.csv")]
    assert upload_id in key
    found = scene.s3.head_object(Bucket=scene.bucket, Key=key)
    assert found["ContentType"] == "text/csv"
    name = {"filename": "=?UTF-8?B?TcOkdXNlIDEuY3N2?=", "project": "mice", "filetype": "text/csv"}
    assert found["Metadata"] == name | {UPLOAD_ID: upload_id}
    tags = scene.s3.get_object_tagging(Bucket=scene.bucket, Key=key)["TagSet"]
    assert {each["Key"]: each["Value"] for each in tags} == {"project": "mice", "team": "a b"}
    await store.terminate(upload_id)
    assert key not in scene.objects()
    assert f"{upload_id}.info" not in scene.objects()


@pytest.mark.anyio
@pytest.mark.parametrize("way", WAYS)
async def test_a_storage_class(way: Upload, minio_scene: Scene) -> None:
    upload_id = await way(minio_scene.store(storage_class="REDUCED_REDUNDANCY", has_metadata=False))
    found = minio_scene.s3.head_object(Bucket=minio_scene.bucket, Key=upload_id)
    assert found["StorageClass"] == "REDUCED_REDUNDANCY"
    assert found["Metadata"] == {UPLOAD_ID: upload_id}
    assert "StorageClass" not in minio_scene.s3.head_object(Bucket=minio_scene.bucket, Key=f"{upload_id}.info")


@pytest.mark.anyio
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("algorithm", "kms_key"), [("AES256", ""), ("aws:kms", ""), ("aws:kms", KMS_KEY)])
async def test_the_storage_encrypts_objects_and_states(
    algorithm: str, kms_key: str, way: Upload, minio_scene: Scene
) -> None:
    upload_id = await way(minio_scene.store(encryption=algorithm, kms_key=kms_key))
    for key in (upload_id, f"{upload_id}.info"):
        found = minio_scene.s3.head_object(Bucket=minio_scene.bucket, Key=key)
        assert found["ServerSideEncryption"] == algorithm
        assert not kms_key or found["SSEKMSKeyId"].endswith(kms_key)


# A key of the customer's own, which needs TLS.


@pytest.fixture(scope="module")
def secure() -> Iterator[S3Server]:
    with SecureMinIO() as server:
        yield server


@pytest.fixture
def own_key(tmp_path: Path) -> str:
    path = tmp_path / "key"
    path.write_bytes(some(32))
    return str(path)


Connect = Callable[..., S3Store]


@pytest.fixture
async def over_tls(secure: S3Server, minio: S3Server, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Connect]:
    """The `minio` fixture gives the credentials, which are the same."""
    monkeypatch.setenv("AWS_CA_BUNDLE", str(secure.certificate))
    bucket = secure.new_bucket()
    stores = []

    def over_tls(**settings: Any) -> S3Store:
        stores.append(connect(S3Settings(bucket=bucket, endpoint=secure.endpoint, part_bytes=5 * MIB, **settings)))
        return stores[-1]

    yield over_tls
    for store in stores:
        await store.aclose()


@pytest.mark.anyio
@pytest.mark.parametrize("way", WAYS)
async def test_with_a_key_of_the_customer(way: Upload, over_tls: Connect, own_key: str, tmp_path: Path) -> None:
    settings = {"encryption": "customer", "customer_key_file": own_key}
    upload_id = await way(over_tls(**settings))
    other = over_tls(**settings)
    assert (await other.read(upload_id)).is_available
    assert len(await content(other, upload_id)) == (await other.read(upload_id)).length
    with pytest.raises(BackendError):
        await over_tls().read(upload_id)
    (tmp_path / "another").write_bytes(some(32))
    with pytest.raises(BackendError):
        await over_tls(encryption="customer", customer_key_file=str(tmp_path / "another")).read(upload_id)
    await other.terminate(upload_id)


@pytest.mark.anyio
async def test_another_process_with_the_key_goes_on(over_tls: Connect, own_key: str) -> None:
    settings = {"encryption": "customer", "customer_key_file": own_key}
    one, two, data = over_tls(**settings), over_tls(**settings), some(13 * MIB)
    upload_id = await create(one, len(data))
    await add(one, upload_id, data[: 7 * MIB], 0)
    await add(two, upload_id, data[7 * MIB :], 7 * MIB)
    assert await content(one, upload_id) == data


# Downloads from the storage itself.


@pytest.mark.anyio
async def test_a_presigned_url_gives_the_bytes(scene: Scene) -> None:
    store, data = scene.store(redirect_seconds=60.0), some(5000)
    upload_id = await create(store, len(data), metadata=METADATA_GIVEN)
    await add(store, upload_id, data, 0)
    url = await store.location(upload_id, "text/csv", 'attachment; filename="a b.csv"')
    assert url is not None
    answer = httpx.get(url, headers={"range": "bytes=10-19"})
    assert (answer.status_code, answer.content) == (206, data[10:20])
    assert answer.headers["content-type"] == "text/csv"
    assert answer.headers["content-disposition"] == 'attachment; filename="a b.csv"'
    assert await scene.store().location(upload_id, "text/csv", "inline") is None


@pytest.mark.anyio
async def test_a_presigned_url_names_the_endpoint_of_clients(scene: Scene) -> None:
    store = scene.store(redirect_seconds=60.0, public_endpoint="https://files.example.com")
    upload_id = await small(store)
    url = await store.location(upload_id, "text/csv", "inline")
    assert url is not None
    assert url.startswith(f"https://files.example.com/{scene.bucket}/{upload_id}?")
