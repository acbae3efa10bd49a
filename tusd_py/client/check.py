"""The command `tusd-py check URL`: examines what stands between clients and a tus server, and says what to change."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import asdict
from statistics import median

from tusd_py.client import CHECK as NAME
from tusd_py.client import streams
from tusd_py.client.answers import shown
from tusd_py.client.examination import Outcome, examine
from tusd_py.client.interruption import end_at_once
from tusd_py.client.site import Site, Wishes
from tusd_py.client.wire import Wire
from tusd_py.client.words import Words, dashed, endpoint, kept
from tusd_py.config.kinds import Duration, Size
from tusd_py.errors import ConfigError

_WIDTH = 100
_LONGEST_TITLE = 58
_INTERRUPTED = 130
_SHORTEST_BODY = 2 << 20


def run(argv: Sequence[str], help_text: str, tell: Callable[[str], object]) -> int:
    """`argv` are the words after the command. Returns the exit code; raises ConfigError for code 2."""
    words = Words(f"tusd-py {NAME}", help_text)
    words.add_argument("url", nargs="*")
    words.add_argument("--origin", default="")
    words.add_argument("--body-size", type=kept(Size(_SHORTEST_BODY)), default=16 << 20)
    words.add_argument("--pause", type=kept(Duration(may_be_zero=True)), default=5.0)
    given = words.parse_args(dashed(argv, words))
    if given.help:
        tell(help_text)
        return 0
    if len(given.url) != 1:
        raise ConfigError(f"one server at a time, and these are {len(given.url)} words; see tusd-py {NAME} --help")
    if given.origin and endpoint(given.origin) != f"{given.origin}/":
        raise ConfigError(f"--origin {given.origin!r} is no origin; write it as browsers do: https://app.example.com")
    wishes = Wishes(given.origin, given.body_size, given.pause)
    url = endpoint(given.url[0])
    site = Site(Wire(dict(given.header), url), url, wishes)
    try:
        outcome = examine(site, _show_progress, _tell_left)
    except KeyboardInterrupt:
        end_at_once()
        _say("tusd-py: interrupted\n")
        return _INTERRUPTED
    if given.log_format == "json":
        text = json.dumps(_as_object(site, outcome)) + "\n"
    else:
        text = "".join(f"{shown(line)}\n" for part in _table(site, outcome) for line in part.split("\n"))
    why = streams.why_untold(tell, streams.encodable(text, sys.stdout))
    if why:
        _say(f"tusd-py: {why}\n")
    return 1 if outcome.missing or why else 0


def _show_progress(number: int, count: int, title: str) -> None:
    """One line that is written over, for people; the last call takes it away."""
    if sys.stderr.isatty():
        text = f"[{number}/{count}] {title} ..." if count else ""
        _say(f"\r{text[: _WIDTH - 1]:{_WIDTH - 1}}" + ("" if count else "\r"))


def _tell_left(left: list[str]) -> None:
    _say(f"tusd-py: could not be removed again: {shown('; '.join(left))}\n")


def _say(text: str) -> None:
    streams.write(sys.stderr, text)


def _table(site: Site, outcome: Outcome) -> list[str]:
    tls = "TLS with a trusted certificate" if site.endpoint.startswith("https://") else "no TLS"
    by = f", answered by {site.server}" if site.server else ""
    lines = [f"{site.endpoint}: {tls}{by}", ""]
    for each in outcome.findings:
        verdict = "NO" if each.verdict == "no" else each.verdict
        lines.append(f"  {verdict:8} {each.title:{_LONGEST_TITLE}} {each.detail}".rstrip())
    if not outcome.is_whole:
        lines.append("  The rest could not be tried.")
    if site.is_announced:
        offered = f"Extensions: {', '.join(sorted(site.extensions)) or 'none'}"
        lines += ["", textwrap.fill(offered, _WIDTH, subsequent_indent="    ", break_on_hyphens=False)]
    lines += ["", textwrap.fill(f"Latency (median): {_latencies(site)}", _WIDTH, subsequent_indent="    ")]
    traffic = site.wire.traffic
    lines.append(f"Traffic: {traffic.requests} requests, {traffic.sent_bytes / 2**20:.1f} MiB sent")
    follows = _advice(site, outcome)
    if follows:
        lines += ["", "What follows (!: important):"]
        for text in dict.fromkeys(follows):
            lines.append(textwrap.fill(text, _WIDTH, initial_indent="  ", subsequent_indent="    "))
    if outcome.missing:
        lines += ["", "Required, and missing: " + "; ".join(each.title for each in outcome.missing)]
    else:
        lines += ["", "All that is required works."]
    return lines


def _advice(site: Site, outcome: Outcome) -> list[str]:
    follows = []
    if any(each.verdict == "unclear" for each in outcome.findings):
        follows.append("! not all was answered: see whether the server and the way to it are well, and check again")
    for each in outcome.findings:
        if each.advice:
            is_important = each.is_missing or each.advice.startswith("! ")
            follows.append(f"{'!' if is_important else '-'} {each.advice.removeprefix('! ')}")
    if outcome.left:
        follows.append(f"- stays on the server: {'; '.join(outcome.left)}")
    if not site.wishes.origin:
        follows.append("- browsers on other sites were not tried: --origin https://app.example.com does so")
    if site.endpoint.startswith("http://"):
        follows.append("- no TLS: keep http:// to networks where nobody listens, else use https://")
    return sorted(follows, key=lambda text: not text.startswith("!"))


def _latencies(site: Site) -> str:
    seconds = site.wire.traffic.seconds
    return ", ".join(f"{name} {median(each) * 1000:.0f} ms" for name, each in sorted(seconds.items()))


def _as_object(site: Site, outcome: Outcome) -> dict[str, object]:
    traffic = site.wire.traffic
    return {
        "url": site.endpoint,
        "server": site.server,
        "is_usable": not outcome.missing,
        "missing": [each.name for each in outcome.missing],
        "extensions": sorted(site.extensions),
        "max_size": site.max_size,
        "findings": [asdict(each) for each in outcome.findings],
        "left": outcome.left,
        "median_seconds": {name: median(each) for name, each in traffic.seconds.items()},
        "requests": traffic.requests,
        "sent_bytes": traffic.sent_bytes,
    }
