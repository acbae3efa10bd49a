"""Probes of bodies: whether they stream through, how large they may be, how long they may pause, who may take over."""

from __future__ import annotations

import time
from collections.abc import Sequence

from tusd_py.client.findings import Probe, Result, no, unclear, yes
from tusd_py.client.site import BUSY, Site, Unexpected, stretch
from tusd_py.client.wire import Answer, Request, WireError

MIB = 1 << 20
PARTIAL_BYTES = 4 * MIB
SMALL_BYTES = MIB // 2
SETTLE_SECONDS = 0.5
COUNT_SECONDS = 6.0
STEADY_SECONDS = 1.5
EARLY_SECONDS = 3.0
SLOW_ANSWER_SECONDS = 60.0
TAKEOVER_SECONDS = 20.0
LOOK_SECONDS = 0.1
MODEST_BYTES = 2 * MIB

STREAM = (
    "let the proxy pass bodies on as they come (nginx: proxy_request_buffering off; proxy_http_version 1.1;"
    " HAProxy: no option http-buffer-request; Traefik: no buffering middleware; Caddy: no request_buffers)"
)
UNLIMIT = (
    "raise the limit of the proxy (nginx: client_max_body_size 0; Traefik: no maxRequestBodyBytes; Caddy: no"
    " request_body max_size; Apache: LimitRequestBody 0), or let clients send smaller chunks: chunkSize of"
    " tus-js-client and Uppy, --chunk-size of tusd-py upload"
)
WAIT = (
    "raise the time limit for bodies (nginx: client_body_timeout and proxy_send_timeout; Traefik:"
    " respondingTimeouts.readTimeout=0; HAProxy: timeout client; tusd-py: --network-timeout)"
)


def partial(site: Site) -> Result:
    """What a cut connection brought must count: a proxy that collects bodies has passed nothing on (failures F38).

    Large, so that it does not fit into some buffer; then below 1 MiB, where a larger body is refused at once."""
    for length in (site.capped(PARTIAL_BYTES), site.capped(SMALL_BYTES)):
        sent = length * 3 // 4
        url = site.new(length)
        early = _cut_in_the_middle(site, url, length, sent)
        if early is None:
            return _judged(site, _counted(site, url, sent), sent, length)
    return unclear(f"not tried: {early}")


def _cut_in_the_middle(site: Site, url: str, length: int, sent: int) -> Answer | None:
    """An answer that came before all was sent is returned."""
    with site.begin_append(url, 0, length) as request:
        request.send(stretch(0, sent))
        request.let_go()
        time.sleep(SETTLE_SECONDS)
        return request.early_answer()


def _judged(site: Site, found: int, sent: int, length: int) -> Result:
    if found > sent:
        return no(f"{found:,} of {sent:,} bytes that were sent", "! more bytes are counted than were sent")
    if found >= sent // 2:
        return yes("all that was sent" if found == sent else f"{found:,} of {sent:,} bytes that were sent")
    lost = "nothing" if not found else f"only {found:,}"
    why = f"{lost} of the {sent:,} bytes that were sent before a cut"
    if not found and _answers_early(site, length):
        return no(
            why,
            "what a cut connection brought is thrown away, by the tus server itself it seems, since it is asked before"
            " bodies are complete: each cut costs all of a PATCH; let clients send small chunks",
        )
    return no(
        why,
        "a proxy collects whole bodies before it passes them on (or the server throws away what a cut connection"
        f" brought): each cut costs all of a PATCH, and progress shown to people is a lie; {STREAM}",
    )


def _counted(site: Site, url: str, sent: int) -> int:
    """The offset when it has settled. The server may learn of the cut only after a while."""
    begun = changed_at = time.monotonic()
    best = 0
    while time.monotonic() - begun < COUNT_SECONDS:
        offset = site.offset(url)
        if offset >= sent:
            return offset
        if offset != best:
            best, changed_at = offset, time.monotonic()
        elif best and time.monotonic() - changed_at > STEADY_SECONDS:
            break
        time.sleep(LOOK_SECONDS)
    return best


