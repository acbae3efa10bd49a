"""Which hooks a folder holds, and what is told of those that will not run."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from anyio import to_thread

from tusd_py.core.events import EventType
from tusd_py.errors import ConfigError
from tusd_py.hooks.contract import Answer, HookError, PreCreate, Upload
from tusd_py.hooks.executable import Executable, find_in_folder
from tusd_py.logs import Event as Logged

DEFAULT = {each for each in EventType if each not in (EventType.PRE_FINISH, EventType.PRE_TERMINATE)}


def put(path: Path, mode: int = 0o755) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(mode)


def find(folder: Path) -> list[Executable]:
    return find_in_folder(folder, DEFAULT, {"PATH": "/usr/bin:/bin"})


def warnings(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, str]]:
    """Event, path and advice of each."""
    told = []
    for record in caplog.records:
        assert isinstance(record.msg, Logged)
        assert record.levelno == logging.WARNING
        told.append((record.msg.name, str(record.msg.fields["path"]), str(record.msg.fields["advice"])))
    return told


def test_a_file_with_the_name_of_an_event_is_its_hook(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    put(tmp_path / "pre-create")
    put(tmp_path / "post-finish")
    hooks = find(tmp_path)
    assert [(each.name, each.path, each.events) for each in hooks] == [
        ("post-finish", tmp_path / "post-finish", {EventType.POST_FINISH}),
        ("pre-create", tmp_path / "pre-create", {EventType.PRE_CREATE}),
    ]
    assert warnings(caplog) == []


def test_a_folder_of_hooks_runs_in_the_order_of_their_names_after_the_one_hook(tmp_path: Path) -> None:
    for name in ("20-b", "10-c.sh", "9-z.py", ".hidden"):
        put(tmp_path / "pre-create.d" / name)
    put(tmp_path / "pre-create")
    wanted = ["pre-create", "pre-create.d/10-c.sh", "pre-create.d/20-b", "pre-create.d/9-z.py"]
    assert [each.name for each in find(tmp_path)] == wanted


@pytest.mark.parametrize(
    ("name", "mode", "event", "advice"),
    [
        ("pre_create", 0o755, "HookNotRecognized", "it never runs; name it pre-create if it should"),
        ("pre-create.sh", 0o755, "HookNotRecognized", "it never runs; name it pre-create if it should"),
        ("POST_FINISH", 0o644, "HookNotRecognized", "it never runs; name it post-finish if it should"),
        ("postcreate", 0o755, "HookNotRecognized", "it never runs; name it post-create if it should"),
        ("pre-create.d/a~", 0o755, "HookNotRecognized", "take it out of the folder: it is a folder or the copy"),
        ("pre-create.d", 0o755, "HookNotRecognized", "it never runs; name it pre-create if it should"),
        ("pre-create/check", 0o755, "HookNotRecognized", "it never runs; name it pre-create.d if it should"),
        ("pre-finish", 0o755, "HookNotEnabled", "add pre-finish to --hooks-enabled-events, or take it out"),
        ("pre-finish.d/check", 0o755, "HookNotEnabled", "add pre-finish to --hooks-enabled-events, or take it out"),
    ],
)
def test_what_will_never_run_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, mode: int, event: str, advice: str
) -> None:
    put(tmp_path / name, mode)
    assert find(tmp_path) == []
    [(told, path, advised)] = warnings(caplog)
    assert told == event
    assert (tmp_path / name).is_relative_to(path)
    assert advised.startswith(advice)


def test_what_belongs_to_others_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("README.md", "pre_create.py", "pre-create.py", "pre_finish/__init__.py", "lib/words.sh", "settings"):
        put(tmp_path / name)
    (tmp_path / "__pycache__").mkdir()
    assert find(tmp_path) == []
    assert warnings(caplog) == []


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["pre-create", "pre-create.d/check"])
async def test_a_hook_that_may_not_be_executed_is_told_and_fails(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    put(tmp_path / name, 0o644)
    [hook] = await to_thread.run_sync(find, tmp_path)
    [(told, path, _)] = warnings(caplog)
    assert (told, path) == ("HookNotReady", str(tmp_path / name))
    with pytest.raises(HookError, match="may not execute it"):
        await hook.call(PreCreate(Upload()))
    hook.path.chmod(0o755)
    assert await hook.call(PreCreate(Upload())) == Answer()
    await hook.aclose()


def test_a_link_that_leads_nowhere_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "pre-create").symlink_to(tmp_path / "gone")
    [_] = find(tmp_path)
    [(told, path, advice)] = warnings(caplog)
    assert (told, path) == ("HookNotReady", str(tmp_path / "pre-create"))
    assert advice.startswith("the link leads nowhere")


@pytest.mark.anyio
async def test_a_folder_may_be_named_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "hooks" / "pre-create")
    monkeypatch.chdir(tmp_path)
    [hook] = await to_thread.run_sync(find, Path("hooks"))
    monkeypatch.chdir("/")
    hook.path.write_text("#!/bin/sh\necho '{\"RejectUpload\": true}'\n")
    assert await hook.call(PreCreate(Upload())) == Answer(is_rejected=True)
    await hook.aclose()


@pytest.mark.parametrize(("name", "reason"), [("missing", "No such file or directory"), ("file", "Not a directory")])
def test_without_a_folder_the_server_does_not_start(tmp_path: Path, name: str, reason: str) -> None:
    put(tmp_path / "file")
    with pytest.raises(ConfigError, match=f"--hooks-dir: .*/{name}: {reason}"):
        find(tmp_path / name)
