"""Signatures: as the library of Standard Webhooks makes and checks them."""

from __future__ import annotations

import sys
import time
from base64 import b64decode, b64encode
from datetime import UTC, datetime, timedelta

import pytest
from rawreceiver import Heard, answer, hooked, receiving, sample

from tusd_py.errors import ConfigError
from tusd_py.hooks.contract import Event, PostFinish, Upload
from tusd_py.hooks.http.signing import Signer

pytestmark = pytest.mark.anyio

OLD = "whsec_" + b64encode(b"an old secret of 32 bytes or so..").decode()
NEW = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_" + b64encode(bytes(24)).decode()


async def heard_with(*secrets: str, event: Event | None = None) -> Heard:
    async with receiving(answer()) as receiver, hooked(receiver, secrets=secrets) as hook:
        await hook.call(event or sample())
    return receiver.heard[0]


def signed(heard: Heard) -> dict[str, str]:
    return {name: value for name, value in heard.headers if name.startswith("webhook-")}


def test_a_signature_is_that_of_the_standards_own_example() -> None:
    lines = Signer([NEW]).sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert lines == (
        "webhook-id: msg_p5jXN8AQM9LWM0D4loKWxJek\r\n"
        "webhook-timestamp: 1614265330\r\n"
        "webhook-signature: v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=\r\n"
    )


def test_while_secrets_change_there_is_a_signature_for_each_the_newest_first() -> None:
    signatures = [Signer([secret]).sign("a", 1, b"{}").split("webhook-signature: ")[1].strip() for secret in (NEW, OLD)]
    assert signatures[0] != signatures[1]
    assert Signer([NEW, OLD]).sign("a", 1, b"{}").endswith(f"webhook-signature: {' '.join(signatures)}\r\n")


async def test_receivers_with_the_library_take_our_events_while_secrets_change() -> None:
    library = pytest.importorskip("standardwebhooks", reason="missing: standardwebhooks")
    heard = await heard_with(NEW, OLD)
    for secret in (NEW, OLD):
        assert library.Webhook(secret).verify(heard.body, signed(heard))["Type"] == "post-finish"
    with pytest.raises(library.WebhookVerificationError):
        library.Webhook(OTHER).verify(heard.body, signed(heard))
    with pytest.raises(library.WebhookVerificationError):
        library.Webhook(NEW).verify(heard.body + b" ", signed(heard))
    assert heard.one("webhook-signature").split(" ")[0] == library.Webhook(NEW).sign(
        heard.one("webhook-id"), datetime.fromtimestamp(int(heard.one("webhook-timestamp")), UTC), heard.body.decode()
    )


async def test_a_receiver_can_tell_an_old_event() -> None:
    library = pytest.importorskip("standardwebhooks", reason="missing: standardwebhooks")
    heard = await heard_with(NEW)
    assert abs(int(heard.one("webhook-timestamp")) - time.time()) < 10
    for minutes in (-6, 6):
        then = datetime.now(UTC) + timedelta(minutes=minutes)
        stamp = str(int(then.timestamp()))
        late = Signer([NEW]).sign("a", int(stamp), heard.body).split("webhook-signature: ")[1].strip()
        with pytest.raises(library.WebhookVerificationError, match=r"too (old|new)"):
            library.Webhook(NEW).verify(
                heard.body, {"webhook-id": "a", "webhook-timestamp": stamp, "webhook-signature": late}
            )


async def test_an_event_without_a_key_has_an_id_of_its_own_each_time() -> None:
    event = PostFinish(Upload("a"))
    one, two = await heard_with(NEW, event=event), await heard_with(NEW, event=event)
    assert one.one("webhook-id").startswith("msg_")
    assert one.one("webhook-id") != two.one("webhook-id")
    assert (await heard_with(NEW)).one("webhook-id") == "a:post-finish"


async def test_a_key_cannot_break_the_head() -> None:
    heard = await heard_with(NEW, event=PostFinish(Upload("a"), key="a b\r\nX-Evil: ü"))
    assert heard.one("webhook-id") == "a%20b%0D%0AX-Evil:%20%C3%BC"
    assert not heard.all("X-Evil")


@pytest.mark.parametrize("has_public_key", [False, True])
async def test_asymmetric_secrets_sign_too(has_public_key: bool) -> None:
    ed25519 = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ed25519", reason="missing: cryptography")
    private = ed25519.Ed25519PrivateKey.generate()
    public = private.public_key()
    key = private.private_bytes_raw() + public.public_bytes_raw() * has_public_key
    heard = await heard_with("whsk_" + b64encode(key).decode(), NEW)
    asymmetric, symmetric = heard.one("webhook-signature").split(" ")
    assert symmetric.startswith("v1,")
    version, _, signature = asymmetric.partition(",")
    assert version == "v1a"
    content = f"{heard.one('webhook-id')}.{heard.one('webhook-timestamp')}.".encode() + heard.body
    public.verify(b64decode(signature), content)  # raises InvalidSignature


def test_asymmetric_secrets_say_what_they_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric.ed25519", None)
    with pytest.raises(ConfigError, match="pip install cryptography"):
        Signer(["whsk_" + b64encode(bytes(32)).decode()])


@pytest.mark.parametrize(
    ("secret", "words"),
    [
        ("secret", "is whsec_ or whsk_"),
        ("whsec_", "is whsec_ or whsk_"),
        ("whpk_QUJDRA==", "is whsec_ or whsk_"),
        ("whsec_%%%", "is not base64"),
        ("whsec_QUJDRA", "is not base64"),
        ("whsec_ÄÖ", "is not base64"),
        ("whsec_QUJDRA==", "has 4 bytes; it has 24 to 64"),
        ("whsk_QUJDRA==", "has 4 bytes; an ed25519 key has 32 or 64"),
    ],
)
def test_a_secret_that_cannot_be_used_is_refused_and_not_shown(secret: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Signer([secret])
    assert words in str(caught.value)
    assert "QUJDRA" not in str(caught.value)
