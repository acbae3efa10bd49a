"""Probes of CORS: what a browser asks and needs to be told before a page of another site may upload."""

from __future__ import annotations

from collections.abc import Sequence

from tusd_py.client.findings import Probe, Result, no, yes
from tusd_py.client.site import Site
from tusd_py.client.wire import Answer

ASKED = ("tus-resumable", "upload-length", "upload-metadata", "upload-offset", "content-type")
MORE = {"checksum": "upload-checksum", "creation-defer-length": "upload-defer-length", "concatenation": "upload-concat"}
READ = ("location", "upload-offset", "upload-length")
READ_TOO = ("tus-version", "tus-resumable", "tus-extension", "tus-max-size", "upload-metadata")
DOUBLE = (
    "proxy and server both add CORS headers, and browsers refuse two: let one of them do it"
    " (nginx: proxy_hide_header Access-Control-Allow-Origin, or tusd-py --disable-cors)"
)


def preflight(site: Site) -> Result | None:
    """Browsers send no login with it: neither do we."""
    if not site.wishes.origin:
        return None
    asked = (*ASKED, *(name for extension, name in MORE.items() if extension in site.extensions))
    sample = site.reach(site.sample)
    problems: list[str] = []
    for url, method in ((site.endpoint, "POST"), (sample, "PATCH"), (sample, "HEAD"), (sample, "DELETE")):
        if method == "DELETE" and "termination" not in site.extensions:
            continue
        told = {
            "Origin": site.wishes.origin,
            "Access-Control-Request-Method": method,
            "Access-Control-Request-Headers": ",".join(sorted(asked)),
        }
        answer = site.wire.ask("OPTIONS", url, told, is_bare=True)
        problems += _refused(answer, method, asked, site.wishes.origin)
    if not problems:
        return yes(f"for {site.wishes.origin}")
    return no("; ".join(dict.fromkeys(problems)), _advice(problems))


def _refused(answer: Answer, method: str, asked: Sequence[str], origin: str) -> list[str]:
    if not answer.is_success:
        return [f"the preflight of {method}: {answer}"]
    problems = _origin(answer, origin)
    allowed = answer.names("access-control-allow-methods")
    if method not in ("POST", "HEAD") and not allowed & {method.lower(), "*"}:
        problems.append(f"{method} is not allowed")
    headers = answer.names("access-control-allow-headers")
    lacking = [name for name in asked if name not in headers] if "*" not in headers else []
    if lacking:
        problems.append(f"not allowed: {', '.join(lacking)}")
    return problems


def _origin(answer: Answer, origin: str) -> list[str]:
    allowed = answer.headers_named("access-control-allow-origin")
    if len(allowed) > 1 or (allowed and "," in allowed[0]):
        return ["Access-Control-Allow-Origin is there twice"]
    if not allowed or allowed[0] not in (origin, "*"):
        return [f"Access-Control-Allow-Origin is {allowed[0] if allowed else 'missing'}"]
    return []


def _advice(problems: Sequence[str]) -> str:
    if any("twice" in problem for problem in problems):
        return DOUBLE
    return (
        "browsers stop pages of that site before the first byte: allow its origin, the methods and the headers"
        " (tusd-py: --cors-allow-origin; a proxy that answers OPTIONS itself, or wants a login for it, must not)"
    )


def exposed(site: Site) -> Result | None:
    """Answers that pages may read, errors included, and the headers of them."""
    if not site.wishes.origin:
        return None
    told = {"Origin": site.wishes.origin}
    created = site.create(site.capped(1000), told)
    sample = site.reach(created.header("location") or site.sample)
    answers = [created, site.head(sample, told), site.head(f"{sample}-not-there", told)]
    problems = [f"{each.method}: {problem}" for each in answers for problem in _origin(each, site.wishes.origin)]
    readable = created.names("access-control-expose-headers")
    hidden = [name for name in READ if name not in readable] if "*" not in readable else []
    minor = [name for name in READ_TOO if name not in readable] if "*" not in readable else []
    if hidden:
        problems.append(f"pages cannot read {', '.join(hidden)}")
    if problems:
        advice = (
            DOUBLE
            if any("twice" in problem for problem in problems)
            else "pages of that site do not see what was answered, and cannot resume: send Access-Control-Allow-Origin"
            f" and Access-Control-Expose-Headers ({', '.join((*READ, *READ_TOO))}) with every answer, errors too"
            " (nginx: add_header ... always)"
        )
        return no("; ".join(dict.fromkeys(problems)), advice)
    return yes("", f"pages cannot read {', '.join(minor)}: expose them too" if minor else "")


PAGES: Sequence[Probe] = (
    Probe("cors_preflight", "Browsers let pages ask (CORS preflight)", preflight),
    Probe("cors_answers", "Pages can read the answers (CORS)", exposed),
)
