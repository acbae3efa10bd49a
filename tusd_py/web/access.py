"""Who may see what of uploads, beside tus itself: the one place that decides it.

Whoever has an upload's id has the upload: ids are 128 random bits, told to nobody but its creator. All of them at once
are shown only where the operator says so, and to no page of another site: it would read the keys to everything.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.types import Scope

from tusd_py.core.events import AccessMode
from tusd_py.core.upload import UploadId
from tusd_py.core.uploads import Uploads
from tusd_py.errors import Refused, RequestError
from tusd_py.protocol.headers import Headers
from tusd_py.web.requests import Proxies, caller_of, headers_of


@dataclass(frozen=True, slots=True)
class Access:
    """`hosts`: names of this server, in lower case. Hooks have a say in all of it (pre-access)."""

    uploads: Uploads
    proxies: Proxies
    may_list: bool = False
    hosts: frozenset[str] = frozenset()

    async def check_upload(self, scope: Scope, upload_id: UploadId) -> None:
        """Raise what a request for this upload's state earns if it may not see it. Nobody is kept from what is not
        there."""
        with suppress(RequestError):
            await self.uploads.check_access(AccessMode.READ, upload_id, caller_of(scope))

    async def check_all(self, scope: Scope) -> None:
        """The same for the states of all uploads."""
        if not self.may_list:
            raise _refused("this server does not list its uploads; its operator may turn that on with --list-uploads")
        headers = headers_of(scope)
        origin = self.proxies.origin(scope, headers)
        self._refuse_strangers(headers, origin)
        await self.uploads.check_access(AccessMode.LIST, None, caller_of(scope))

    def _refuse_strangers(self, headers: Headers, origin: str) -> None:
        if headers.joined("origin") not in (None, origin) or _is_fetched_by_another_site(headers):
            raise _refused("uploads are not listed to pages of other sites")
        if not self._is_own(origin):
            host = (urlsplit(origin).hostname or "").rstrip(".")
            raise _refused(
                f"uploads are not listed under the name {host} without TLS: anybody may make a name lead here, and then"
                f" read them in your browser. Use TLS or the IP address, or run the server with --list-hosts {host}"
            )

    def _is_own(self, origin: str) -> bool:
        """False for names that may be a stranger's, which his page was loaded under before he made it lead here (DNS
        rebinding). He has no certificate for ours, nor names without a dot."""
        url = urlsplit(origin)
        host = (url.hostname or "").rstrip(".")
        return url.scheme == "https" or "." not in host or host in self.hosts or _is_address(host)


def _is_fetched_by_another_site(headers: Headers) -> bool:
    """Links may lead here from everywhere: they show what is here to none but who follows them."""
    return headers.joined("sec-fetch-site") in ("cross-site", "same-site") and (
        headers.joined("sec-fetch-mode") != "navigate"
    )


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _refused(reason: str) -> Refused:
    return Refused(reason, code="ERR_LISTING_REFUSED")
