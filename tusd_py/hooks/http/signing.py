"""Signatures by Standard Webhooks 1.0, so that a receiver knows who sent an event, and when. With several secrets there
are several signatures, so that secrets can be changed while receivers still know the old one.
"""

from __future__ import annotations

import binascii
import hmac
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence

from tusd_py.errors import ConfigError

HEADERS = ("webhook-id", "webhook-timestamp", "webhook-signature")

_FEWEST_BYTES, _MOST_BYTES = 24, 64  # of a symmetric secret, says the standard
_SEED_BYTES = 32

_Sign = Callable[[bytes], str]


class Signer:
    """Raises ConfigError for secrets that cannot be used; shows none of them."""

    def __init__(self, secrets: Sequence[str]) -> None:
        self._signs = tuple(_read_secret(each) for each in secrets)

    def sign(self, message_id: str, at_seconds: int, body: bytes) -> str:
        """The lines of the head that go with this body; none without secrets."""
        if not self._signs:
            return ""
        content = f"{message_id}.{at_seconds}.".encode() + body
        signatures = " ".join(sign(content) for sign in self._signs)
        values = (message_id, at_seconds, signatures)
        return "".join(f"{name}: {value}\r\n" for name, value in zip(HEADERS, values, strict=True))


def _read_secret(secret: str) -> _Sign:
    kind, _, text = secret.partition("_")
    if kind not in ("whsec", "whsk") or not text:
        raise ConfigError(
            "a secret in --hooks-http-secrets is whsec_ or whsk_ with base64 after it, as Standard Webhooks says,"
            ' made by echo "whsec_$(openssl rand -base64 32)"'
        )
    try:
        key = b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ConfigError(f"what follows {kind}_ in a secret in --hooks-http-secrets is not base64") from None
    return _symmetric(key) if kind == "whsec" else _asymmetric(key)


def _symmetric(key: bytes) -> _Sign:
    if not _FEWEST_BYTES <= len(key) <= _MOST_BYTES:
        raise ConfigError(
            f"a whsec_ secret in --hooks-http-secrets has {len(key)} bytes; it has {_FEWEST_BYTES} to {_MOST_BYTES},"
            ' made by echo "whsec_$(openssl rand -base64 32)"'
        )
    return lambda content: "v1," + b64encode(hmac.digest(key, content, "sha256")).decode("ascii")


def _asymmetric(key: bytes) -> _Sign:
    """The key is a seed, or a seed with its public key after it, as libsodium writes it."""
    if len(key) not in (_SEED_BYTES, 2 * _SEED_BYTES):
        raise ConfigError(f"a whsk_ secret in --hooks-http-secrets has {len(key)} bytes; an ed25519 key has 32 or 64")
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415  # an extra
    except ImportError:
        raise ConfigError("a whsk_ secret of a receiver needs ed25519: pip install cryptography") from None
    private = Ed25519PrivateKey.from_private_bytes(key[:_SEED_BYTES])
    return lambda content: "v1a," + b64encode(private.sign(content)).decode("ascii")
