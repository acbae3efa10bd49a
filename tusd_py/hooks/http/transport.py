"""The way to a hook that is an HTTP receiver: what is sent to it, how often it is tried, and how long that may take.

Beyond tusd: a success without a body means go on, other answers than 500s that ask for patience are tried again, and
the receiver can tell who sends (signatures) and what it has had already (keys).
"""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import replace
from urllib.parse import quote
from uuid import uuid4

from tusd_py import __version__
from tusd_py.core.events import EventType
from tusd_py.errors import ConfigError
from tusd_py.hooks.contract import GO_ON, Answer, Event, HookError, Request
from tusd_py.hooks.http.addresses import Address, Resolve, public_only, read_address, read_named_address, resolve
from tusd_py.hooks.http.client import Client, Progress
from tusd_py.hooks.http.cloudevents import MEDIA_TYPE, wrap
from tusd_py.hooks.http.connection import TryAgain
from tusd_py.hooks.http.replies import read_reply
from tusd_py.hooks.http.settings import ReceiverSettings
from tusd_py.hooks.http.signing import Signer
from tusd_py.hooks.wire import encode_event

_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_PLAIN = "!#$&'()*+,/:;=?@[]~"


class Receiver:
    """A `Transport`. Raises ConfigError already when it is made."""

    def __init__(self, settings: ReceiverSettings, resolve: Resolve = resolve) -> None:
        settings.check()
        self._settings = settings
        self._signer = Signer(settings.secrets)
        self._allowed = settings.allowed()
        self._address = self._read_url() if settings.url else None
        self._client = Client(
            most_body_bytes=settings.size_limit_bytes,
            max_connections=settings.max_connections,
            resolve=resolve if self._address else public_only(resolve),
            keeps_alive=self._address is not None,
        )

    @property
    def name(self) -> str:
        return self._settings.name

    @property
    def events(self) -> frozenset[EventType]:
        return self._settings.events

    async def start(self) -> None:
        if self._address is None or self._address.is_tls:
            self._client.trust(skip_verify=self._settings.skip_verify)

    async def call(self, event: Event) -> Answer:
        """Tries for `timeout_seconds` at most."""
        if self._address is not None:
            return await self._deliver(self._address, event)
        key = self._settings.metadata_key
        named = event.upload.metadata.get(key)
        if not named:
            return GO_ON
        try:
            address = read_named_address(named, self._allowed)
        except ValueError as error:
            raise HookError(f"the address in the upload's {key} {error}", is_final=True) from None
        # Whom a client named hears nothing of the client's request (its cookies), nor where we store.
        return await self._deliver(address, replace(event, request=Request(), upload=replace(event.upload, storage={})))

    async def aclose(self) -> None:
        await self._client.aclose()

    def _read_url(self) -> Address:
        try:
            return read_address(self._settings.url)
        except ValueError as error:
            raise ConfigError(f"the URL of the receiver {self.name} {error}") from None

    # Tries.

    async def _deliver(self, address: Address, event: Event) -> Answer:
        limit_seconds = self._settings.timeout_seconds
        progress = Progress()
        try:
            async with asyncio.timeout(limit_seconds):
                return await self._try(address, event, progress)
        except TimeoutError:
            before = f"; the one before: {progress.failure}" if progress.failure else ""
            message = f"no answer within {limit_seconds:g} s: try {progress.tries} {progress.stage}{before}"
            raise HookError(f"{address.shown}: {message}") from None
        except HookError as error:
            raise HookError(
                f"{address.shown}: {error}", retry_after_seconds=error.retry_after_seconds, is_final=error.is_final
            ) from error

    async def _try(self, address: Address, event: Event, progress: Progress) -> Answer:
        # The same whenever this event is sent again, so that the receiver can tell.
        message_id = quote(event.key, safe=_PLAIN) or f"msg_{uuid4().hex}"
        body = self._body(event, message_id)
        loop = asyncio.get_running_loop()
        until = loop.time() + self._settings.timeout_seconds
        while True:
            progress.tries += 1
            try:
                request = self._head(address, event, message_id, body) + body
                reply = await self._client.send(address, request, progress)
                return read_reply(reply, event.type)
            except TryAgain as failure:
                wait_seconds = failure.retry_after_seconds
                if wait_seconds is None:
                    wait_seconds = self._settings.backoff_seconds
                has_time = loop.time() + wait_seconds < until
                if progress.tries > self._settings.retries or not has_time:
                    raise HookError(str(failure), retry_after_seconds=failure.retry_after_seconds) from failure
                progress.failure = str(failure)
            await asyncio.sleep(wait_seconds)

    # Requests.

    def _body(self, event: Event, message_id: str) -> bytes:
        data, source = encode_event(event), self._settings.cloudevents_source
        return data if source is None else wrap(event, data, message_id=message_id, source=source)

    def _head(self, address: Address, event: Event, message_id: str, body: bytes) -> bytes:
        settings = self._settings
        kind = "application/json" if settings.cloudevents_source is None else MEDIA_TYPE
        lines = {"user-agent": f"User-Agent: tusd_py/{__version__}\r\n", "accept": "Accept: application/json\r\n"}
        for name in settings.forward_headers:
            lines[name.lower()] = "".join(f"{name}: {each}\r\n" for each in _values(event, name))
        if address.authorization:
            lines["authorization"] = f"Authorization: {address.authorization}\r\n"
        connection = "" if self._address is not None else "Connection: close\r\n"
        return (
            f"POST {address.target} HTTP/1.1\r\nHost: {address.origin}\r\nContent-Type: {kind}\r\n"
            f"Content-Length: {len(body)}\r\n{''.join(lines.values())}"
            f"{connection}"
            f"{self._signer.sign(message_id, int(time.time()), body)}\r\n"
        ).encode("latin-1")


def _values(event: Event, name: str) -> list[str]:
    """Those of a header of the client's that can stand in a head."""
    for each, values in event.request.headers.items():
        if each.lower() == name.lower():
            return [value for value in values if _VALUE.fullmatch(value)]
    return []
