"""The settings of hooks: which there are, when they are asked, how long, and what happens when one fails."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from tusd_py.config.kinds import (
    Choice,
    Duration,
    Kind,
    Listing,
    Number,
    Path,
    Size,
    Switch,
    Text,
    check_token,
    setting,
)

GROUPS = (HOOKS,) = ("Hooks",)

SWITCH = Switch()

EVENTS = (
    "pre-access", "pre-create", "post-create", "post-receive", "pre-finish", "post-finish", "pre-terminate",
    "post-terminate",
)  # fmt: skip
DEFAULT_EVENTS = ("pre-create", "post-create", "post-receive", "post-terminate", "post-finish")


class Tables(Kind):
    """A table of tables: in a TOML file sections, anywhere else JSON."""

    placeholder = "JSON"
    allowed = 'in a file sections such as [hook-options.NAME]; elsewhere JSON such as {"NAME": {"timeout": "30s"}}'
    file_types = (dict, str)

    def parse(self, text: str) -> Any:
        return json.loads(text) if text else {}

    def check(self, value: Any) -> dict[str, dict[str, Any]]:
        if not isinstance(value, Mapping) or not all(isinstance(each, Mapping) for each in value.values()):
            raise ValueError("not a table of tables")
        return {str(name): dict(table) for name, table in value.items()}

    def write(self, value: Mapping[str, Any]) -> str:
        return json.dumps(value, ensure_ascii=False) if value else ""


def check_event(item: str) -> None:
    if item not in EVENTS:
        raise ValueError(f"{item!r} is no event")


def check_receiver(item: str) -> None:
    parts = urlsplit(item)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.port == 0 or parts.fragment:
        raise ValueError("one is no address that begins with http:// or https://")  # it may hold a password


def check_text(item: str) -> None:
    if not item or not item.isprintable():
        raise ValueError(repr(item))


@dataclass(frozen=True, kw_only=True)
class Hooks:
    """A part of `settings.Config`."""

    hooks: tuple[str, ...] = setting(
        (), Listing("hooks, separated by commas", check_text), HOOKS,
        "Hooks, in the order in which they are asked. In Python: names of installed ones (tusd-py hooks list shows"
        " them), modules such as package.module:hook, or paths of .py files; these run in the server, and docs/hooks.md"
        " says how to write one. Also paths of programs, addresses, and names that hook-options says the use of.",
    )  # fmt: skip
    hooks_dir: str = setting(
        "", Path(may_be_empty=True), HOOKS,
        "Directory of hooks. An executable file whose name is an event's, such as post-finish, is run at that event, as"
        " by tusd; those in post-finish.d/ are run in the order of their names; NAME.py files are hooks in Python.",
    )  # fmt: skip
    hooks_http: tuple[str, ...] = setting(
        (), Listing("addresses that begin with http:// or https://, separated by commas", check_receiver), HOOKS,
        "Where to POST events, as tusd does. Several are asked in this order, after those of hooks and hooks-dir.",
        is_secret=True,  # it may have a password or a token in it
    )  # fmt: skip
    hooks_enabled_events: tuple[str, ...] = setting(
        DEFAULT_EVENTS, Listing("events, separated by commas: " + ", ".join(EVENTS), check_event), HOOKS,
        "Events that programs and addresses hear of. Hooks in Python say themselves which they want.",
    )  # fmt: skip
    hooks_on_failure: str = setting(
        "fail", Choice("fail", "allow"), HOOKS,
        "What happens when a hook that is asked first (pre-create and the like) fails or is too slow. fail: its client"
        " is told 503 and tries again later. allow: it goes on as if the hook had agreed.",
        differs="tusd: fail, and no choice.",
    )  # fmt: skip
    hooks_timeout: float = setting(
        15.0, Duration(may_be_zero=False), HOOKS,
        "Longest time that a client waits for a hook in Python or an executable. Then it has failed; an executable is"
        " killed, with all it started.",
        differs="tusd: none for executables; one that hangs holds its client for ever.",
    )  # fmt: skip
    hooks_job_timeout: float = setting(
        3600.0, Duration(may_be_zero=False), HOOKS,
        "Longest time for what is done afterwards (post-create, post-finish, post-terminate) by a hook in Python or an"
        " executable. Then it is tried again later.",
        differs="tusd: none.",
    )  # fmt: skip
    hooks_concurrency: int = setting(
        8, Number(1, 1000), HOOKS,
        "How many events that come afterwards each worker may give to one hook at once.",
        differs="tusd: no limit; a thousand uploads that finish together start a thousand processes.",
    )  # fmt: skip
    jobs: str = setting(
        "sqlite", Choice("sqlite", "redis", "memory"), HOOKS,
        "Where it is kept what hooks are still to hear of, with its failures and next tries. sqlite: a file, for all"
        " processes of one machine. redis: for any number of machines, see jobs-redis-url. memory: for one process;"
        " what was not done when it ends is found again by the uploads, but for post-terminate.",
    )  # fmt: skip
    jobs_file: str = setting(
        "", Path(may_be_empty=True), HOOKS,
        "The file for it, on a local disk of this machine. Empty: below upload-dir, or with S3 in the temporary"
        " folder.",
    )  # fmt: skip
    jobs_redis_url: str = setting(
        "", Text("a URL such as redis://:password@host:6379/1"), HOOKS,
        "Redis for jobs redis, in any form that redis-url may have. Empty: that of redis-url. Its keys begin with"
        " redis-prefix and do not expire: it needs maxmemory-policy noeviction, and appendonly yes to outlive a crash.",
        is_secret=True,
    )  # fmt: skip
    run_jobs: bool = setting(
        True, SWITCH, HOOKS,
        "Tell hooks what they are owed in the server itself. false: only tusd-py worker does, in processes of its own.",
    )  # fmt: skip
    progress_hooks_interval: float = setting(
        1.0, Duration(may_be_zero=False), HOOKS,
        "How often hooks hear of an upload that is on its way (post-receive).",
    )  # fmt: skip
    hook_options: dict[str, dict[str, Any]] = field(
        default_factory=dict,
        metadata={
            "kind": Tables(),
            "group": HOOKS,
            "help_text": "For single hooks, by name: use (where it is, if not its name), events, on-failure, timeout,"
            " job-timeout, concurrency, and settings, the table of its own settings. Shown nowhere: there may be"
            " secrets among them.",
            "differs": "",
            "is_secret": True,
        },
        repr=False,
    )

    hooks_http_forward_headers: tuple[str, ...] = setting(
        (), Listing("names of HTTP, separated by commas", check_token), HOOKS,
        "Headers of clients to send along as headers, such as Cookie,Authorization; the body has them all in any case.",
    )  # fmt: skip
    hooks_http_retry: int = setting(
        3, Number(0, 100), HOOKS,
        "How often a POST is sent again after 5xx, 429 or a network error, within hooks-http-timeout.",
    )  # fmt: skip
    hooks_http_backoff: float = setting(
        1.0, Duration(may_be_zero=True), HOOKS, "How long to wait before that, if Retry-After says nothing else.",
    )  # fmt: skip
    hooks_http_timeout: float = setting(
        15.0, Duration(may_be_zero=False), HOOKS, "Longest time of all tries together.",
    )  # fmt: skip
    hooks_http_size_limit: int = setting(
        5120, Size(1), HOOKS, "Longest answer that is read; a longer one is a failure.",
    )  # fmt: skip
    hooks_http_skip_verify: bool = setting(
        False, SWITCH, HOOKS, "Do not verify TLS certificates of receivers. For trying things out.",
    )  # fmt: skip
    hooks_http_secrets: tuple[str, ...] = setting(
        (), Listing("secrets of Standard Webhooks (whsec_...), separated by commas", check_text), HOOKS,
        "Sign each POST by the rules of Standard Webhooks, with each of these: receivers then know who sent it. Two"
        " while you change from one to the next.",
        is_secret=True,
    )  # fmt: skip
    hooks_http_cloudevents: str = setting(
        "", Text("a URI", "URI"), HOOKS,
        "POST events as CloudEvents 1.0 (structured JSON), with tusd's form as their data, and this, such as the URL of"
        " the server, as their source.",
    )  # fmt: skip
    hooks_http_metadata_key: str = setting(
        "", Text("a key of Upload-Metadata"), HOOKS,
        "Clients may name a receiver of their own in this key of their metadata, such as callback. It hears of"
        " post-create, post-finish and post-terminate. Only hosts of hooks-http-allowed-hosts are called, and none in"
        " private networks.",
    )  # fmt: skip
    hooks_http_allowed_hosts: tuple[str, ...] = setting(
        (), Listing("hosts such as hooks.example.com or .example.com, separated by commas", check_text), HOOKS,
        "Hosts that clients may name there; .example.com allows all names below it.",
    )  # fmt: skip
