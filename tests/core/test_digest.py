"""The digest of a whole upload: by what passes, by reading once more, and never of other bytes."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from feeding import sha1
from hypothesis import given
from hypothesis import strategies as st
from scene import NotedUpload, Scene, refused

from tusd_py.core.body import unexpected_eof
from tusd_py.core.digest import Digest, Digests
from tusd_py.core.rules import Rules
from tusd_py.core.upload import Upload, new_id

pytestmark = pytest.mark.anyio

DATA = b"hello world"


def text_of(data: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


@pytest.fixture
async def scene(anyio_backend: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    """What `finish` was given is in `seen`."""
    made = Scene(Rules(digest="sha256"))
    made.seen = []
    finish = NotedUpload.finish

    async def noting(self: NotedUpload, digest: Digest | None = None, *, owes: bool = False) -> None:
        made.seen.append(digest is not None and digest.seen is not None)
        await finish(self, digest, owes=owes)

    monkeypatch.setattr(NotedUpload, "finish", noting)
    yield made
    assert made.is_quiet()


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_finished_uploads_have_one(algorithm: str) -> None:
    scene = Scene(Rules(digest=algorithm))
    made = await scene.create(len(DATA), DATA)
    assert (await scene.uploads.inspect(made.id)).digest == text_of(DATA, algorithm)


async def test_nobody_wants_one() -> None:
    scene = Scene()
    made = await scene.create(len(DATA), DATA)
    assert (await scene.uploads.inspect(made.id)).digest is None


async def test_it_is_of_what_passed_in_several_bodies(scene: Scene) -> None:
    made = await scene.create(len(DATA), b"he")
    with refused(400):
        await scene.append(made.id, 2, b"llo", unexpected_eof())
    await scene.append(made.id, 5)
    assert (await scene.append(made.id, 5, b" wor", b"ld")).digest == text_of(DATA)
    assert scene.seen == [True]


async def test_of_nothing(scene: Scene) -> None:
    assert (await scene.create(0)).digest == text_of(b"")
    assert scene.seen == [True]


async def test_bytes_that_did_not_count_are_not_in_it(scene: Scene) -> None:
    made = await scene.create(len(DATA), b"he")
    with refused(460):
        await scene.append(made.id, 2, b"xxx", checksum=sha1(b"llo"))
    assert (await scene.append(made.id, 2, b"llo world")).digest == text_of(DATA)


async def test_bytes_that_another_process_had_are_read(scene: Scene) -> None:
    other = Scene(Rules(digest="sha256"))
    other.store, other.uploads._store = scene.store, scene.store
    other.uploads._upkeep._store = scene.store
    made = await scene.create(len(DATA), b"he")
    await other.append(made.id, 2, b"llo")
    assert (await scene.append(made.id, 5, b" world")).digest == text_of(DATA)
    assert scene.seen == [False]


async def test_a_final_is_read(scene: Scene) -> None:
    one, two = await scene.partial(5, b"hello"), await scene.partial(6, b" world")
    assert (await scene.final(one.id, two.id)).digest == text_of(DATA)


@given(st.lists(st.tuples(st.integers(0, 2), st.binary(max_size=9), st.booleans()), max_size=12))
def test_however_bodies_end_a_running_one_is_of_all_bytes_or_there_is_none(
    steps: list[tuple[int, bytes, bool]],
) -> None:
    """Few are remembered; bodies count, or do not, or come to another process."""
    digests = Digests("sha256", capacity=2)
    contents = [(Upload(new_id(), None), b"") for _ in range(3)]
    for which, data, counts_here in steps:
        upload, before = contents[which]
        running = digests.begin(upload)
        assert running is None or running.digest() == hashlib.sha256(before).digest()
        after = replace(upload, offset=upload.offset + len(data))
        contents[which] = after, before + data
        if counts_here and running is not None:
            running.update(data)
            digests.keep(after, running)
    for upload, content in contents:
        digest = digests.of(replace(upload, length=upload.offset))
        assert digest is not None
        assert digest.seen in (None, hashlib.sha256(content).digest())
