"""Digests of a body: which algorithms there are, and one expected digest. Header syntax is `protocol.checksum`."""

from __future__ import annotations

import hashlib
import hmac
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import anyio.lowlevel

Buffer = bytes | bytearray | memoryview


class Hasher(Protocol):
    """What hashlib's objects offer and we use."""

    def update(self, data: Buffer, /) -> None: ...
    def digest(self) -> bytes: ...


class Crc32:
    """zlib's CRC-32 as a hasher; the digest is four bytes, most significant first."""

    def __init__(self) -> None:
        self._crc = 0

    def update(self, data: Buffer, /) -> None:
        self._crc = zlib.crc32(data, self._crc)

    def digest(self) -> bytes:
        return self._crc.to_bytes(4, "big")


async def hash_all(hasher: Hasher, pieces: AsyncIterator[Buffer]) -> bytes:
    """The digest of what `hasher` has and then all the pieces."""
    async for piece in pieces:
        hasher.update(piece)
        await anyio.lowlevel.checkpoint()  # others must not wait for all of it
    return hasher.digest()


def _md5() -> Hasher:
    return hashlib.md5(usedforsecurity=False)


def _sha1() -> Hasher:
    return hashlib.sha1(usedforsecurity=False)


def _find_algorithms() -> dict[str, Callable[[], Hasher]]:
    found: dict[str, Callable[[], Hasher]] = {
        "sha1": _sha1,  # tus S5: always there
        "sha256": hashlib.sha256,
        "sha512": hashlib.sha512,
        "md5": _md5,
        "crc32": Crc32,
    }
    try:
        import google_crc32c  # noqa: PLC0415  (an extra: the algorithm exists where its library does)
    except ImportError:
        return found

    class Crc32c:
        """CRC-32C (Castagnoli), as `Crc32`."""

        def __init__(self) -> None:
            self._crc = 0

        def update(self, data: Buffer, /) -> None:
            self._crc = google_crc32c.extend(self._crc, bytes(data))  # it takes nothing else

        def digest(self) -> bytes:
            return self._crc.to_bytes(4, "big")

    found["crc32c"] = Crc32c
    return found


ALGORITHMS: Mapping[str, Callable[[], Hasher]] = _find_algorithms()


@dataclass(frozen=True, slots=True)
class Checksum:
    """The digest that a body must have. `algorithm` is a key of ALGORITHMS, `expected` the raw digest."""

    algorithm: str
    expected: bytes

    def hasher(self) -> Hasher:
        return ALGORITHMS[self.algorithm]()

    def matches(self, hasher: Hasher) -> bool:
        return hmac.compare_digest(hasher.digest(), self.expected)
