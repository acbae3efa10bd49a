"""Two requests for one upload: half-open peers, races, DELETE beside PATCH (F20, F21, F25, F26, F28)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from client import Connection, Fields, Response
from target import Target, noise

CONTENT = noise(200_000)
HALF = 120_000
PROMPT_SECONDS = 1.5


@contextmanager
def promptly() -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < PROMPT_SECONDS


@contextmanager
def half_open(target: Target, path: str, sent: bytes, offset: int = 0, fields: Fields = ()) -> Iterator[Connection]:
    """A PATCH that the server has begun, whose client fell silent after `sent`, with its socket open."""
    with target.connect() as connection:
        framing = [("Expect", "100-continue"), ("Content-Length", str(len(CONTENT) - offset)), *fields]
        connection.send_request("PATCH", path, target.patch_fields(offset, framing))
        assert connection.head().status == 100
        connection.send(sent)
        connection.wait_until_delivered()
        yield connection


class Trickle(threading.Thread):
    """A PATCH whose body comes in small pieces, in its own thread; it is healthy, only slow."""

    def __init__(self, target: Target, path: str, content: bytes, pieces: int, pause_seconds: float) -> None:
        super().__init__(daemon=True)
        self.is_under_way = threading.Event()
        self.answer: Response | Exception | None = None
        self._target, self._path, self._content = target, path, content
        self._size = -(-len(content) // pieces)
        self._pause_seconds = pause_seconds
        self._stopped = threading.Event()

    def run(self) -> None:
        try:
            with self._target.connect() as connection:
                fields = self._target.patch_fields(0, [("Expect", "100-continue")])
                connection.send_request("PATCH", self._path, fields, self._content, only_head=True)
                assert connection.head().status == 100
                for start in range(0, len(self._content), self._size):
                    connection.try_to_send(self._content[start : start + self._size])
                    self.is_under_way.set()
                    if self._stopped.wait(self._pause_seconds):
                        return
                self.answer = connection.response()
        except Exception as error:
            self.answer = error
        finally:
            self.is_under_way.set()

    def stop(self) -> None:
        self._stopped.set()
        self.join()


@contextmanager
def trickle(target: Target, path: str, pieces: int = 20, pause_seconds: float = 0.04) -> Iterator[Trickle]:
    writer = Trickle(target, path, CONTENT, pieces, pause_seconds)
    writer.start()
    assert writer.is_under_way.wait(5)
    try:
        yield writer
    finally:
        writer.stop()


def at_once(count: int, act: Callable[[int], Response]) -> list[Response]:
    """What `count` clients are answered that start in the same moment."""
    barrier = threading.Barrier(count)

    def run(index: int) -> Response:
        barrier.wait(5)
        return act(index)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def test_F20_head_beside_a_half_open_patch_gives_an_offset_that_holds(target: Target) -> None:
    path = target.create(len(CONTENT))
    with half_open(target, path, CONTENT[:HALF]) as old:
        with promptly():
            offset = target.offset(path)
        assert offset == HALF
        answer = target.patch(path, offset, CONTENT[offset:])
        assert answer.status == 204
        target.check_content(path, CONTENT)
        old.try_to_send(noise(len(CONTENT) - HALF, seed=5))
        target.check_content(path, CONTENT)
    target.check_content(path, CONTENT)


def test_F20_half_open_patch_without_expect(target: Target) -> None:
    path = target.create(len(CONTENT))
    with target.connect() as old:
        target.start_patch(old, path, 0, len(CONTENT), CONTENT[:HALF])
        # The first HEAD may come before that PATCH has begun, and be right then; the second cannot.
        for _ in range(2):
            with promptly():
                offset = target.offset(path)
            answer = target.patch(path, offset, CONTENT[offset:])
            if answer.status == 204:
                break
        assert answer.status == 204
        old.try_to_send(noise(len(CONTENT) - HALF, seed=5))
        target.check_content(path, CONTENT)


def test_F20_patch_beside_a_half_open_patch_takes_over(target: Target) -> None:
    path = target.create(len(CONTENT))
    with half_open(target, path, CONTENT[:HALF]) as old:
        with promptly():
            answer = target.patch(path, HALF, CONTENT[HALF:])
        assert answer.status == 204
        target.check_content(path, CONTENT)
        old.try_to_send(noise(1000, seed=5))
        target.check_content(path, CONTENT)


def test_F20_interrupted_patch_is_told_423(target: Target) -> None:
    path = target.create(len(CONTENT))
    with half_open(target, path, CONTENT[:HALF]) as old:
        assert target.patch(path, HALF, CONTENT[HALF:]).status == 204
        answer = old.response()
        assert answer.status == 423
        assert answer.text.startswith("ERR_UPLOAD_INTERRUPTED: ")
        assert old.is_closed_by_server()
    target.check_content(path, CONTENT)


def test_F20_half_open_before_the_first_byte(target: Target) -> None:
    path = target.create(len(CONTENT))
    with half_open(target, path, b"") as old:
        with promptly():
            assert target.offset(path) == 0
        assert target.patch(path, 0, CONTENT).status == 204
        old.try_to_send(noise(len(CONTENT), seed=5))
        target.check_content(path, CONTENT)


def test_F20_several_half_open_peers_of_one_upload(target: Target) -> None:
    path = target.create(len(CONTENT))
    with (
        half_open(target, path, CONTENT[:HALF]) as first,
        half_open(target, path, CONTENT[HALF : HALF + 10], HALF) as second,
    ):
        with promptly():
            offset = target.offset(path)
        assert target.patch(path, offset, CONTENT[offset:]).status == 204
        for old in (first, second):
            old.try_to_send(noise(1000, seed=5))
        target.check_content(path, CONTENT)


@pytest.mark.needs("checksum")
def test_F20_S9_half_open_checksummed_patch_keeps_nothing(target: Target) -> None:
    path = target.create(len(CONTENT))
    fields = [("Upload-Checksum", "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=")]
    with half_open(target, path, noise(HALF, seed=5), fields=fields) as old:
        with promptly():
            assert target.offset(path) == 0
        assert target.patch(path, 0, CONTENT).status == 204
        old.try_to_send(noise(len(CONTENT) - HALF, seed=5))
        target.check_content(path, CONTENT)


def test_F24_heads_do_not_end_a_healthy_patch(target: Target) -> None:
    path = target.create(len(CONTENT))
    with trickle(target, path) as writer:
        offsets = []
        while writer.is_alive():
            with promptly():
                offsets.append(target.offset(path))
        assert isinstance(writer.answer, Response), writer.answer
        assert writer.answer.status == 204, writer.answer
        assert offsets == sorted(offsets)
        assert len(offsets) > 3
    target.check_content(path, CONTENT)


@pytest.mark.needs("download")
def test_get_beside_a_patch_is_400_and_does_not_end_it(target: Target) -> None:
    path = target.create(len(CONTENT))
    with trickle(target, path, pieces=5) as writer:
        with promptly():
            assert target.ask("GET", path).status == 400
        writer.join()
        assert isinstance(writer.answer, Response), writer.answer
        assert writer.answer.status == 204
    target.check_content(path, CONTENT)


@pytest.mark.parametrize("writers", [2, 5])
@pytest.mark.parametrize("length", [5, 1_000_000])
def test_F21_of_several_patches_at_one_offset_exactly_one_is_204(target: Target, writers: int, length: int) -> None:
    path = target.create(length)
    contents = [noise(length, seed) for seed in range(writers)]
    answers = at_once(writers, lambda index: target.patch(path, 0, contents[index]))
    won = [index for index, answer in enumerate(answers) if answer.status == 204]
    assert len(won) == 1, [answer.status for answer in answers]
    assert all(answer.status in (204, 409, 423) for answer in answers), [answer.status for answer in answers]
    target.check_content(path, contents[won[0]])


def test_F21_patches_of_different_lengths_at_one_offset(target: Target) -> None:
    path = target.create(100_000)
    pieces = [bytes([65 + index]) * (10_000 * (index + 1)) for index in range(4)]
    answers = at_once(4, lambda index: target.patch(path, 0, pieces[index]))
    won = [index for index, answer in enumerate(answers) if answer.status == 204]
    assert len(won) == 1, [answer.status for answer in answers]
    offset = target.offset(path)
    assert offset == len(pieces[won[0]])
    rest = noise(100_000 - offset)
    assert target.patch(path, offset, rest).status == 204
    target.check_content(path, pieces[won[0]] + rest)


def test_F21_several_clients_share_one_upload(target: Target) -> None:
    content = noise(50_000)
    path = target.create(len(content))

    def push(index: int) -> Response:
        while True:
            offset = target.offset(path)
            answer = target.patch(path, offset, content[offset : offset + 5000 + index])
            if target.offset(path) == len(content):
                return answer

    assert all(answer.status in (204, 409, 423) for answer in at_once(3, push))
    target.check_content(path, content)


@pytest.mark.needs("creation-defer-length")
def test_F21_C4_two_lengths_at_once_set_one(target: Target) -> None:
    path = target.create(None)
    answers = at_once(2, lambda index: target.patch(path, 0, b"", [("Upload-Length", str(5 + index))]))
    assert sorted(answer.status for answer in answers) == [204, 400]
    length = int(target.head(path).header("Upload-Length") or "0")
    assert length == 5 + [answer.status for answer in answers].index(204)
    assert target.patch(path, 0, b"x" * length).status == 204
    target.check_content(path, b"x" * length)


@pytest.mark.needs("termination")
def test_F26_delete_beside_a_half_open_patch(target: Target) -> None:
    path = target.create(len(CONTENT))
    with half_open(target, path, CONTENT[:HALF]) as old:
        with promptly():
            assert target.ask("DELETE", path).status == 204
        assert target.head(path).status in (404, 410)
        old.try_to_send(CONTENT[HALF:])
        assert target.head(path).status in (404, 410)
        assert old.response().status in (404, 410, 423)
    assert target.head(path).status in (404, 410)


@pytest.mark.needs("termination")
def test_F26_delete_beside_a_healthy_patch(target: Target) -> None:
    path = target.create(len(CONTENT))
    with trickle(target, path, pieces=100) as writer:
        with promptly():
            assert target.ask("DELETE", path).status == 204
        assert target.head(path).status in (404, 410)
        writer.stop()
    assert target.head(path).status in (404, 410)
    assert target.patch(path, 0, b"x").status in (404, 410)


@pytest.mark.needs("termination")
def test_F26_of_several_deletes_one_is_204(target: Target) -> None:
    path = target.upload(b"hello")
    answers = at_once(4, lambda _: target.ask("DELETE", path))
    assert sorted(answer.status for answer in answers)[0] == 204
    assert all(answer.status in (204, 404, 410) for answer in answers)
    assert [answer.status for answer in answers].count(204) == 1
    assert target.head(path).status in (404, 410)


@pytest.mark.needs("download")
def test_F28_downloads_do_not_wait_for_a_slow_one(target: Target) -> None:
    content = noise(8_000_000)
    path = target.upload(content)
    with Connection(target.host, target.port, receive_buffer_bytes=4096) as slow:
        slow.send_request("GET", path)
        assert slow.head().status == 200
        assert [answer.body for answer in at_once(3, lambda _: target.ask("GET", path))] == [content] * 3
        # A reader is no hindrance to what needs the upload's lock either.
        assert target.patch(path, len(content), b"").status == 204


@pytest.mark.needs("termination", "download")
def test_F28_delete_beside_a_download(target: Target) -> None:
    content = noise(8_000_000)
    path = target.upload(content)
    with Connection(target.host, target.port, receive_buffer_bytes=4096) as slow:
        slow.send_request("GET", path)
        assert slow.head().status == 200
        with promptly():
            assert target.ask("DELETE", path).status == 204
    assert target.head(path).status in (404, 410)


def test_F25_stalled_clients_do_not_slow_others(target: Target) -> None:
    stalled = []
    try:
        for _ in range(10):
            connection = target.connect()
            stalled.append(connection)
            target.start_patch(connection, target.create(1000), 0, 1000, b"x" * 10)
        content = noise(1_000_000)
        with promptly():
            path = target.upload(content)
        target.check_content(path, content)
    finally:
        for connection in stalled:
            connection.close()


@pytest.mark.needs("concatenation")
def test_F16_same_final_at_once_is_one_upload(target: Target) -> None:
    partials = [target.upload(content, [("Upload-Concat", "partial")]) for content in (b"hello ", b"world")]
    answers = at_once(3, lambda _: target.post([("Upload-Concat", "final;" + " ".join(partials))]))
    assert {answer.status for answer in answers} == {201}
    locations = {target.path_of(answer.header("Location")) for answer in answers}
    assert len(locations) == 1
    target.check_content(locations.pop(), b"hello world")
