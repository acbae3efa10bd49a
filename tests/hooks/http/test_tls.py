"""https: whom we talk to is verified, unless the operator said not to."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from certificates import make_certificate
from rawreceiver import HOST, Peer, RawReceiver, answer, hooked, receiving, sample

from tusd_py.hooks.contract import GO_ON, HookError
from tusd_py.hooks.http.settings import ReceiverSettings
from tusd_py.hooks.http.transport import Receiver

pytestmark = pytest.mark.anyio


@dataclass
class Identity:
    """A certificate for localhost and 127.0.0.1, and the names that clients asked for."""

    certificate: Path
    context: ssl.SSLContext
    asked: list[str | None] = field(default_factory=list)


@pytest.fixture
def identity(tmp_path: Path) -> Identity:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    make_certificate(certificate, key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    identity = Identity(certificate, context)
    context.sni_callback = lambda _connection, name, _context: identity.asked.append(name)
    return identity


@pytest.fixture
def trusted(identity: Identity, monkeypatch: pytest.MonkeyPatch) -> Identity:
    monkeypatch.setenv("SSL_CERT_FILE", str(identity.certificate))
    return identity


def at(name: str, receiver: RawReceiver, **settings: object) -> Receiver:
    """The receiver by a name that leads to loopback."""

    async def resolve(_host: str, _port: int) -> Sequence[str]:
        return (HOST,)

    url = f"https://{name}:{receiver.port}/"
    given = {"name": "test", "events": frozenset(), "url": url, "backoff_seconds": 0.0, **settings}
    return Receiver(ReceiverSettings(**given), resolve)  # type: ignore[arg-type]


async def test_a_verified_receiver_is_called_and_its_connection_kept(trusted: Identity) -> None:
    async with receiving(answer(b'{"StopUpload":true}'), tls=trusted.context) as receiver:
        hook = at("LOCALHOST.", receiver)
        await hook.start()
        for _ in range(3):
            assert (await hook.call(sample())).is_stopped
        assert receiver.connections == 1
        await hook.aclose()
        await receiver.wait_until_all_closed()
    assert trusted.asked == ["localhost"]
    assert receiver.heard[0].one("Host") == f"localhost:{receiver.port}"


async def test_an_ip_address_is_verified_too(trusted: Identity) -> None:
    async with (
        receiving(answer(), tls=trusted.context) as receiver,
        hooked(f"https://{HOST}:{receiver.port}/") as hook,
    ):
        assert await hook.call(sample()) == GO_ON
    assert trusted.asked == [None]


async def test_a_wrong_host_name_is_refused(trusted: Identity) -> None:
    async with receiving(answer(), tls=trusted.context) as receiver:
        hook = at("elsewhere.example", receiver)
        await hook.start()
        with pytest.raises(HookError, match=r"certificate cannot be trusted: .*elsewhere\.example"):
            await hook.call(sample())
        await hook.aclose()
    assert receiver.heard == []


async def test_an_unknown_certificate_is_refused_at_once(identity: Identity) -> None:
    async with (
        receiving(answer(), tls=identity.context) as receiver,
        hooked(f"https://localhost:{receiver.port}/", retries=3, backoff_seconds=9.0) as hook,
    ):
        async with asyncio.timeout(5):
            with pytest.raises(HookError, match="certificate cannot be trusted"):
                await hook.call(sample())
    assert receiver.heard == []


async def test_skip_verify_takes_any_certificate(identity: Identity) -> None:
    async with receiving(answer(), tls=identity.context) as receiver:
        hook = at("elsewhere.example", receiver, skip_verify=True)
        await hook.start()
        assert await hook.call(sample()) == GO_ON
        await hook.aclose()
    assert identity.asked == ["elsewhere.example"]


async def test_a_receiver_without_tls_is_said(trusted: Identity) -> None:
    async def be_plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(be_plain, HOST, 0)
    async with hooked(f"https://localhost:{server.sockets[0].getsockname()[1]}/", retries=0) as hook:
        with pytest.raises(HookError, match="it cannot be reached: "):
            await hook.call(sample())
    server.close()


async def test_an_answer_that_is_cut_off_is_no_yes(trusted: Identity) -> None:
    """Whoever cuts a connection can make an end of it without having a key."""

    async def cut(peer: Peer) -> None:
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
        await peer.close()

    async with (
        receiving(cut, tls=trusted.context) as receiver,
        hooked(f"https://localhost:{receiver.port}/", retries=0) as hook,
    ):
        with pytest.raises(HookError, match="ended before the JSON"):
            await hook.call(sample())


async def test_a_cancelled_call_leaves_no_connection(trusted: Identity) -> None:
    """At any point of the handshake, the request and the answer."""
    async with receiving(answer(), tls=trusted.context) as receiver:
        hook = at("localhost", receiver)
        await hook.start()
        cancelled = 0
        for turns in range(20):
            call = asyncio.create_task(hook.call(sample()))
            for _ in range(turns):
                await asyncio.sleep(0)
            cancelled += call.cancel()
            await asyncio.gather(call, return_exceptions=True)
            await hook.aclose()
            if receiver.open:
                await receiver.wait_until_all_closed()
        assert cancelled > 5
        assert await hook.call(sample()) == GO_ON
        await hook.aclose()
