"""Probes of headers: those that a proxy may drop, shorten or forge on the way, and the clock that some depend on."""

from __future__ import annotations

import email.utils
import hashlib
from base64 import b64encode
from collections.abc import Callable, Sequence

from tusd_py.client.findings import Probe, Result, no, unclear, yes
from tusd_py.client.site import OFFSET_TYPE, TUS, Site, Unexpected, stretch
from tusd_py.client.wire import WireError

VALUE_BYTES = 3000  # 4 KB in base64
SKEW_SECONDS = 60.0
LENGTH = 1000


def metadata(site: Site) -> Result:
    told = f"filename {b64encode(b'check.bin').decode()},note {b64encode(b'x' * VALUE_BYTES).decode()}"
    advice = (
        "names and types of files get lost or refused: let the proxy pass headers of 4 KB and more"
        ", both ways (nginx: large_client_header_buffers 4 64k; proxy_buffer_size 64k; proxy_buffers 8 64k; tusd-py:"
        " --max-header-size)"
    )
    try:
        url = site.new(site.capped(LENGTH), {"Upload-Metadata": told})
    except (Unexpected, WireError) as error:
        return no(str(error), advice)
    answer = site.head(url)
    if not answer.is_success:
        return no(f"taken, but then {answer}", advice)
    came_back = answer.header("upload-metadata")
    if _pairs(came_back) == _pairs(told):
        return yes("4 KB, there and back")
    if not came_back:
        return no("it does not come back from HEAD", advice)
    return no("it comes back changed", advice)


def _pairs(raw: str) -> set[str]:
    return {pair.strip() for pair in raw.split(",")}


def answers(site: Site) -> Result:
    """Each answer has the header that says it is one of tus, as clients of other languages check."""
    url = site.new(site.capped(LENGTH))
    asked = [site.head(url), site.append(url, 0, stretch(0, site.capped(LENGTH)))]
    without = [answer.method for answer in asked if not answer.is_from_tus]
    if without:
        lack = f"Tus-Resumable is missing from answers to {', '.join(without)}"
        return no(lack, f"{lack}: a proxy takes it away; some clients then refuse to go on")
    return yes()


def checksum(site: Site) -> Result | None:
    """A wrong one must be refused, and nothing counted; if it is not, the header does not arrive."""
    if "checksum" not in site.extensions:
        return None
    algorithm = next((name for name in ("sha1", "sha256", "md5", "sha512") if name in site.algorithms), "")
    if not algorithm:
        return unclear(f"offers only {', '.join(sorted(site.algorithms)) or 'unnamed algorithms'}")
    body = stretch(0, site.capped(LENGTH))
    digest: Callable[[bytes], str] = lambda data: b64encode(hashlib.new(algorithm, data).digest()).decode()  # noqa: E731
    url = site.new(len(body))
    wrong = site.append(url, 0, body, {"Upload-Checksum": f"{algorithm} {digest(b'other')}"})
    if wrong.is_success:
        return no(
            "a wrong one is taken",
            "Upload-Checksum does not arrive, or is not looked at: spoilt bytes would be stored as good ones; let the"
            " proxy pass the header",
        )
    if (offset := site.offset(url)) != 0:
        return no(f"refused ({wrong.status}), but offset is {offset}", "bytes of a wrong checksum are counted")
    right = site.append(url, 0, body, {"Upload-Checksum": f"{algorithm} {digest(body)}"})
    if not right.is_success:
        return no(f"a right one: {right}", "right checksums are refused: something on the way changes bodies")
    if wrong.status != 460:
        return yes(f"{algorithm}; refused with {wrong.status}, and not with 460")
    return yes(algorithm)


def defer_length(site: Site) -> Result | None:
    if "creation-defer-length" not in site.extensions:
        return None
    answer = site.create(0, {"Upload-Length": "", "Upload-Defer-Length": "1"})
    if answer.status != 201:
        return no(str(answer), "uploads of unknown length fail, though they are offered: Upload-Defer-Length is lost")
    if site.head(site.reach(answer.header("location"))).header("upload-defer-length") != "1":
        return no("HEAD does not tell it", "a proxy takes Upload-Defer-Length from answers: let it pass")
    return yes()


def override(site: Site) -> Result:
    length = site.capped(LENGTH)
    url = site.new(length)
    told = {**TUS, **OFFSET_TYPE, "Upload-Offset": "0", "X-HTTP-Method-Override": "PATCH"}
    answer = site.wire.ask("POST", url, told, stretch(0, length))
    if answer.status == 204:
        return yes()
    return no(str(answer), "clients where PATCH is blocked cannot use POST with X-HTTP-Method-Override instead")


def clock(site: Site) -> Result:
    answer = site.head(site.reach(site.sample))
    date = _instant(answer.header("date"))
    if date is None:
        return unclear("no Date in answers")
    expires = _instant(answer.header("upload-expires"))
    skew = date - answer.wall_time
    if abs(skew) > SKEW_SECONDS:
        where = "ahead of" if skew > 0 else "behind"
        return no(
            f"{abs(skew):,.0f} s {where} the one here",
            "the clocks differ: clients misjudge Upload-Expires, signatures and tokens fail; set both by NTP",
        )
    if expires is not None and expires <= answer.wall_time:
        return no("Upload-Expires is in the past", "new uploads expire at once: clients give them up; see the server")
    return yes(f"{abs(skew):.0f} s apart" if abs(skew) >= 2 else "")


def _instant(text: str) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(text).timestamp() if text else None
    except (ValueError, OverflowError):  # of the year 1, say
        return None


FIELDS: Sequence[Probe] = (
    Probe("metadata", "Upload-Metadata passes", metadata),
    Probe("answers", "Tus-Resumable comes back", answers),
    Probe("checksum", "Checksums are verified", checksum),
    Probe("defer_length", "The length may come later", defer_length, is_required=False),
    Probe("override", "POST can stand in for PATCH", override, is_required=False),
    Probe("clock", "Clocks agree", clock, is_required=False),
)
