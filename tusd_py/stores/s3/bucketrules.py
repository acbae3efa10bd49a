"""What a bucket does to objects by itself: lifecycle rules, versions, locks; and what that means for uploads.

Reading needs permissions that a server has no use for, so what cannot be read is told, and is no failure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from tusd_py.errors import ConfigError
from tusd_py.stores.s3.client import S3Error, Unclear
from tusd_py.stores.s3.control import Control
from tusd_py.stores.s3.diagnosis import action, fatal, operation, refusal
from tusd_py.stores.s3.dialect import Provider

_DAY_SECONDS = 86_400
_NONE = {"NoSuchLifecycleConfiguration", "ObjectLockConfigurationNotFoundError", "NoSuchObjectLockConfiguration"}


@dataclass(frozen=True, slots=True)
class BucketRules:
    """`lifecycle` is None where it could not be read, and `unread` says why, of each."""

    lifecycle: tuple[dict[str, Any], ...] | None = ()
    has_versions: bool = False
    has_lock: bool = False
    default_retention: str = ""
    unread: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Advice:
    text: str
    is_warning: bool = False


async def read(control: Control) -> BucketRules:
    """Raises ConfigError for what no call gets past."""
    unread: list[str] = []

    async def ask(name: str) -> dict[str, Any] | None:
        try:
            return await control.call(name)
        except (S3Error, Unclear) as error:
            if (line := fatal(error, control.bucket)) is not None:
                raise ConfigError(line) from error
            said = refusal(error)
            if said is not None and said.code in _NONE:
                return {}
            is_denied = said is not None and said.status == 403
            reason = f"allow {action(name)} to see it" if is_denied else "the storage does not tell"
            unread.append(f"{operation(name)}: {reason}")
            return None

    lifecycle = await ask("get_bucket_lifecycle_configuration")
    versioning = await ask("get_bucket_versioning") or {}
    lock = (await ask("get_object_lock_configuration") or {}).get("ObjectLockConfiguration", {})
    retention = lock.get("Rule", {}).get("DefaultRetention", {})
    length = next((f"{retention[unit]} {unit.lower()}" for unit in ("Days", "Years") if retention.get(unit)), "")
    return BucketRules(
        lifecycle=None if lifecycle is None else tuple(lifecycle.get("Rules", ())),
        has_versions=versioning.get("Status") in ("Enabled", "Suspended"),
        has_lock=lock.get("ObjectLockEnabled") == "Enabled",
        default_retention=length,
        unread=tuple(unread),
    )


def refuse_retention(rules: BucketRules) -> None:
    """Raises ConfigError where nothing that is written can be removed again: this would be no place for uploads."""
    if rules.default_retention:
        raise ConfigError(
            f"the bucket locks each new object for {rules.default_retention} (object lock, default retention), so"
            " states and terminated uploads could not be removed: use a bucket without, or take the default off"
        )


def advice(rules: BucketRules, prefix: str, expire_after_seconds: float, provider: Provider) -> list[Advice]:
    """What to change, for a server that keeps unfinished uploads for `expire_after_seconds`; 0: without end."""
    return [
        *_on_short_rules(rules, prefix, expire_after_seconds),
        *_on_missing_rule(rules, prefix, expire_after_seconds, provider),
        *_on_provider(rules, prefix, expire_after_seconds, provider),
        *_on_versions(rules, prefix),
        *(Advice(f"not seen, and no failure: {each}") for each in rules.unread),
    ]


def _on_short_rules(rules: BucketRules, prefix: str, expire_after_seconds: float) -> list[Advice]:
    """Rules that would abort live uploads (failures F8)."""
    told = []
    for name, days, _ in aborting(rules, prefix):
        text = f"the lifecycle rule {name!r} aborts multipart uploads after {_count(days)}, live ones too: "
        least = _least_days(expire_after_seconds)
        if not expire_after_seconds:
            told.append(Advice(f"{text}uploads never expire, so remove it, or set --expire-after", is_warning=True))
        elif days < least:
            kept = f"--expire-after is {_days(expire_after_seconds)}"
            told.append(Advice(f"{text}{kept}, so raise it to {_count(least)} or more", is_warning=True))
    return told


def _on_missing_rule(rules: BucketRules, prefix: str, expire_after_seconds: float, provider: Provider) -> list[Advice]:
    covers_all = any(is_for_all for _, _, is_for_all in aborting(rules, prefix))
    if covers_all or rules.lifecycle is None or not provider.has_abort_rules:
        return []
    if not expire_after_seconds:
        return [Advice("no lifecycle rule is advised while uploads never expire (--expire-after 0)")]
    return [
        Advice(
            "give the bucket a lifecycle rule: AbortIncompleteMultipartUpload, DaysAfterInitiation"
            f" {_least_days(expire_after_seconds)} or more (longer than --expire-after, {_days(expire_after_seconds)},"
            f" and than any client goes on with one upload), Prefix {prefix!r}; it removes what a crash may leave"
        )
    ]


def _on_provider(rules: BucketRules, prefix: str, expire_after_seconds: float, provider: Provider) -> list[Advice]:
    days = provider.aborts_after_days
    if days is None or aborting(rules, prefix):
        return []
    if expire_after_seconds and days * _DAY_SECONDS > expire_after_seconds:
        return []
    kept = f"for {_days(expire_after_seconds)}" if expire_after_seconds else "for ever"
    unless = f", unless {provider.aborts_unless}" if provider.aborts_unless else ""
    return [
        Advice(
            f"{provider.name} aborts multipart uploads by itself after {_count(days)}{unless}, live ones too; uploads"
            f" are kept {kept} (--expire-after): see that the former is longer",
            is_warning=True,
        )
    ]


def _on_versions(rules: BucketRules, prefix: str) -> list[Advice]:
    if not rules.has_versions:
        return []
    has_rule = any(rule.get("NoncurrentVersionExpiration") and _reach(rule, prefix) is True for rule in _enabled(rules))
    told = []
    if not has_rule:
        told.append(
            Advice(
                "the bucket keeps versions: each PATCH leaves the old state of its upload behind (*.info), with up to"
                " a part of bytes; give it a lifecycle rule NoncurrentVersionExpiration, NoncurrentDays 1, Prefix"
                f" {prefix!r} (rules know no suffixes, so it is for old versions of the uploads, too)",
                is_warning=True,
            )
        )
    if rules.has_lock:
        told.append(
            Advice("object lock is on, without a default retention: objects are locked only where others do it")
        )
    return told


def aborting(rules: BucketRules, prefix: str) -> list[tuple[str, int, bool]]:
    """The rules that abort multipart uploads below `prefix`: name, days, and whether they are for all of them."""
    found = []
    for rule in _enabled(rules):
        days = rule.get("AbortIncompleteMultipartUpload", {}).get("DaysAfterInitiation")
        reach = _reach(rule, prefix)
        if days is not None and reach is not None:
            found.append((str(rule.get("ID", "without a name")), int(days), reach))
    return found


def _enabled(rules: BucketRules) -> list[dict[str, Any]]:
    return [rule for rule in rules.lifecycle or () if rule.get("Status") == "Enabled"]


def _reach(rule: dict[str, Any], prefix: str) -> bool | None:
    """True: the rule is for all below `prefix`; False: for some; None: for nothing there."""
    filters = rule.get("Filter", {})
    also = filters.get("And", {})
    its = str(filters.get("Prefix") or also.get("Prefix") or rule.get("Prefix") or "")
    if prefix.startswith(its):
        return not (also.keys() - {"Prefix"} or filters.keys() - {"Prefix", "And"})
    return False if its.startswith(prefix) else None


def _least_days(expire_after_seconds: float) -> int:
    return math.floor(expire_after_seconds / _DAY_SECONDS) + 1


def _days(seconds: float) -> str:
    return _count(seconds / _DAY_SECONDS)


def _count(days: float) -> str:
    return f"{days:.4g} day" + ("" if days == 1 else "s")