def _answers_early(site: Site, length: int) -> bool:
    """Whether a wrong offset is refused before the body is whole: then the tus server saw the head without it."""
    url = site.new(length)
    with site.begin_append(url, length - 1, length) as request:
        request.send(stretch(0, length // 8))
        try:
            return request.answer(EARLY_SECONDS).is_from_tus
        except WireError:
            return False


def sizes(site: Site) -> Result:
    """Bodies in one piece, the modest one first: which limit there is shows by which of them fails."""
    wanted = sorted({site.capped(MODEST_BYTES), site.capped(site.wishes.body_bytes)})
    passed = 0
    for size in wanted:
        url = site.new(size)
        try:
            answer = _append_whole(site, url, size)
        except WireError as error:
            return _too_large(passed, size, str(error))
        if answer.status == 413 or not answer.is_success:
            return _too_large(passed, size, str(answer))
        if site.offset(url) != size:
            return no(f"of {_mib(size)} only {site.offset(url):,} bytes arrived", f"bodies are cut short: {UNLIMIT}")
        passed = size
    return yes(f"{_mib(passed)} in one piece")


def _append_whole(site: Site, url: str, size: int) -> Answer:
    with site.begin_append(url, 0, size) as request:
        for start in range(0, size, MIB):
            request.send(stretch(start, min(MIB, size - start)))
        request.let_go()
        return request.answer(SLOW_ANSWER_SECONDS)


def _too_large(passed: int, size: int, said: str) -> Result:
    good = f"{_mib(passed)} in one piece, but " if passed else ""
    return no(f"{good}{_mib(size)}: {said}", f"a body of {_mib(size)} does not get through: {UNLIMIT}")


def chunked(site: Site) -> Result:
    length = site.capped(SMALL_BYTES)
    url = site.new(length)
    with site.begin_append(url, 0, None, {"Transfer-Encoding": "chunked"}) as request:
        request.send(stretch(0, length), is_chunked=True)
        request.end_chunks()
        answer = request.answer()
    if answer.status == 204 and site.offset(url) == length:
        return yes()
    advice = "clients that stream without knowing the length (curl -T -, Node) fail: let the proxy speak HTTP/1.1"
    return no(str(answer), f"{advice} with chunked bodies (nginx: proxy_http_version 1.1)")


def pause(site: Site) -> Result:
    length = site.capped(SMALL_BYTES)
    url = site.new(length)
    seconds = site.wishes.pause_seconds
    with site.begin_append(url, 0, length) as request:
        request.send(stretch(0, length // 2))
        time.sleep(seconds)
        request.send(stretch(length // 2, length - length // 2))
        try:
            answer = request.answer(SLOW_ANSWER_SECONDS)
        except WireError as error:
            return no(str(error), f"a body that pauses for {seconds:g} s is cut: {WAIT}")
    if answer.status == 204 and answer.number("upload-offset") == length:
        return yes(f"for {seconds:g} s")
    return no(str(answer), f"a body that pauses for {seconds:g} s is refused: {WAIT}")


def takeover(site: Site) -> Result:
    """The old connection is still open, as after a change of networks: who comes back must get the upload."""
    length = site.capped(SMALL_BYTES)
    url = site.new(length)
    with site.begin_append(url, 0, length) as old:
        old.send(stretch(0, length // 4))
        old.let_go()
        time.sleep(SETTLE_SECONDS)
        return _taken_over(site, url, length, old)


def _taken_over(site: Site, url: str, length: int, old: Request) -> Result:
    begun = time.monotonic()
    said = ""
    advice = (
        "the dead connection of a client that comes back keeps its upload locked: clients see errors until some"
        " timeout; let the server (and the proxy) give up silent requests sooner"
    )
    while (took := time.monotonic() - begun) < TAKEOVER_SECONDS:
        try:
            offset = site.offset(url)
            answer = site.append(url, offset, stretch(offset, length - offset))
        except (WireError, Unexpected) as error:
            said = str(error)
            time.sleep(LOOK_SECONDS)
            continue
        took = time.monotonic() - begun
        if answer.status == 204:
            if site.offset(url) != length:
                return no("bytes are missing afterwards", "! the old request spoilt what the new one wrote")
            return yes(f"after {took:.1f} s", advice if took > 5 else "")
        said = str(answer)
        if answer.status not in BUSY | {400, 404, 500}:
            break
        time.sleep(LOOK_SECONDS)
    old.cut()
    return no(f"not after {took:.0f} s: {said}", advice)


def expect(site: Site) -> Result:
    length = site.capped(1000)
    url = site.new(length)
    with site.begin_append(url, 0, length, {"Expect": "100-continue"}) as request:
        time.sleep(LOOK_SECONDS)
        request.send(stretch(0, length))
        answer = request.answer()
    if answer.status == 204:
        return yes()
    return no(str(answer), "clients that send Expect: 100-continue (curl, .NET) fail: let the proxy pass or drop it")


def _mib(size: int) -> str:
    return f"{size / MIB:.3g} MiB" if size < 1000 * MIB else f"{size / MIB / 1024:.3g} GiB"


BODIES: Sequence[Probe] = (
    Probe("partial", "What came before a cut counts", partial),
    Probe("sizes", "Large bodies pass", sizes),
    Probe("pause", "A body may pause", pause),
    Probe("takeover", "Who comes back gets the upload, old connection still open", takeover),
    Probe("chunked", "Bodies without Content-Length pass", chunked, is_required=False),
    Probe("expect", "Expect: 100-continue passes", expect, is_required=False),
)
