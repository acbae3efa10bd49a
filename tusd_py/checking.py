"""The command `tusd-py check` for buckets: tries one out and says what it can do, what follows, and what to change.

It puts the probes of the S3 store together, as `app` puts together the server, and prints what they found. What is
tried, and what a failure means, stands in `stores.s3`.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tusd_py.config import Config
from tusd_py.errors import ConfigError

if TYPE_CHECKING:
    from tusd_py.stores.s3.bucketrules import Advice
    from tusd_py.stores.s3.dialect import Outcome
    from tusd_py.stores.s3.probing import Finding
    from tusd_py.stores.s3.store import S3Store

NAME = "check"

SUMMARY = f"""\
Commands:
  tusd-py {NAME} s3://bucket/prefix
      Try out a bucket: what the storage can do, what follows, and what to change. More: tusd-py {NAME} --help
  tusd-py {NAME} https://host/files/
      Try out a tus server and the proxies before it, as its clients see them: what stands in the way of uploads.
  tusd-py upload FILE... https://host/files/
      Send files, with progress, and go on after cuts. More: tusd-py upload --help"""

HELP = f"""\
usage: tusd-py {NAME} [s3://bucket[/prefix]] [flags]
       tusd-py {NAME} http[s]://host/files/ [--origin URL] [--header 'Name: value'] [--body-size SIZE] [--pause TIME]

Tries out what uploads depend on before you trust it with them, and says what follows and what to change: a bucket of
S3, or of what speaks like it; or a tus server, this one or another, and the proxies before it. Without an address it
takes the bucket of the settings.

Examples:
  tusd-py {NAME} s3://uploads                                            at Amazon
  tusd-py {NAME} s3://uploads/incoming/ --s3-endpoint http://minio:9000  elsewhere
  tusd-py {NAME} --config tusd.toml                                      the bucket that the server will use
  tusd-py {NAME} https://up.example.com/files/                           the URL that creates uploads
  tusd-py {NAME} https://up.example.com/files/ --origin https://app.example.com --header 'Authorization: Bearer x'
  tusd-py {NAME} s3://uploads --log-format json                          one JSON object, for programs

A bucket. It works below <prefix>.tusd-py/check-<random>/, touches nothing else, and removes everything again, also
after Ctrl-C. It sends a little more than 5 MiB in about 100 calls. The prefix is what keys begin with, as in
--s3-object-prefix: end it with a / to mean a folder. Credentials are found as by boto3: AWS_ACCESS_KEY_ID and
AWS_SECRET_ACCESS_KEY, a profile, or the role of the machine. --expire-after, --locker and --disable-concatenation
count: give those of the server. All its flags: tusd-py --help

A server. It uploads as clients do, and cuts connections, pauses and lies about checksums: whether a proxy collects
bodies, limits or cuts them, drops headers, caches, redirects, or makes Location wrong. It sends about 25 MiB in
70 requests, takes 10 s and more, and removes its uploads again, also after Ctrl-C; where the server does not let
it, it says what stays.
  --origin URL       also try what browsers need (CORS) for pages of this origin
  --header TEXT      send this header, as in 'Authorization: Bearer x'; may be given several times
  --body-size SIZE   largest body in one piece that is tried (default: 16MiB; 2MiB is tried in any case)
  --pause TIME       how long a body pauses (default: 5s); give 70s to find limits of a minute
SSL_CERT_FILE names the certificates to trust, where those of the system are not right.

What it says of a trait:
  yes      it is so
  NO       it is not; below the table stands what follows
  denied   the credentials may not do it; the permission (of IAM) that is lacking is named
  unclear  it failed, or did not answer: try again

Exit codes:
  0  all that is required works
  1  something that is required does not
  2  wrong settings, credentials, permissions, bucket, region, clock or certificate, or no storage or server there: one
     line says what to do
"""

_WIDTH = 100
_LONGEST_TITLE = 66
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_AMAZON_BUCKET = re.compile(r"(?!\d+\.\d+\.\d+\.\d+$)[a-z0-9](?:[a-z0-9-]|\.(?!\.)){1,61}[a-z0-9]")
_CONDITIONS = {"if_none_match", "if_match", "race_for_new", "race_for_next"}
_COPIES = {"copy"}
_INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Place:
    """What is checked. `host` is empty for Amazon."""

    bucket: str
    prefix: str
    endpoint: str

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"

    @property
    def host(self) -> str:
        return urlsplit(self.endpoint).netloc or "amazonaws.com"


def run(words: Sequence[str], config: Config, tell: Callable[[str], object]) -> int:
    """`words` are those after the command. Returns the exit code; raises ConfigError for code 2."""
    config = _aimed(words, config)
    place = Place(config.s3_bucket, config.s3_object_prefix, config.s3_endpoint)
    from tusd_py.assembly.backends import s3_store  # noqa: PLC0415  (who only wants help waits for no server)

    try:
        outcome, advice = asyncio.run(_examined(s3_store(config), place, config))
    except KeyboardInterrupt:
        _say("tusd-py: interrupted\n")
        return _INTERRUPTED
    missing = [each for each in outcome.findings if _is_missing(each, config)]
    if config.log_format == "json":
        tell(json.dumps(_as_object(place, outcome, advice, missing)) + "\n")
    else:
        tell("\n".join(_table(place, outcome, advice, missing)) + "\n")
    denied = [each for each in missing if each.permission]
    if denied:
        actions = ", ".join(dict.fromkeys(each.detail for each in denied))
        raise ConfigError(f"no permission for what is required: {actions}; allow it on {place.url}*")
    return 1 if missing else 0


def _aimed(words: Sequence[str], config: Config) -> Config:
    """The settings, for the bucket that the command names."""
    if len(words) > 1:
        raise ConfigError(f"one bucket at a time: {' '.join(words)!r}; see tusd-py {NAME} --help")
    if words:
        scheme, _, rest = words[0].partition("://")
        bucket, _, prefix = rest.partition("/")
        if scheme in ("http", "https"):
            raise ConfigError(f"to check a server, {NAME} comes first, with its own flags: tusd-py {NAME} {words[0]}")
        if scheme != "s3" or not bucket:
            raise ConfigError(
                f"{words[0]!r} is no bucket; write s3://bucket or s3://bucket/prefix, or the URL of a server"
            )
        config = replace(config, s3_bucket=bucket, s3_object_prefix=prefix)
    if not config.s3_bucket:
        raise ConfigError(
            f"check what? tusd-py {NAME} s3://bucket/prefix (or set --s3-bucket), or tusd-py {NAME} https://host/files/"
        )
    pattern = _BUCKET if config.s3_endpoint else _AMAZON_BUCKET
    if not pattern.fullmatch(config.s3_bucket):
        rules = "letters, digits, dots and dashes" if config.s3_endpoint else "3 to 63 a-z, 0-9, dots and dashes"
        raise ConfigError(f"no bucket can have the name {config.s3_bucket!r}; allowed: {rules}")
    return config


async def _examined(store: S3Store, place: Place, config: Config) -> tuple[Outcome, list[Advice]]:
    from tusd_py.stores.s3 import bucketrules, dialect  # noqa: PLC0415

    bucket = store.bucket
    try:
        await dialect.greet(bucket.client, place.bucket, place.prefix)
        rules = await bucketrules.read(bucket.control)
        bucketrules.refuse_retention(rules)
        outcome = await dialect.examine(
            bucket.client,
            bucket.control,
            place.prefix,
            place.host,
            has_versions=rules.has_versions,
            report=_show_progress,
            report_left=_tell_left,
        )
    finally:
        _show_progress(0, 0, "")
        await store.aclose()
    provider = outcome.provider
    advice = bucketrules.advice(rules, place.prefix, config.expire_after, provider)
    if provider.note:
        advice.append(bucketrules.Advice(f"{provider.name} {provider.note}"))
    if place.endpoint.startswith("http://"):
        advice.append(bucketrules.Advice("no TLS: keep http:// to networks where nobody listens, else use https://"))
    return outcome, advice


def _show_progress(number: int, count: int, title: str) -> None:
    """One line that is written over, for people; the last call takes it away."""
    if sys.stderr.isatty():
        text = f"[{number}/{count}] {title} ..." if count else ""
        _say(f"\r{text[: _WIDTH - 1]:{_WIDTH - 1}}" + ("" if count else "\r"))


def _tell_left(left: list[str]) -> None:
    _say("tusd-py: could not be removed again: " + "; ".join(" ".join(each.split()) for each in left) + "\n")


def _say(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


def _is_missing(finding: Finding, config: Config) -> bool:
    """Whether uploads are not safe, or not possible, without it, as the server is set up."""
    if not finding.is_required or finding.is_yes:
        return False
    if finding.name in _CONDITIONS:
        return config.locker != "redis"
    return not (finding.name in _COPIES and config.disable_concatenation)


def _table(place: Place, outcome: Outcome, advice: Sequence[Advice], missing: Sequence[Finding]) -> list[str]:
    is_amazon = not place.endpoint
    style = "virtual-hosted style" if is_amazon and "." not in place.bucket else "path style"
    tls = "no TLS" if place.endpoint.startswith("http://") else "TLS with a trusted certificate"
    name = outcome.provider.name if outcome.provider.name != "unknown" else "a storage that is not known here"
    lines = [f"{place.url} at {place.endpoint or 'Amazon'}: {name}, {style}, {tls}", ""]
    for each in outcome.findings:
        verdict = "NO" if each.verdict == "no" else str(each.verdict)
        lines.append(f"  {verdict:8} {each.title:{_LONGEST_TITLE}} {each.detail}".rstrip())
    lines += ["", textwrap.fill(f"Latency (median): {_latencies(outcome)}", _WIDTH, subsequent_indent="    ")]
    lines.append(f"Traffic: {_count(outcome)} calls, {outcome.sent_bytes / 2**20:.1f} MiB sent")
    lines.append(_limits(outcome))
    follows = []
    if any(each.verdict == "unclear" for each in outcome.findings):
        follows.append("! not all was answered: see whether the storage and the way to it are well, and check again")
    follows += [f"{'! ' if each.is_required else '- '}{each.advice}" for each in outcome.findings if each.advice]
    follows += [f"{'! ' if each.is_warning else '- '}{each.text}" for each in advice]
    if follows:
        lines += ["", "What follows (!: important):"]
        for text in dict.fromkeys(follows):
            lines.append(textwrap.fill(text, _WIDTH, initial_indent="  ", subsequent_indent="    "))
    if missing:
        lines += ["", "Required, and missing: " + "; ".join(each.title for each in missing)]
    else:
        lines += ["", "All that is required works."]
    return lines


def _latencies(outcome: Outcome) -> str:
    return ", ".join(f"{name} {median(each) * 1000:.0f} ms" for name, each in sorted(outcome.seconds.items()))


def _count(outcome: Outcome) -> int:
    return sum(map(len, outcome.seconds.values()))


def _limits(outcome: Outcome) -> str:
    limits = outcome.dialect.limits
    source = f"known of {outcome.provider.name}" if outcome.provider.limits else "Amazon's, taken for granted"
    return (
        f"Limits ({source}, not tried): {limits.max_parts:,} parts, {_size(limits.max_part_bytes)} a part,"
        f" {_size(limits.max_object_bytes)} an object"
    )


def _size(count: int) -> str:
    for unit, power in (("TiB", 40), ("GiB", 30)):
        if count >= 2**power:
            return f"{count / 2**power:.4g} {unit}"
    return f"{count / 2**20:.4g} MiB"


def _as_object(
    place: Place, outcome: Outcome, advice: Sequence[Advice], missing: Sequence[Finding]
) -> dict[str, object]:
    return {
        "place": place.url,
        "endpoint": place.endpoint,
        "provider": outcome.provider.name,
        "is_usable": not missing,
        "missing": [each.name for each in missing],
        "dialect": asdict(outcome.dialect),
        "findings": [asdict(each) for each in outcome.findings],
        "advice": [asdict(each) for each in advice],
        "median_seconds": {name: median(each) for name, each in outcome.seconds.items()},
        "calls": _count(outcome),
        "sent_bytes": outcome.sent_bytes,
    }
