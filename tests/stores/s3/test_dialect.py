"""What is found out about storages: real ones, and real ones that lack something. Nothing is left in the bucket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import anyio.to_thread
import pytest
from s3proxy import FaultProxy
from s3scene import Scene
from s3servers import MinIO, Moto, S3Server, Versitygw

from tusd_py.errors import ConfigError
from tusd_py.stores.s3 import bucketrules, crc
from tusd_py.stores.s3.bucket import Bucket
from tusd_py.stores.s3.bucketrules import BucketRules, advice
from tusd_py.stores.s3.client import Client, S3Error, Unclear
from tusd_py.stores.s3.connecting import connect
from tusd_py.stores.s3.control import Control
from tusd_py.stores.s3.dialect import PROVIDERS, UNKNOWN, Dialect, Outcome, examine, greet, probe, provider_of
from tusd_py.stores.s3.plan import Limits
from tusd_py.stores.s3.probing import Verdict
from tusd_py.stores.s3.settings import S3Settings
from tusd_py.stores.s3.traits import TRAITS

pytestmark = pytest.mark.anyio

DAY = 86_400.0

GAPS = {
    MinIO.name: {"list_uploads"},
    Versitygw.name: set(),
    Moto.name: {"put_crc64", "part_crc64", "whole_crc64", "list_parts"},
}
"""What each server is known not to do."""


class Place:
    """A new bucket of a server."""

    def __init__(self, server: S3Server, **settings: Any) -> None:
        self.name = server.new_bucket()
        self.s3: Any = server.client()
        store = connect(S3Settings(**{"bucket": self.name, "endpoint": server.endpoint, **settings}))
        self.bucket: Bucket = store.bucket

    @property
    def both(self) -> tuple[Client, Control]:
        return self.bucket.client, self.bucket.control

    async def examine(self, **options: Any) -> Outcome:
        return await examine(*self.both, "some/", **options)

    def is_empty(self) -> bool:
        objects = self.s3.list_objects_v2(Bucket=self.name).get("Contents")
        return not objects and not self.s3.list_multipart_uploads(Bucket=self.name).get("Uploads")


@pytest.fixture
async def place(s3: S3Server) -> AsyncIterator[Place]:
    place = Place(s3)
    yield place
    await place.bucket.aclose()


@pytest.fixture
async def gateway(versitygw: S3Server) -> AsyncIterator[Place]:
    place = Place(versitygw)
    yield place
    await place.bucket.aclose()


def verdicts(outcome: Outcome) -> dict[str, Verdict]:
    return {each.name: each.verdict for each in outcome.findings}


# Everything, on real servers.


async def test_each_server_does_what_it_is_known_to_do(place: Place, s3: S3Server) -> None:
    outcome = await place.examine()
    assert {name for name, verdict in verdicts(outcome).items() if verdict is not Verdict.YES} == GAPS[s3.name]
    assert len(outcome.findings) == len(TRAITS)
    assert outcome.dialect.is_conditional
    assert outcome.dialect.checks_crc64 is (s3.name != Moto.name)
    assert outcome.dialect.wants_equal_parts is False
    assert outcome.dialect.lists_multiparts_by_prefix is (s3.name != MinIO.name)
    assert place.is_empty()


async def test_it_sends_little_more_than_one_part(gateway: Place) -> None:
    outcome = await gateway.examine()
    assert 5 << 20 < outcome.sent_bytes < (5 << 20) + 8192
    assert sum(map(len, outcome.seconds.values())) < 100


async def test_other_objects_are_left_alone(place: Place) -> None:
    kept = ["some/.tusd-py/check", "some/.tusd-py/check-other/object", "some/object"]
    for key in kept:
        place.s3.put_object(Bucket=place.name, Key=key, Body=b"kept")
    await place.examine()
    assert [each["Key"] for each in place.s3.list_objects_v2(Bucket=place.name)["Contents"]] == kept


async def test_a_server_is_known_by_what_it_calls_itself(minio: S3Server) -> None:
    place = Place(minio)
    outcome = await place.examine(quick=True)
    assert (outcome.provider.name, outcome.provider.aborts_after_days) == ("MinIO", 1)
    await place.bucket.aclose()


async def test_versions_are_removed_too(minio: S3Server) -> None:
    place = Place(minio)
    place.s3.put_bucket_versioning(Bucket=place.name, VersioningConfiguration={"Status": "Enabled"})
    rules = await bucketrules.read(place.bucket.control)
    assert rules.has_versions
    await place.examine(has_versions=rules.has_versions)
    found = place.s3.list_object_versions(Bucket=place.name)
    assert (found.get("Versions"), found.get("DeleteMarkers")) == (None, None)
    await place.bucket.aclose()


# In short.


async def test_the_short_probe_makes_eight_calls_and_no_multipart(scene: Scene) -> None:
    bucket = scene.store().bucket
    dialect = await probe(bucket.client, bucket.control, "some/")
    assert dialect == Dialect(has_conditional_writes=True, has_if_match=True, checks_crc64=True, provider="VersityGW")
    assert dialect.line == "conditional writes: yes, CRC64NVME: yes"
    assert scene.calls() == {"PutObject": 7, "DeleteObject": 1}
    assert scene.objects() == []


async def test_the_short_probe_takes_the_provider_s_word(gateway: Place) -> None:
    dialect = await probe(*gateway.both, host="account.r2.cloudflarestorage.com")
    assert dialect.wants_equal_parts
    assert dialect.limits.max_object_bytes < 5 << 40


# Storages that lack something.


def without(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """The storage never hears of these headers of PutObject, as if it did not heed them."""
    put = Client.put

    async def deaf_put(self: Client, key: str, payload: Any, headers: Any) -> Any:
        return await put(self, key, payload, {name: each for name, each in headers.items() if name not in names})

    monkeypatch.setattr(Client, "put", deaf_put)


async def test_without_conditions(gateway: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "if-none-match", "if-match")
    outcome = await gateway.examine()
    found = verdicts(outcome)
    assert {name for name, verdict in found.items() if verdict is Verdict.NO} == {
        "if_none_match", "if_match", "race_for_new", "race_for_next",
    }  # fmt: skip
    assert not outcome.dialect.is_conditional
    assert outcome.dialect.line.startswith(
        "this storage has no conditional writes: uploads are safe with --locker redis only"
    )
    assert gateway.is_empty()


async def test_with_half_of_the_conditions(gateway: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "if-match")
    dialect = await probe(*gateway.both)
    assert (dialect.has_conditional_writes, dialect.has_if_match, dialect.is_conditional) == (True, False, False)


async def test_conditions_that_are_not_implemented(gateway: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    put = Client.put

    async def refusing_put(self: Client, key: str, payload: Any, headers: Any) -> Any:
        if "if-none-match" in headers:
            raise Unclear("PutObject: 501 NotImplemented: A header you provided implies functionality ...")
        return await put(self, key, payload, headers)

    monkeypatch.setattr(Client, "put", refusing_put)
    outcome = await gateway.examine(quick=True)
    assert verdicts(outcome)["if_none_match"] is Verdict.NO
    assert outcome.findings[0].detail == "PutObject says NotImplemented"


async def test_a_storage_that_asks_for_patience_is_asked_again(scene: Scene) -> None:
    bucket = scene.store().bucket
    fault = scene.proxy.inject("slow_down", "PutObject", nth=2)
    dialect = await probe(bucket.client, bucket.control)
    assert dialect.is_conditional
    assert len(fault.hits) == 1


async def test_no_answer_is_no_verdict(scene: Scene) -> None:
    bucket = scene.store().bucket
    scene.proxy.inject("after", "PutObject", nth=1)
    outcome = await examine(bucket.client, bucket.control, quick=True)
    assert outcome.findings[0].verdict is Verdict.UNCLEAR
    assert not outcome.dialect.has_conditional_writes
    scene.proxy.inject("after", "PutObject", nth=1)
    with pytest.raises(Unclear, match="If-None-Match"):
        await probe(bucket.client, bucket.control)
    assert scene.objects() == []


async def test_without_checksums(gateway: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, crc.HEADER)
    dialect = await probe(*gateway.both)
    assert (dialect.is_conditional, dialect.checks_crc64) == (True, False)


async def test_without_awscrt(gateway: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crc, "checksums", None)
    outcome = await gateway.examine()
    assert {each.detail for each in outcome.findings if not each.is_yes} == {
        "nothing here computes CRC64NVME: pip install 'tusd-py[s3]'"
    }
    assert gateway.is_empty()


def before_complete(monkeypatch: pytest.MonkeyPatch, code: str, *, may_be_equal: bool) -> None:
    """Complete refuses parts of two lengths before the last one, or of any."""
    call = Control.call

    async def strict_call(self: Control, operation: str, **arguments: Any) -> Any:
        if operation == "complete_multipart_upload":
            numbers = [part["PartNumber"] for part in arguments["MultipartUpload"]["Parts"]]
            listed = await call(self, "list_parts", Key=arguments["Key"], UploadId=arguments["UploadId"])
            sizes = [part["Size"] for part in listed["Parts"] if part["PartNumber"] in numbers][:-1]
            if len(set(sizes)) > may_be_equal:
                raise S3Error(operation, 400, code, "no")
        return await call(self, operation, **arguments)

    monkeypatch.setattr(Control, "call", strict_call)


async def test_a_storage_that_wants_equal_parts(gateway: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    before_complete(monkeypatch, "InvalidPart", may_be_equal=True)
    outcome = await gateway.examine()
    assert outcome.dialect.wants_equal_parts
    assert verdicts(outcome)["multipart"] is Verdict.YES
    assert [each.name for each in outcome.findings if not each.is_yes] == ["unequal_parts"]
    assert gateway.is_empty()


async def test_a_storage_that_wants_larger_parts(gateway: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    before_complete(monkeypatch, "EntityTooSmall", may_be_equal=False)
    outcome = await gateway.examine()
    found = {each.name: each for each in outcome.findings}
    assert found["multipart"].detail == "parts of 5 MiB are too small: raise --s3-min-part-size"
    assert (found["copy"].verdict, found["copy"].detail[:10]) == (Verdict.UNCLEAR, "not tried:")
    assert outcome.dialect.wants_equal_parts is None
    assert gateway.is_empty()


async def test_what_cannot_be_removed_is_told(gateway: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refused_delete(self: Client, key: str) -> None:
        raise S3Error("DeleteObject", 403, "AccessDenied", "no")

    monkeypatch.setattr(Client, "delete", refused_delete)
    left: list[str] = []
    await gateway.examine(quick=True, report_left=left.extend)
    (key,) = [each["Key"] for each in gateway.s3.list_objects_v2(Bucket=gateway.name)["Contents"]]
    assert [each.partition(" (")[0] for each in left] == [key]


# What nothing gets past.


async def test_a_bucket_that_goes_ends_the_run(gateway: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    call = Control.call

    def delete_bucket() -> None:
        for each in gateway.s3.list_objects_v2(Bucket=gateway.name)["Contents"]:
            gateway.s3.delete_object(Bucket=gateway.name, Key=each["Key"])
        gateway.s3.delete_bucket(Bucket=gateway.name)

    async def late_call(self: Control, operation: str, **arguments: Any) -> Any:
        if operation == "get_object_tagging":
            await anyio.to_thread.run_sync(delete_bucket)
        return await call(self, operation, **arguments)

    monkeypatch.setattr(Control, "call", late_call)
    with pytest.raises(ConfigError, match="there is no bucket"):
        await gateway.examine()


async def test_a_greeting_is_one_call(scene: Scene) -> None:
    bucket = scene.store().bucket
    await greet(bucket.client, scene.bucket)
    assert scene.calls() == {"GetObject": 1}


async def test_a_storage_that_hangs_up(scene: Scene, s3_proxy: FaultProxy) -> None:
    bucket = scene.store().bucket
    s3_proxy.inject("before", "GetObject")
    with pytest.raises(ConfigError, match=r"cannot be reached|does not answer"):
        await greet(bucket.client, scene.bucket)


# Providers.


@pytest.mark.parametrize(
    ("host", "server", "name"),
    [
        ("amazonaws.com", "", "Amazon S3"),
        ("s3.eu-west-1.amazonaws.com", "AmazonS3", "Amazon S3"),
        ("account.r2.cloudflarestorage.com:443", "cloudflare", "Cloudflare R2"),
        ("s3.eu-central-003.backblazeb2.com", "nginx", "Backblaze B2"),
        ("notamazonaws.com", "", "unknown"),
        ("127.0.0.1:9000", "MinIO", "MinIO"),
        ("127.0.0.1", "VERSITYGW", "VersityGW"),
    ],
)
def test_providers_are_known_by_host_or_server(host: str, server: str, name: str) -> None:
    assert provider_of(host, server).name == name


# Lifecycle rules, versions, locks.


def rule(days: int, prefix: str | None = "", **fields: Any) -> dict[str, Any]:
    return {
        "ID": "tidy",
        "Status": "Enabled",
        "Filter": {"Prefix": prefix},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": days},
        **fields,
    }


def told(*lifecycle: dict[str, Any], expire_after: float = 7 * DAY, **fields: Any) -> list[tuple[bool, str]]:
    rules = BucketRules(lifecycle=lifecycle, **fields)
    return [(each.is_warning, each.text) for each in advice(rules, "up/", expire_after, UNKNOWN)]


def test_a_bucket_without_a_rule_is_advised_to_have_one() -> None:
    ((is_warning, text),) = told()
    assert not is_warning
    assert "AbortIncompleteMultipartUpload, DaysAfterInitiation 8 or more" in text
    assert "Prefix 'up/'" in text


@pytest.mark.parametrize("prefix", ["", "u", "up/"])
def test_a_rule_that_is_long_enough_is_well(prefix: str) -> None:
    assert told(rule(8, prefix)) == []


@pytest.mark.parametrize("days", [1, 7])
def test_a_rule_that_is_too_short_is_a_warning(days: int) -> None:
    ((is_warning, text),) = told(rule(days))
    assert is_warning
    assert "the lifecycle rule 'tidy' aborts multipart uploads" in text
    assert "raise it to 8 days or more" in text


def test_a_rule_for_a_part_of_the_uploads_is_a_warning_and_not_enough() -> None:
    assert [is_warning for is_warning, _ in told(rule(1, "up/special/"))] == [True, False]


@pytest.mark.parametrize("other", [rule(1, "elsewhere/"), rule(1, Status="Disabled")])
def test_a_rule_for_others_counts_as_none(other: dict[str, Any]) -> None:
    assert [is_warning for is_warning, _ in told(other)] == [False]


def test_rules_of_the_old_form_are_understood() -> None:
    old = {key: value for key, value in rule(1).items() if key != "Filter"}
    assert [is_warning for is_warning, _ in told({**old, "Prefix": "up/"})] == [True]
    assert [is_warning for is_warning, _ in told({**old, "Prefix": "other/"})] == [False]


def test_where_uploads_never_expire_each_rule_is_too_short() -> None:
    ((is_warning, text),) = told(rule(365), expire_after=0)
    assert is_warning
    assert "never expire" in text


def test_versions_ask_for_a_rule_of_their_own() -> None:
    assert any("NoncurrentVersionExpiration" in text for _, text in told(rule(8), has_versions=True))
    assert told(rule(8, NoncurrentVersionExpiration={"NoncurrentDays": 1}), has_versions=True) == []


def test_a_provider_that_aborts_too_early_is_a_warning() -> None:
    minio = replace(next(each for each in PROVIDERS if each.name == "MinIO"), limits=Limits())
    (only,) = advice(BucketRules(), "", 7 * DAY, minio)
    assert only.is_warning
    assert "MINIO_API_STALE_UPLOADS_EXPIRY" in only.text
    assert advice(BucketRules(), "", DAY / 2, minio) == []


async def test_rules_are_read_from_the_bucket(s3: S3Server) -> None:
    place = Place(s3)
    if s3.name == Moto.name:
        place.s3.put_bucket_lifecycle_configuration(
            Bucket=place.name, LifecycleConfiguration={"Rules": [rule(3, "up/")]}
        )
    found = await bucketrules.read(place.bucket.control)
    if s3.name == Moto.name:
        assert bucketrules.aborting(found, "up/") == [("tidy", 3, True)]
    elif s3.name == MinIO.name:
        assert found == BucketRules()
    else:
        assert found.lifecycle is None
        assert found.unread[0] == "GetBucketLifecycleConfiguration: the storage does not tell"
    await place.bucket.aclose()


async def test_a_default_retention_is_refused_before_anything_is_written(minio: S3Server) -> None:
    place = Place(minio)
    locked = f"{place.name}-locked"
    place.s3.create_bucket(Bucket=locked, ObjectLockEnabledForBucket=True)
    control = Place(minio, bucket=locked).bucket.control
    rules = await bucketrules.read(control)
    assert (rules.has_lock, rules.has_versions, rules.default_retention) == (True, True, "")
    place.s3.put_object_lock_configuration(
        Bucket=locked,
        ObjectLockConfiguration={
            "ObjectLockEnabled": "Enabled",
            "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 3}},
        },
    )
    with pytest.raises(ConfigError, match="locks each new object for 3 days"):
        bucketrules.refuse_retention(await bucketrules.read(control))
    await place.bucket.aclose()
    control.close()
