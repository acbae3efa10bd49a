"""Probes of what every upload needs: the way there, creation, a Location that can be used, offsets that are fresh."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from urllib.parse import urlsplit

from tusd_py.client.answers import REDIRECTS, address
from tusd_py.client.findings import Probe, Result, no, unclear, yes
from tusd_py.client.site import OFFSET_TYPE, TUS, VERSION, Site, Unexpected, Way, stretch
from tusd_py.client.wire import Answer, WireError
from tusd_py.errors import ConfigError

SAMPLE_BYTES = 3000
FIRST_BYTES = 1000
FORWARD = (
    "let the proxy send X-Forwarded-Proto and X-Forwarded-Host (nginx: proxy_set_header X-Forwarded-Proto $scheme;"
    " proxy_set_header X-Forwarded-Host $http_host;) and let the server believe them (tusd-py: --behind-proxy"
    " --trusted-proxies <the proxy's address>; tusd: -behind-proxy)"
)


def direct(site: Site) -> Result:
    answer = _first_post(site)
    if answer.status not in REDIRECTS:
        site.created = answer
        return yes()
    try:
        target = address(site.endpoint, answer.header("location"))
    except ValueError as error:
        raise ConfigError(f"{site.endpoint} redirects to an address that cannot be used: {error}") from None
    here, there = urlsplit(site.endpoint), urlsplit(target)
    if here.hostname != there.hostname or (here.scheme == "https" and there.scheme != "https"):
        # Not without being asked: what goes there could be a login.
        raise ConfigError(f"{site.endpoint} redirects to {target}, and uploads do not follow: check that address")
    came_from, site.endpoint = site.endpoint, target
    site.created = _first_post(site)
    turns = "most clients repeat it as a GET" if answer.status < 307 else "not all clients send the body again"
    return no(
        f"{answer.status} to {target}",
        f"{came_from} redirects: of a redirected POST or PATCH {turns}; give clients {target} as the endpoint",
    )


def _first_post(site: Site) -> Answer:
    return site.create(site.capped(SAMPLE_BYTES), {"Upload-Metadata": "filename Y2hlY2suYmlu"})


def options(site: Site) -> Result:
    answer = site.wire.ask("OPTIONS", site.endpoint, {})
    versions = answer.names("tus-version")
    site.server = answer.header("server")
    if not versions:
        return no(
            str(answer) if not answer.is_success else f"{answer.method} answered {answer.status} without Tus-Version",
            "OPTIONS does not reach the tus server, or its headers do not come back: clients cannot ask for its"
            " extensions, and browsers on other sites are refused; pass OPTIONS on to it",
        )
    site.is_announced = True
    site.extensions = frozenset(answer.names("tus-extension"))
    site.algorithms = frozenset(answer.names("tus-checksum-algorithm"))
    site.max_size = answer.number("tus-max-size") or None
    if VERSION not in versions:
        return no(f"it speaks {', '.join(sorted(versions))}", f"clients speak tus {VERSION}, and this server does not")
    limit = f"up to {site.max_size:,} bytes" if site.max_size else "no limit told"
    return yes(limit)


def create(site: Site) -> Result:
    answer = site.created or _first_post(site)
    site.created = answer
    if answer.status == 201 and answer.header("location"):
        site.sample = answer.header("location")
        return yes()
    if answer.status == 201:
        return no("201 without Location", "the header Location is taken out on the way: let it pass")
    if answer.status == 404 or not (site.is_announced or answer.is_from_tus):
        refuse_stranger(site, answer)
    return no(str(answer), _why_not_created(answer))


def refuse_stranger(site: Site, answer: Answer) -> None:
    """Code 2: there is nothing to examine. Always raises."""
    if answer.is_from_tus:
        raise ConfigError(
            f"nothing creates uploads at {site.endpoint}: {answer}; give the URL that does, as in https://host/files/"
        )
    if answer.status in (401, 403, 407):
        raise ConfigError(f"{answer}: if it wants a login, give it: --header 'Authorization: Bearer ...'")
    hint = "see whether that port speaks https" if answer.status == 400 else "see whether the server behind it runs"
    raise ConfigError(
        f"nothing speaks tus at {site.endpoint}: {answer}; give the URL that creates uploads,"
        f" as in https://host/files/, and {hint}"
    )


def _why_not_created(answer: Answer) -> str:
    if answer.status in (401, 403):
        return "creation is refused: if it wants a login, give it: --header 'Authorization: Bearer ...'"
    if answer.status == 405:
        return "POST is not allowed: let the proxy pass all of POST, HEAD, PATCH, DELETE, OPTIONS and GET"
    if answer.status == 412:
        return "the header Tus-Resumable does not arrive, or another version is spoken: let the proxy pass all headers"
    if answer.status in (502, 503, 504):
        return "the proxy does not reach the tus server: see whether it runs, and what address the proxy has for it"
    return "uploads cannot be created: see the log of the server"


def location(site: Site) -> Result:
    """Looks for a way to the upload in any case, so that the rest can be tried."""
    try:
        given = site.given(site.sample)
    except WireError as error:
        return no(str(error), "the upload cannot be found: Location has to be an http or https URL, or a path")
    here, there = urlsplit(site.endpoint), urlsplit(given)
    # Where TLS would end, nothing is sent: it could be a login.
    is_bare = here.scheme == "https" and there.scheme != "https"
    ways: tuple[Way, ...] = ("our origin", "our path") if is_bare else ("as given", "our origin", "our path")
    said = "no answer"
    for way in ways:
        site.way = way
        if way != "as given" and site.reach(site.sample) == given:
            continue
        try:
            answer = site.head(site.reach(site.sample))
        except WireError as error:
            said = str(error)
            continue
        said = str(answer)
        if answer.is_success:
            break
    else:
        site.way = ways[0]
        return no(f"{given}: {said}", "the upload cannot be found under the Location it was given; " + FORWARD)
    if site.way == "our path":
        return no(
            f"{given} is not there",
            "Location has another path than clients use: the proxy must not change paths, or the server must know"
            f" the one outside (tusd-py: --base-path {here.path})",
        )
    if here.scheme != there.scheme:
        return no(
            f"{given}, though clients use {here.scheme}://",
            f"Location says {there.scheme}:// and browsers refuse to mix, or the first PATCH is redirected and its"
            f" body lost: {FORWARD}",
        )
    if site.way == "our origin":
        return no(f"{given} cannot be reached", f"Location names a host that clients do not reach: {FORWARD}")
    if here.netloc.lower() != there.netloc.lower():
        return yes(
            f"on another host: {there.netloc}", f"Location names {there.netloc}; if that is not meant, {FORWARD}"
        )
    return yes("relative" if "://" not in site.sample else "")


def head(site: Site) -> Result:
    answer = site.head(site.reach(site.sample))
    length = site.capped(SAMPLE_BYTES)
    told = [answer.number(name) for name in ("upload-offset", "upload-length")]
    if told == [0, length]:
        return yes()
    lost = [name for name in ("Upload-Offset", "Upload-Length") if name.lower() not in answer.headers]
    if answer.is_success and lost:
        return no(f"without {' and '.join(lost)}", "a proxy takes headers of answers away: clients cannot resume")
    return no(
        f"{answer}; offset and length {told}, and not [0, {length}]",
        "HEAD does not tell what was just created: something else answers it, as a cache would;"
        " pass HEAD on to the tus server, each time",
    )


def append(site: Site) -> Result:
    """PATCH, or POST that says so; from here on what works is used."""
    url = site.reach(site.sample)
    body = stretch(0, min(FIRST_BYTES, site.capped(SAMPLE_BYTES)))
    try:
        answer = site.append(url, 0, body)
        if answer.status == 204 and answer.number("upload-offset") == len(body):
            return yes()
        if answer.status == 204:
            return no(
                f"204 with Upload-Offset {answer.header('upload-offset') or 'missing'}",
                "a proxy takes Upload-Offset from answers, or changes bodies: clients cannot go on",
            )
        said = str(answer)
    except WireError as error:
        said = str(error)
    site.is_overriding = True
    advice = "PATCH is blocked: let the proxy pass all of POST, HEAD, PATCH, DELETE and OPTIONS, with all headers"
    answer = site.append(url, 0, body)
    if answer.status == 204:
        return no(f"{said}; it works as POST", f"{advice}; until then clients can send X-HTTP-Method-Override: PATCH")
    site.is_overriding = False
    return no(said, advice)


def fresh(site: Site) -> Result:
    url = site.reach(site.sample)
    expected = min(FIRST_BYTES, site.capped(SAMPLE_BYTES))
    answer = site.head(url)
    found = answer.number("upload-offset")
    if found != expected:
        return no(
            f"offset {found} after a PATCH to {expected}",
            "a cache answers HEAD from its memory, and clients go on at the wrong place: turn caching off for uploads",
        )
    if "no-store" not in answer.names("cache-control"):
        return yes(
            "now, but Cache-Control: no-store is missing",
            "HEAD comes without Cache-Control: no-store, so that some cache may answer it later: let the header pass",
        )
    return yes()


def download(site: Site) -> Result:
    """Finishes the sample, and compares what is served."""
    url = site.reach(site.sample)
    length = site.capped(SAMPLE_BYTES)
    if (offset := site.offset(url)) < length:
        answer = site.append(url, offset, stretch(offset, length - offset))
        if answer.status != 204:
            raise Unexpected(answer)
    answer = site.wire.ask("GET", url, {"Accept-Encoding": "identity"})
    if not answer.is_success:
        return no(f"not served ({answer.status})")
    if sha256(answer.body).digest() != sha256(stretch(0, length)).digest():
        return no(
            f"{len(answer.body):,} other bytes than the {length:,} that were sent",
            "! what is downloaded is not what was uploaded: something on the way changes bodies, or the upload's URL"
            " leads elsewhere",
        )
    return yes("with the same bytes")


def terminate(site: Site) -> Result:
    if "termination" not in site.extensions and site.is_announced:
        return no("not offered", "clients cannot remove uploads, this check cannot either: what it made stays there")
    url = site.new(site.capped(SAMPLE_BYTES))
    answer = site.wire.ask("DELETE", url, TUS)
    if not answer.is_success:
        return no(str(answer), "DELETE is blocked, though the server offers it: let the proxy pass it")
    gone = site.head(url)
    if gone.status in (404, 410):
        return yes()
    return unclear(f"HEAD answered {gone.status} afterwards")


def creation_with_upload(site: Site) -> Result | None:
    if "creation-with-upload" not in site.extensions:
        return None
    length = site.capped(SAMPLE_BYTES)
    answer = site.create(length, OFFSET_TYPE, stretch(0, length))
    if answer.status == 201 and answer.number("upload-offset") == length:
        return yes()
    if answer.status == 201 and site.offset(site.reach(answer.header("location"))) == length:
        return no("Upload-Offset is missing", "a proxy takes Upload-Offset from the answer to POST: let it pass")
    return no(str(answer), "a POST with a body does not work, though the server offers it: see what the proxy refuses")


ROAD: Sequence[Probe] = (
    Probe("options", "OPTIONS tells what the server offers", options, is_required=False),
    Probe("direct", "No redirect on the way", direct),
    Probe("create", "Uploads can be created", create, is_gate=True),
    Probe("location", "Location is right, and leads to the upload", location),
    Probe("head", "HEAD tells offset and length", head, is_gate=True),
    Probe("append", "PATCH appends", append),
    Probe("fresh", "HEAD is fresh after a PATCH", fresh),
)

ENDS: Sequence[Probe] = (
    Probe("creation_with_upload", "POST may bring bytes", creation_with_upload, is_required=False),
    Probe("download", "GET serves what was uploaded", download, is_required=False),
    Probe("terminate", "DELETE removes an upload", terminate, is_required=False),
)
