"""Who may see what of uploads, beside tus itself: the one place that decides it.

Whoever has an upload's id has the upload: ids are 128 random bits, told to nobody but its creator. All of them at once
are shown only where the operator says so.
"""

from __future__ import annotations

from dataclasses import dataclass

from starlette.types import Scope

from tusd_py.core.upload import UploadId
from tusd_py.errors import Refused
from tusd_py.web.requests import Proxies, headers_of


@dataclass(frozen=True, slots=True)
class Access:
    proxies: Proxies
    may_list: bool = False

    async def check_upload(self, _scope: Scope, _upload_id: UploadId) -> None:
        """Raise what a request for this upload's state earns if it may not see it."""

    async def check_all(self, scope: Scope) -> None:
        """The same for the states of all uploads."""
        if not self.may_list:
            raise Refused(
                "this server does not list its uploads; its operator may turn that on with --list-uploads",
                code="ERR_LISTING_REFUSED",
            )
        # A page of another site, open in a browser that can reach us, could else read the keys to everything.
        headers = headers_of(scope)
        origin = headers.joined("origin")
        if origin is not None and origin != self.proxies.origin(scope, headers):
            raise Refused("uploads are not listed to pages of other sites", code="ERR_LISTING_REFUSED")
