"""What one storage does differently from Amazon's: found out by trying, and from what is known of providers.

`probe` tries what the store asks about at its start (`quick`), or all that there is (`tusd-py check`). What is tried
stands in `traits`, and how in `probing`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import anyio
from botocore.exceptions import BotoCoreError

from tusd_py.errors import ConfigError
from tusd_py.stores.s3.client import Client, S3Error, Unclear
from tusd_py.stores.s3.control import Control
from tusd_py.stores.s3.diagnosis import fatal, no_s3
from tusd_py.stores.s3.plan import GIB, MIB, Limits
from tusd_py.stores.s3.probing import Bench, Finding, Verdict
from tusd_py.stores.s3.traits import NO_CONDITIONS, TRAITS

TIB = 1 << 40
_CLEAN_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Provider:
    """What is known of one, and cannot be tried out cheaply. `limits` are None where nobody is sure of them."""

    name: str
    hosts: tuple[str, ...] = ()
    server: str = ""
    limits: Limits | None = None
    aborts_after_days: int | None = None
    """When it ends multipart uploads by itself."""
    aborts_unless: str = ""
    has_abort_rules: bool = True
    """Whether lifecycle rules of a bucket may say so."""
    note: str = ""


UNKNOWN = Provider("unknown")

PROVIDERS = (
    Provider("Amazon S3", ("amazonaws.com", "amazonaws.com.cn"), limits=Limits()),
    Provider(
        "Cloudflare R2",
        ("r2.cloudflarestorage.com",),
        limits=Limits(
            max_part_bytes=5 * GIB - 5 * MIB,
            max_object_bytes=5 * TIB - 5 * GIB,
            max_put_bytes=5 * GIB - 5 * MIB,
            wants_equal_parts=True,
        ),
        aborts_after_days=7,
        aborts_unless="a lifecycle rule of the bucket says otherwise",
        note="takes one write a second to one key: PATCHes of one upload that come faster have to wait",
    ),
    Provider(
        "Backblaze B2",
        ("backblazeb2.com",),
        limits=Limits(max_part_bytes=5 * 10**9, max_object_bytes=10**13, max_put_bytes=5 * 10**9),
    ),
    Provider("Wasabi", ("wasabisys.com",)),
    Provider(
        "DigitalOcean Spaces",
        ("digitaloceanspaces.com",),
        limits=Limits(max_object_bytes=5 * 10**12),
        aborts_after_days=90,
    ),
    Provider("Google Cloud Storage", ("storage.googleapis.com",), limits=Limits(max_object_bytes=5 * TIB)),
    Provider(
        "MinIO",
        server="minio",
        limits=Limits(max_object_bytes=5 * TIB),
        aborts_after_days=1,
        aborts_unless="MINIO_API_STALE_UPLOADS_EXPIRY says otherwise",
        has_abort_rules=False,
    ),
    Provider("VersityGW", server="versitygw"),
)


def provider_of(host: str, server: str) -> Provider:
    """By the host of the endpoint, or by what the storage calls itself."""
    name = host.rpartition(":")[0] or host
    for each in PROVIDERS:
        if any(name == domain or name.endswith(f".{domain}") for domain in each.hosts):
            return each
        if each.server and server.lower().startswith(each.server):
            return each
    return UNKNOWN


@dataclass(frozen=True, slots=True)
class Dialect:
    """None: not tried. `limits` are the provider's where they are known, else Amazon's."""

    has_conditional_writes: bool
    has_if_match: bool
    checks_crc64: bool
    checks_part_crc64: bool | None = None
    checks_whole_crc64: bool | None = None
    wants_equal_parts: bool | None = None
    copies_parts: bool | None = None
    lists_multiparts_by_prefix: bool | None = None
    provider: str = UNKNOWN.name
    limits: Limits = Limits()

    @property
    def is_conditional(self) -> bool:
        """Whether the storage by itself keeps two holders of one upload apart."""
        return self.has_conditional_writes and self.has_if_match

    @property
    def line(self) -> str:
        if not self.is_conditional:
            return f"{NO_CONDITIONS}; CRC64NVME: {_word(self.checks_crc64)}"
        return f"conditional writes: yes, CRC64NVME: {_word(self.checks_crc64)}"


def _word(value: bool) -> str:
    return "yes" if value else "no"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Seconds are of each call, by operation."""

    dialect: Dialect
    findings: tuple[Finding, ...]
    provider: Provider
    seconds: dict[str, list[float]]
    sent_bytes: int


