"""Body: a checksummed body counts whole or not at all (tus S2, S4, S7, S9; failures F11)."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest
from feeding import END, Feed, Item, Tub, sha1
from hypothesis import given, settings
from hypothesis import strategies as st

from tusd_py.core.body import Body, Wish, unexpected_eof
from tusd_py.core.checksum import ALGORITHMS, Buffer, Checksum
from tusd_py.core.patience import Patience
from tusd_py.errors import RequestError, server_shutdown

pytestmark = pytest.mark.anyio

DATA = b"hello world"


class Kept:
    """What a store reads back, in small pieces of one buffer; counts how often it was asked."""

    def __init__(self, tub: Tub) -> None:
        self.tub, self.reads = tub, 0

    async def __call__(self) -> AsyncIterator[Buffer]:
        self.reads += 1
        buffer = bytearray(3)
        for at in range(0, len(self.tub.data), 3):
            piece = self.tub.data[at : at + 3]
            buffer[: len(piece)] = piece
            yield memoryview(buffer)[: len(piece)]


async def verdict(body: Body, tub: Tub | None = None) -> tuple[bool, int | None, int]:
    """Whether the bytes may count, with what status if not, and how often they were read back."""
    tub = tub or Tub(4)
    kept = Kept(tub)
    await body.into(tub)
    accepted = await body.accepts(kept)
    return accepted, body.error and body.error.status, kept.reads


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_S2_S8_the_digest_of_the_header_matches(algorithm: str) -> None:
    hasher = ALGORITHMS[algorithm]()
    hasher.update(DATA)
    body = Body(Feed(DATA[:2], DATA[2:], END), checksum=Checksum(algorithm, hasher.digest()))
    assert body.is_atomic
    assert await verdict(body) == (True, None, 0)


async def test_S8_the_digest_of_an_empty_body() -> None:
    assert await verdict(Body(Feed(END), checksum=sha1(b""))) == (True, None, 0)


@pytest.mark.parametrize("pieces", [[DATA + b"!"], [DATA[:-1]], [], [DATA[::-1]]])
async def test_S3_S4_a_digest_that_does_not_match_is_460(pieces: list[bytes]) -> None:
    body = Body(Feed(*pieces, END), checksum=sha1(DATA))
    assert await verdict(body) == (False, 460, 0)
    assert body.error is not None
    assert body.error.code == "ERR_CHECKSUM_MISMATCH"


@pytest.mark.parametrize("arrived", [DATA, DATA[:5], b""])
@pytest.mark.parametrize("place", ["header", "trailer"])
async def test_S9_a_body_cut_short_does_not_count_even_if_the_digest_would_match(arrived: bytes, place: str) -> None:
    options = {"checksum": sha1(arrived)} if place == "header" else {"expects_trailer": True}
    body = Body(Feed(arrived, unexpected_eof()), **options)
    assert await verdict(body) == (False, 400, 0)
    assert body.error is not None
    assert body.error.code == "ERR_UNEXPECTED_EOF"


async def test_S9_an_interrupted_body_does_not_count() -> None:
    feed, tub = Feed(DATA), Tub()
    body = Body(feed, checksum=sha1(DATA))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(body.into, tub)
        await feed.handed_over()
        body.interrupt(server_shutdown())
    assert not await body.accepts(Kept(tub))
    assert body.error is not None
    assert body.error.status == 503


async def test_S9_a_body_taken_over_does_not_count() -> None:
    feed, tub = Feed(DATA), Tub()
    body = Body(feed, checksum=sha1(DATA), patience=Patience(stall_seconds=0.01))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(body.into, tub)
        await feed.handed_over()
        assert await body.release_requested(Wish.IF_STALLED)
    assert not await body.accepts(Kept(tub))
    assert body.error is not None
    assert body.error.status == 423


@pytest.mark.parametrize("place", ["header", "trailer", "unannounced"])
async def test_S4_a_body_past_its_bound(place: str) -> None:
    """With a checksum announced nothing counts. An unannounced trailer never gets here: what came counts."""
    body = Body(
        Feed(DATA, b"!", sha1(DATA + b"!")),
        checksum=sha1(DATA) if place == "header" else None,
        expects_trailer=place == "trailer",
        may_trail=place == "unannounced",
    )
    body.bound(len(DATA))
    assert await verdict(body) == (place == "unannounced", 413, 0)


async def test_S7_an_announced_trailer_that_matches() -> None:
    body = Body(Feed(DATA[:5], DATA[5:], sha1(DATA)), expects_trailer=True)
    assert body.is_atomic
    assert await verdict(body) == (True, None, 1)


async def test_S4_S7_an_announced_trailer_that_does_not_match_is_460() -> None:
    assert await verdict(Body(Feed(DATA, sha1(b"other")), expects_trailer=True)) == (False, 460, 1)


async def test_S4_S7_an_announced_trailer_that_does_not_come_is_400() -> None:
    body = Body(Feed(DATA, END), expects_trailer=True)
    assert await verdict(body) == (False, 400, 0)
    assert body.error is not None
    assert body.error.code == "ERR_INVALID_CHECKSUM"


async def test_S3_S4_a_trailer_that_cannot_be_read_is_the_sources_400() -> None:
    error = RequestError("no base64", code="ERR_INVALID_CHECKSUM")
    body = Body(Feed(DATA, error), expects_trailer=True)
    assert await verdict(body) == (False, 400, 0)
    assert body.error is error


async def test_S3_S4_an_unannounced_trailer_that_cannot_be_read_lets_nothing_count() -> None:
    """The client wanted these bytes verified, and they were not (S4): 400 discards the chunk."""
    error = RequestError("no base64", code="ERR_INVALID_CHECKSUM")
    assert await verdict(Body(Feed(DATA, error), may_trail=True)) == (False, 400, 0)


@pytest.mark.parametrize(("trailer", "outcome"), [(sha1(DATA), (True, None, 1)), (sha1(b"x"), (False, 460, 1))])
async def test_S7_an_unannounced_trailer_is_verified_by_reading_back(trailer: Item, outcome: object) -> None:
    body = Body(Feed(DATA, trailer), may_trail=True)
    assert (body.is_atomic, body.may_be_discarded) == (False, True)
    assert await verdict(body) == outcome


async def test_K20_a_body_without_any_trailer_counts_as_far_as_it_came() -> None:
    assert await verdict(Body(Feed(DATA, END), may_trail=True)) == (True, None, 0)
    assert await verdict(Body(Feed(DATA[:5], unexpected_eof()), may_trail=True)) == (True, 400, 0)


@pytest.mark.parametrize(
    ("options", "is_atomic", "may_be_discarded"),
    [
        ({}, False, False),
        ({"may_trail": True}, False, True),
        ({"expects_trailer": True}, True, True),
        ({"checksum": sha1(DATA)}, True, True),
    ],
)
async def test_S4_a_store_knows_beforehand(options: dict[str, object], is_atomic: bool, may_be_discarded: bool) -> None:
    body = Body(Feed(), **options)
    assert (body.is_atomic, body.may_be_discarded) == (is_atomic, may_be_discarded)


@settings(deadline=None)
@given(
    st.lists(st.binary(max_size=30), max_size=6),
    st.integers(1, 40),
    st.sampled_from(["header", "trailer", "unannounced"]),
    st.sampled_from(["same", "other"]),
)
def test_S2_property_any_split_has_the_same_digest(pieces: list[bytes], room: int, place: str, digest: str) -> None:
    data = b"".join(pieces)
    expected = sha1(data if digest == "same" else data + b"!")

    async def run() -> bool:
        tub = Tub(room)
        body = Body(
            Feed(*pieces, END if place == "header" else expected),
            checksum=expected if place == "header" else None,
            expects_trailer=place == "trailer",
            may_trail=place == "unannounced",
        )
        return (await verdict(body, tub))[0]

    assert anyio.run(run) == (digest == "same")
