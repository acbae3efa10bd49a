"""tusd's own example hooks, unchanged. They come from Go's module cache: here is no copy of them."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from anyio import to_thread

from tusd_py.core.events import EventType
from tusd_py.hooks.contract import EVENT_CLASSES, Answer, HookError, Request, Response, Upload
from tusd_py.hooks.executable import find_in_folder
from tusd_py.hooks.wire import encode_event
from tusd_py.logs import Event as Logged

pytestmark = pytest.mark.anyio

TUSD = "github.com/tus/tusd/v2@v2.9.2"
FETCH_SECONDS = 120
UPLOAD = Upload(
    id="9d1c0c8ec3cb1ce0b8bb5b2a2ba3a95f",
    length=4_000_000,
    offset=1_000_000,
    metadata={"filename": "Übung 日本語.bin", "filetype": "application/octet-stream"},
    storage={"Type": "filestore", "Path": "/data/9d1c0c8ec3cb1ce0b8bb5b2a2ba3a95f"},
)
REQUEST = Request("PATCH", f"/files/{UPLOAD.id}", "192.0.2.7:50123", {"Tus-Resumable": ("1.0.0",), "Host": ("a.test",)})

# What each says first; then comes the event, of all but post-receive and pre-create.
FIRST_WORDS = {
    "pre-create": [],
    "post-create": [f"Upload created with ID {UPLOAD.id} and size 4000000"],
    "post-receive": [f"Upload {UPLOAD.id} is at 25% (1000000/4000000)"],
    "pre-finish": [],
    "post-finish": [f"Upload {UPLOAD.id} (4000000 bytes) finished"],
    "post-terminate": [f"Upload {UPLOAD.id} terminated"],
}


@pytest.fixture
def examples(fetched: Path, tmp_path: Path) -> Path:
    """They may be executed where they come from; Go's cache knows no modes of files."""
    folder = Path(shutil.copytree(fetched, tmp_path / "hooks", copy_function=shutil.copyfile))
    folder.chmod(0o755)
    for path in folder.iterdir():
        path.chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def fetched() -> Path:
    for tool in ("go", "jq"):
        if shutil.which(tool) is None:
            pytest.skip(f"missing: {tool}")
    fetch = ["go", "mod", "download", "-json", TUSD]
    done = subprocess.run(fetch, cwd="/", capture_output=True, text=True, timeout=FETCH_SECONDS, check=False)
    if done.returncode:
        pytest.skip(f"missing: {TUSD}: {done.stdout[-300:]}{done.stderr[-300:]}")
    return Path(json.loads(done.stdout)["Dir"]) / "examples" / "hooks" / "file"


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[str], list[str]]:
    """What a hook said, line by line."""
    caplog.set_level(logging.INFO, "tusd_py")

    def said(hook: str) -> list[str]:
        events = [each.msg for each in caplog.records if isinstance(each.msg, Logged) and each.msg.name == "HookSaid"]
        assert {(each.fields["hook"], each.fields["id"]) for each in events} <= {(hook, UPLOAD.id)}
        return [str(each.fields["text"]) for each in events]

    return said


async def call(folder: Path, name: str, upload: Upload = UPLOAD) -> Answer:
    hooks = await to_thread.run_sync(find_in_folder, folder, tuple(EventType), dict(os.environ))
    assert [each.name for each in hooks] == sorted(FIRST_WORDS)
    try:
        [hook] = [each for each in hooks if each.events == {EventType(name)}]
        return await hook.call(EVENT_CLASSES[name](upload, REQUEST, "a key"))
    finally:
        for each in hooks:
            await each.aclose()


@pytest.mark.parametrize("name", FIRST_WORDS)
async def test_an_example_of_tusd_runs_unchanged(examples: Path, said: Callable[[str], list[str]], name: str) -> None:
    assert await call(examples, name) == Answer()
    lines = said(name)
    count = len(FIRST_WORDS[name])
    assert lines[:count] == FIRST_WORDS[name]
    if name in ("pre-create", "post-receive"):
        assert len(lines) == count
    else:
        assert json.loads("\n".join(lines[count:])) == json.loads(
            encode_event(EVENT_CLASSES[name](UPLOAD, REQUEST, "a key"))
        )


async def test_post_receive_of_tusd_cannot_tell_how_far_an_empty_upload_is(examples: Path) -> None:
    with pytest.raises(HookError, match=r"exit code \d+: .*division by"):
        await call(examples, "post-receive", replace(UPLOAD, length=0, offset=0))


@pytest.mark.parametrize("has_filename", [True, False])
async def test_pre_create_of_tusd_rejects_what_has_no_filename(
    examples: Path, said: Callable[[str], list[str]], has_filename: bool
) -> None:
    copy = examples / "pre-create"
    text = copy.read_text()
    assert text.startswith("#!/bin/sh\n")
    assert "\nexit 0\n" in text
    # As its comment says; and bash, since not every sh knows its `==`.
    copy.write_text(text.replace("#!/bin/sh\n", "#!/usr/bin/env bash\n").replace("\nexit 0\n", "\n", 1))
    upload = UPLOAD if has_filename else replace(UPLOAD, metadata={})
    rejected = Answer(is_rejected=True, response=Response(400, {}, "no filename provided"))
    assert await call(examples, "pre-create", upload) == (Answer() if has_filename else rejected)
    assert said("pre-create") == [f"Filename exists: {str(has_filename).lower()}"]
