"""All probes in their order, each with its own end whatever the server does; afterwards nothing of it stays there."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tusd_py.client.basics import ENDS, ROAD
from tusd_py.client.bodies import BODIES
from tusd_py.client.fields import FIELDS
from tusd_py.client.findings import Finding, Probe, Result
from tusd_py.client.interruption import deferred
from tusd_py.client.pages import PAGES
from tusd_py.client.site import Site, Unexpected
from tusd_py.client.wire import WireError
from tusd_py.errors import ConfigError

# What the sample is needed for comes before GET, which finishes it.
PROBES: Sequence[Probe] = (*ROAD, *BODIES, *FIELDS, *PAGES, *ENDS)

Report = Callable[[int, int, str], None]


@dataclass(slots=True)
class Outcome:
    findings: list[Finding] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    is_whole: bool = True  # else a probe that all others rest on failed

    @property
    def missing(self) -> list[Finding]:
        return [each for each in self.findings if each.is_missing]


def examine(site: Site, report: Report, report_left: Callable[[list[str]], None]) -> Outcome:
    """Raises ConfigError where there is no tus server to examine. `report_left` hears of what stays, also if this is
    interrupted."""
    outcome = Outcome()
    _greet(site)
    try:
        for number, probe in enumerate(PROBES, 1):
            report(number, len(PROBES), probe.title)
            result = _tried(probe, site)
            if result is None:
                continue
            outcome.findings.append(
                Finding(probe.name, probe.title, result.verdict, result.detail, result.advice, probe.is_required)
            )
            if probe.is_gate and result.verdict != "yes":
                if not site.is_announced and not site.sample and result.verdict == "unclear":
                    raise ConfigError(f"nothing speaks tus at {site.endpoint}: {result.detail}; see what listens there")
                outcome.is_whole = False
                break
    except KeyboardInterrupt:
        site.wire.haste.begin()
        raise
    finally:
        with deferred(site.wire.haste):
            outcome.left = site.remove_all()
            report(0, 0, "")
            if outcome.left:
                report_left(outcome.left)
    return outcome


def _tried(probe: Probe, site: Site) -> Result | None:
    try:
        return probe.find(site)
    except (WireError, Unexpected) as error:
        return Result("unclear", str(error))


def _greet(site: Site) -> None:
    """Reach the host once: what fails here is said in one line, and nothing else is tried."""
    parts = urlsplit(site.endpoint)
    try:
        site.wire.begin("OPTIONS", site.endpoint, {}, None).cut()
    except WireError as error:
        raise ConfigError(
            _unreachable(parts.netloc, parts.scheme, error.__cause__) or f"{parts.netloc}: {error}"
        ) from None


def _unreachable(place: str, scheme: str, cause: BaseException | None) -> str:
    if isinstance(cause, ssl.SSLCertVerificationError):
        why = cause.verify_message
        return (
            f"the certificate of {place} is not trusted: {why}; clients will refuse it, too. Give the server a"
            " certificate for this name with its whole chain, or let SSL_CERT_FILE name the file of your own authority"
        )
    if isinstance(cause, ssl.SSLError):
        return f"TLS with {place} fails ({cause.reason}): see whether that port speaks https, and which TLS versions"
    if isinstance(cause, socket.gaierror):
        return f"the host {place} has no address: correct the URL"
    if isinstance(cause, TimeoutError):
        return f"{place} does not answer: see whether a firewall is in between"
    if isinstance(cause, ConnectionRefusedError):
        return f"nothing listens at {place}: see whether the server runs, and on which address and port"
    if isinstance(cause, ConnectionError) and scheme == "https":
        return f"{place} hung up in the middle of the greeting of TLS: see whether that port speaks https"
    return ""
