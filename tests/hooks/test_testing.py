"""The kit for those who test their hooks: plain tests, no server, and what they see is what a server would do."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tusd_py.hooks.contract import EVENTS, Answer, Hook, PreAccess, Request, Upload, change, reject, stop
from tusd_py.hooks.testing import ConfigError, HookError, atell, load, sample, tell


@dataclass(frozen=True)
class Settings:
    limit: int = 5


hook = Hook(Settings)


@hook.on("pre-create")
async def refuse_long(upload: Upload, settings: Settings) -> Answer | None:
    return reject(f"over {settings.limit}") if (upload.length or 0) > settings.limit else None


@hook.on("post-finish")
def count(stream: Any, log: Any, upload: Upload) -> None:
    digest = hashlib.sha256()
    for piece in stream:
        digest.update(piece)
    log.debug("%s %d %s", upload.metadata.get("filename"), stream.length, digest.hexdigest())


def test_an_answer_comes_back_with_settings_as_the_server_takes_them() -> None:
    assert tell(hook, sample("pre-create", b"1234567")).is_rejected
    assert not tell(hook, sample("pre-create", b"1234567"), {"limit": "7"}).is_rejected
    assert not tell(hook, sample("pre-create", b"1234567"), settings=Settings(7)).is_rejected
    with pytest.raises(ConfigError, match="settings: there is no setting 'limt'; did you mean limit"):
        tell(hook, sample("pre-create"), {"limt": 7})
    with pytest.raises(TypeError, match="settings are a mapping or a Settings, not of type int"):
        tell(hook, sample("pre-create"), 7)


@pytest.mark.parametrize("event", EVENTS)
def test_a_sample_is_as_a_server_would_tell_it(event: str) -> None:
    heard: list[Any] = []
    listening = Hook()
    listening.on(event)(lambda event: heard.append(event))  # noqa: PLW0108 - a built-in has no parameters to see
    tell(listening, sample(event, "Zürich", headers={"X-Who": "me", "Via": ["a", "b"]}, filename="a.csv"))
    (told,) = heard
    is_made = event not in ("pre-access", "pre-create")
    assert told.type == event
    assert (bool(told.upload.id), bool(told.key)) == (is_made, event.startswith("post-"))
    assert (told.upload.length, told.upload.metadata) == (7, {"filename": "a.csv"})
    assert told.upload.offset == (0 if event in ("pre-create", "post-create") else 7)
    assert (told.request.header("x-who"), told.request.header("via")) == ("me", "a, b")
    if isinstance(told, PreAccess):
        assert (told.access.mode, told.access.uploads) == ("read", (told.upload,))


def test_a_large_file_is_read_and_not_loaded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    import tracemalloc

    path = tmp_path / "large.bin"
    with path.open("wb") as file:
        file.truncate(64 << 20)
    tracemalloc.start()
    tell(hook, sample("post-finish", path=path, filename="large.bin"))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert f"large.bin {64 << 20} {hashlib.sha256(bytes(64 << 20)).hexdigest()}" in caplog.messages
    assert most < 8 << 20


def test_a_length_may_be_announced_of_bytes_that_are_not_there() -> None:
    assert tell(hook, sample("pre-create", length=10**12)).is_rejected


def test_what_a_function_raises_comes_out_as_it_is() -> None:
    broken = Hook()

    @broken.on("pre-create")
    def fail_plainly() -> None:
        raise LookupError("not in the list")

    @broken.on("post-create")
    async def fail() -> None:
        raise HookError("busy", retry_after_seconds=3) from OSError("no route")

    with pytest.raises(LookupError, match="not in the list") as caught:
        tell(broken, sample("pre-create"))
    assert caught.traceback[-1].name == "fail_plainly"
    assert "concurrent" not in str([each.path for each in caught.traceback])
    assert caught.value.__context__ is None
    with pytest.raises(HookError, match=r"^busy$") as refused:
        tell(broken, sample("post-create"))
    assert refused.value.retry_after_seconds == 3


def test_an_answer_that_the_event_does_not_allow_fails_the_test() -> None:
    wrong = Hook()
    wrong.on("pre-create")(lambda: stop())  # noqa: PLW0108 - as authors write it
    with pytest.raises(HookError, match=r"answered stop\(...\); at pre-create it may"):
        tell(wrong, sample("pre-create"))


def test_an_event_that_nobody_hears_is_a_mistake_of_the_test() -> None:
    with pytest.raises(ValueError, match="does not listen to pre-finish, but to pre-create, post-finish"):
        tell(hook, sample("pre-finish"))
    with pytest.raises(ValueError, match="there is no event 'pre-finsh'"):
        sample("pre-finsh")
    with pytest.raises(ValueError, match="not both"):
        sample("pre-finish", b"a", path="b")


def test_any_event_may_be_told() -> None:
    event = replace(sample("pre-create").event, upload=Upload(length=99), request=Request("POST"))
    assert tell(hook, event).is_rejected


@pytest.mark.anyio
async def test_async_tests_await_it() -> None:
    assert (await atell(hook, sample("pre-create", b"1234567"))).is_rejected
    with pytest.raises(RuntimeError, match=r"await atell\(...\)"):
        tell(hook, sample("pre-create"))


def test_a_hook_without_settings_takes_none() -> None:
    plain = Hook()
    plain.on("pre-create")(lambda: change(id="a"))
    assert tell(plain, sample("pre-create")).change is not None
    with pytest.raises(ConfigError, match="the hook has no settings"):
        tell(plain, sample("pre-create"), {"limit": 3})


def test_a_hook_is_loaded_from_beside_its_test(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("from tusd_py.hooks.contract import Hook\nhook = Hook()\nhook.on('post-create')(lambda: None)\n")
    assert tell(load(path), sample("post-create")) == Answer()


def test_nothing_of_it_stays_running() -> None:
    tell(hook, sample("post-finish", b"hello"))
    for each in threading.enumerate():
        if each.name == "hook sample":
            each.join(10)
            assert not each.is_alive()
