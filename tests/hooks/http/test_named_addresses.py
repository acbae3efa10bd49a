"""Receivers that clients name in an upload's metadata: on the list and public, however written, or not called."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from certificates import make_certificate
from rawreceiver import HOST, RawReceiver, answer, receiving, sample

from tusd_py.core.events import EventType
from tusd_py.errors import ConfigError
from tusd_py.hooks.contract import GO_ON, HookError, Request
from tusd_py.hooks.http.addresses import Address, Allowed, is_public, read_allowed, read_named_address, resolve
from tusd_py.hooks.http.client import Client
from tusd_py.hooks.http.connection import Connection
from tusd_py.hooks.http.settings import NAMED_BY_CLIENTS, ReceiverSettings
from tusd_py.hooks.http.transport import Receiver
from tusd_py.hooks.wire import decode_event

pytestmark = pytest.mark.anyio

PUBLIC = "93.184.216.34"


@dataclass
class Net:
    """Which IP addresses names have, now and at the next question; and what was connected to, which is loopback."""

    names: dict[str, list[Sequence[str]]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    connected: list[str] = field(default_factory=list)

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        if host not in self.names:
            return await resolve(host, port)
        answers = self.names[host]
        return answers.pop(0) if len(answers) > 1 else answers[0]


@pytest.fixture
def net(monkeypatch: pytest.MonkeyPatch) -> Net:
    net = Net()
    really_open = Client._open

    async def open_on_loopback(self: Client, connection: Connection, address: Address, host: str) -> None:
        net.connected.append(host)
        await really_open(self, connection, address, HOST)

    monkeypatch.setattr(Client, "_open", open_on_loopback)
    return net


def named(net: Net, *allowed: str, **settings: Any) -> Receiver:
    given = {"events": NAMED_BY_CLIENTS, "retries": 0, "metadata_key": "callback", "allowed_hosts": allowed, **settings}
    return Receiver(ReceiverSettings(name="test", **given), net.resolve)


async def refused(net: Net, url: str, *allowed: str) -> str:
    """Why, for ever, and nobody was connected to."""
    hook = named(net, *allowed)
    await hook.start()
    with pytest.raises(HookError) as caught:
        await hook.call(sample(callback=url))
    await hook.aclose()
    assert caught.value.is_final
    assert net.connected == []
    return str(caught.value)


def port_of(receiver: RawReceiver, host: str = "good.example.com") -> str:
    return f"http://{host}:{receiver.port}"


async def test_a_named_receiver_is_called_and_told_nothing_of_the_request(net: Net) -> None:
    net.names["good.example.com"] = [(PUBLIC,)]
    async with receiving(answer()) as receiver:
        url = f"{port_of(receiver)}/done?upload=1"
        hook = named(net, port_of(receiver), secrets=("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",))
        await hook.start()
        event = sample(callback=url)
        assert await hook.call(event) == GO_ON
        assert await hook.call(event) == GO_ON
        await receiver.wait_until_all_closed()  # none is kept: each call has its own look-up
    assert (net.asked, net.connected) == (["good.example.com"] * 2, [PUBLIC] * 2)
    heard = receiver.heard[0]
    assert heard.line == "POST /done?upload=1 HTTP/1.1"
    assert heard.one("Host") == f"good.example.com:{receiver.port}"
    assert heard.one("webhook-id") == "a:post-finish"
    told = decode_event(heard.body)
    assert told.request == Request()
    assert told.upload.metadata == event.upload.metadata
    assert not told.upload.storage
    for secret in (b"a=1", b"Bearer", b"192.0.2.1", b"/data/a"):
        assert secret not in heard.body
    assert not heard.all("Cookie") + heard.all("Authorization")


async def test_https_goes_to_the_checked_address_and_verifies_the_name(
    net: Net, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    make_certificate(certificate, key, "good.example.com")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    net.names |= {"good.example.com": [(PUBLIC,)], "bad.example.com": [(PUBLIC,)]}
    async with receiving(answer(), tls=context) as receiver:
        hook = named(net, f".example.com:{receiver.port}")
        await hook.start()
        assert await hook.call(sample(callback=f"https://good.example.com:{receiver.port}/")) == GO_ON
        with pytest.raises(HookError, match="certificate cannot be trusted"):
            await hook.call(sample(callback=f"https://bad.example.com:{receiver.port}/"))
    assert net.connected == [PUBLIC, PUBLIC]
    assert len(receiver.heard) == 1


async def test_an_upload_that_names_none_goes_on(net: Net) -> None:
    hook = named(net, "good.example.com")
    assert await hook.call(sample()) == GO_ON
    assert await hook.call(sample(callback="")) == GO_ON
    assert net.asked == []


async def test_a_name_that_turns_private_leads_nowhere(net: Net) -> None:
    """DNS rebinding: the second answer is never asked for, and when it is, with the next event, it is checked."""
    net.names["good.example.com"] = [(PUBLIC,), ("127.0.0.1",)]
    async with receiving(answer()) as receiver:
        hook = named(net, port_of(receiver))
        event = sample(callback=port_of(receiver))
        assert await hook.call(event) == GO_ON
        assert (net.asked, net.connected) == (["good.example.com"], [PUBLIC])
        with pytest.raises(HookError, match=r"leads to 127\.0\.0\.1, which is not public") as caught:
            await hook.call(event)
    assert caught.value.is_final
    assert net.connected == [PUBLIC]


async def test_a_name_of_which_one_address_is_private_is_refused(net: Net) -> None:
    net.names["good.example.com"] = [(PUBLIC, "10.0.0.1")]
    assert "leads to 10.0.0.1" in await refused(net, "https://good.example.com/", "good.example.com")


async def test_a_name_that_is_private_on_a_later_try_is_refused_then(net: Net) -> None:
    net.names["good.example.com"] = [(PUBLIC,), ("169.254.169.254",)]
    async with receiving(answer(b"", status="503 No")) as receiver:
        hook = named(net, port_of(receiver), retries=3, backoff_seconds=0.0)
        with pytest.raises(HookError, match=r"leads to 169\.254\.169\.254") as caught:
            await hook.call(sample(callback=port_of(receiver)))
    assert caught.value.is_final
    assert net.connected == [PUBLIC]


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "[::1]",
        "[::]", "[::ffff:127.0.0.1]", "[::ffff:a9fe:a9fe]", "[::127.0.0.1]", "[fd00::1]", "[fe80::1]",
        "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0x7f.1",
        "localhost", "localhost.",
    ],
)  # fmt: skip
async def test_a_private_address_is_refused_though_it_is_listed(net: Net, host: str) -> None:
    assert "which is not public" in await refused(net, f"https://{host}/", host)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://evil.com/", "is at https://evil.com, which is not on the list"),
        ("https://good.example.com@evil.com/", "has a user name"),
        ("https://evil.com@good.example.com/", "has a user name"),
        ("https://:@good.example.com/", "has a user name"),
        ("https://evil.com\\@good.example.com/", "backslash"),
        ("https://evil.com#@good.example.com/", "not on the list"),
        ("https://evil.com?good.example.com", "not on the list"),
        ("https://evil.com/.good.example.com", "not on the list"),
        ("https://evilgood.example.com/", "not on the list"),
        ("https://good.example.com.evil.com/", "not on the list"),
        ("http://good.example.com/", "is at http://good.example.com, which"),
        ("https://good.example.com:8443/", "is at https://good.example.com:8443, which"),
        ("https://good.example.com:80/", "not on the list"),
        ("https://sub.example.org.evil.com/", "not on the list"),
        ("https://example.org/", "not on the list"),
        ("https://goöd.example.com/", "xn--god-"),
        ("ftp://good.example.com/", "does not begin with http"),
        ("//good.example.com/", "does not begin with http"),
        ("good.example.com", "does not begin with http"),
        ("file:///etc/passwd", "does not begin with http"),
        ("https://good.example.com /", "has a space"),
        ("https://good.example.com/\r\nX: y", "has a space"),
        ("https://good\t.example.com/", "has a space"),
        ("https://good.example.com:99999/", "is no URL"),
        ("https://[::1/", "is no URL"),
        ("https://good.example.com%2eevil.com/", "cannot be"),
        ("https:///", "no host name"),
        ("https://good.example.com/" + "a" * 3000, "longer than 2048"),
    ],
)
async def test_what_is_not_on_the_list_is_refused(net: Net, url: str, words: str) -> None:
    said = await refused(net, url, "good.example.com", ".example.org")
    assert said.startswith("the address in the upload's callback ")
    assert words in said
    assert net.asked == []


@pytest.mark.parametrize(
    ("url", "entry", "host"),
    [
        ("https://good.example.com/", "good.example.com", "good.example.com"),
        ("HTTPS://GOOD.Example.COM./", "good.example.com", "good.example.com"),
        ("https://good.example.com:443/", "Good.Example.com.", "good.example.com"),
        ("https://a.b.example.com/", ".example.com", "a.b.example.com"),
        ("https://bücher.example/", "xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("https://xn--bcher-kva.example/", "bücher.example", "xn--bcher-kva.example"),
        ("https://\uff47ood\u3002example.com/", "good.example.com", "good.example.com"),
        ("http://good.example.com/", "http://good.example.com", "good.example.com"),
        ("https://good.example.com:8443/", "good.example.com:8443", "good.example.com"),
        ("https://93.184.216.34/", "93.184.216.34", "93.184.216.34"),
        ("https://[2606:4700:0::1111]/", "[2606:4700::1111]", "2606:4700::1111"),
    ],
)
def test_what_is_on_the_list_is_found_however_it_is_written(url: str, entry: str, host: str) -> None:
    assert read_named_address(url, [read_allowed(entry)]).host == host


def test_an_entry_for_names_below_is_not_for_ip_addresses() -> None:
    address = read_named_address("https://93.184.216.34/", [read_allowed("93.184.216.34")])
    assert not Allowed("https", ".184.216.34", 443).permits(address)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (PUBLIC, True), ("2606:4700::1111", True), ("::ffff:93.184.216.34", True), ("64:ff9b::5db8:d822", True),
        ("2002:5db8:d822::1", True), ("127.0.0.1", False), ("224.0.0.1", False), ("240.0.0.1", False),
        ("255.255.255.255", False), ("192.0.2.1", False), ("198.18.0.1", False), ("0.1.2.3", False),
        ("::ffff:10.0.0.1", False), ("64:ff9b::a00:1", False), ("64:ff9b:1::1", False), ("2002:a00:1::1", False),
        ("2001:0:4136:e378:8000:63bf:f5ff:fffe", False), ("2001:db8::1", False), ("fec0::1", False), ("ff02::1", False),
        ("fe80::1%lo", False), ("::5db8:d822", False), ("4000::1", False), ("good.example.com", False), ("", False),
    ],
)  # fmt: skip
def test_public_is_what_the_whole_internet_reaches(address: str, expected: bool) -> None:
    assert is_public(address) is expected


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"allowed_hosts": ()}, "list the hosts"),
        ({"events": frozenset({EventType.PRE_CREATE, EventType.POST_FINISH})}, "cannot have pre-create, only"),
        ({"events": frozenset({EventType.POST_RECEIVE})}, "cannot have post-receive"),
        ({"forward_headers": ("Cookie",)}, "no headers are forwarded"),
        ({"skip_verify": True}, "always verified"),
        ({"allowed_hosts": ("https://a/b",)}, "'https://a/b', a host allowed for the receiver test, is more than"),
        ({"allowed_hosts": ("u@a",)}, "is more than"),
        ({"allowed_hosts": ("ftp://a",)}, "does not begin with"),
        ({"allowed_hosts": (".",)}, "has no host name"),
        ({"allowed_hosts": ("*.example.com",)}, "cannot be"),
    ],
)
def test_settings_that_would_be_unsafe_are_refused(settings: dict[str, Any], words: str) -> None:
    given = {"events": NAMED_BY_CLIENTS, "metadata_key": "callback", "allowed_hosts": ("a",), **settings}
    with pytest.raises(ConfigError) as caught:
        Receiver(ReceiverSettings(name="test", **given))
    assert words in str(caught.value)