Report = Callable[[int, int, str], object]
"""Told the number of a trait, how many there are, and what it is about."""


async def probe(client: Client, control: Control, prefix: str = "", host: str = "", *, quick: bool = True) -> Dialect:
    """Raises ConfigError for what no call gets past (keys, bucket, region, clock, network), and Unclear where one of
    the quick traits got no clear answer: the storage is then not known to lack it.

    `quick` makes eight calls at most, none of a multipart upload; more only where the storage asks for patience.
    """
    outcome = await examine(client, control, prefix, host, quick=quick)
    needed = {each.name for each in TRAITS if each.is_quick}
    for each in outcome.findings:
        if each.name in needed and each.verdict is Verdict.UNCLEAR:
            raise Unclear(f"{each.title}: {each.detail}")
    return outcome.dialect


async def examine(
    client: Client,
    control: Control,
    prefix: str = "",
    host: str = "",
    *,
    quick: bool = False,
    has_versions: bool = False,
    report: Report = lambda _number, _count, _title: None,
    report_left: Callable[[list[str]], object] = lambda _left: None,
) -> Outcome:
    """The same, with all that there is to tell; `report_left` is told what could not be removed again."""
    bench = Bench(client, control, prefix)
    traits = [each for each in TRAITS if each.is_quick or not quick]
    findings: list[Finding] = []
    left = [f"what was made below {bench.folder}"]
    try:
        for number, each in enumerate(traits, 1):
            report(number, len(traits), each.title)
            findings.append(await each.finding(bench))
            if findings[0].verdict is Verdict.DENIED:
                raise ConfigError(
                    f"no permission for PutObject: allow s3:PutObject on arn:aws:s3:::{control.bucket}/{prefix}*"
                )
    finally:
        with anyio.move_on_after(_CLEAN_SECONDS, shield=True):
            left = await bench.clean(has_versions=has_versions)
        if left:
            report_left(left)
    provider = provider_of(host, bench.server)
    return Outcome(
        dialect_of(findings, provider),
        tuple(findings),
        provider,
        bench.seconds,
        bench.sent_bytes,
    )


def dialect_of(findings: Sequence[Finding], provider: Provider) -> Dialect:
    limits = provider.limits or Limits()
    verdicts = {each.name: each.verdict for each in findings}

    def has(*names: str) -> bool | None:
        tried = [verdicts[name] is Verdict.YES for name in names if name in verdicts]
        return all(tried) if tried else None

    # Only a plain no tells that lengths must be equal: anything else says nothing about them.
    unequal = verdicts.get("unequal_parts")
    is_known = unequal in (Verdict.YES, Verdict.NO) and verdicts.get("copy") is Verdict.YES
    return Dialect(
        has_conditional_writes=bool(has("if_none_match", "race_for_new")),
        has_if_match=bool(has("if_match", "race_for_next")),
        checks_crc64=bool(has("put_crc64")),
        checks_part_crc64=has("part_crc64"),
        checks_whole_crc64=has("whole_crc64"),
        wants_equal_parts=unequal is Verdict.NO if is_known else limits.wants_equal_parts or None,
        copies_parts=has("copy"),
        lists_multiparts_by_prefix=has("list_uploads"),
        provider=provider.name,
        limits=limits,
    )


async def greet(client: Client, bucket: str, prefix: str = "") -> None:
    """Ask once for what does not exist. Raises ConfigError, if the answer leaves no hope, or is none of S3."""
    try:
        async with client.stream(f"{prefix}.tusd-py/check", {}, "0-0"):
            pass
    except (S3Error, Unclear, BotoCoreError) as error:
        line = fatal(error, bucket)
        if line is None and isinstance(error, S3Error):
            line = no_s3(error)
        elif line is None:
            line = f"the storage does not answer as it should: correct --s3-endpoint, or try again ({error})"
        if line is not None:
            raise ConfigError(line) from error
        return
    raise ConfigError(
        "what answers does not do so as S3 does: it has an object that nobody made; correct --s3-endpoint"
    )
