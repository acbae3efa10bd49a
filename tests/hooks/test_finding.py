"""Where hooks are found, and how a mistake in one is told: with the file, the line, and what to do."""

from __future__ import annotations

import importlib
import logging
import os
import sys
from pathlib import Path

import pytest

from tusd_py.errors import ConfigError
from tusd_py.hooks.finding import entry_points, find, find_in_folder

GOOD = """\
from __future__ import annotations
from dataclasses import dataclass
from tusd_py.hooks.contract import Hook

@dataclass(frozen=True)
class Settings:
    limit: int | None = None

hook = Hook(Settings)
other = Hook()

@hook.on("post-finish")
@other.on("pre-create")
def say() -> None:
    pass
"""


@pytest.fixture(autouse=True)
def _nothing_stays_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    before = set(sys.modules)
    path = list(sys.path)
    yield
    assert sys.path in (path, [str(tmp_path), *path])
    for name in set(sys.modules) - before:
        del sys.modules[name]


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def _refusal(use: str | Path) -> str:
    with pytest.raises(ConfigError) as caught:
        find(str(use))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_is_a_hook_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _write(tmp_path / "sort-it.py", GOOD)
    name, hook = find(str(path))
    assert (name, [each.event for each in hook.handlers]) == ("sort-it", ["post-finish"])
    assert find(str(path))[1] is hook, "it was loaded twice"
    assert find(f"{path}:other")[0] == "sort-it.other"
    monkeypatch.chdir(tmp_path)
    assert find("sort-it.py")[1] is hook
    assert find("./sort-it.py")[1] is hook


def test_two_files_of_one_name_are_two_hooks(tmp_path: Path) -> None:
    one = _write(tmp_path / "a/mine.py", GOOD)
    two = _write(tmp_path / "b/mine.py", GOOD)
    assert find(str(one))[1] is not find(str(two))[1]
    assert "mine" not in sys.modules


def test_a_folder_is_a_hook_and_imports_its_own_modules(tmp_path: Path) -> None:
    _write(tmp_path / "scan/__init__.py", f"{GOOD}\nfrom .rules import LIMIT\nfrom . import rules\n")
    _write(tmp_path / "scan/rules.py", "LIMIT = 3\n")
    name, hook = find(f"{tmp_path}/scan/")
    assert name == "scan"
    assert hook.handlers[0].function.__globals__["LIMIT"] == 3


def test_a_module_is_a_hook_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(tmp_path / "company/__init__.py", "")
    _write(tmp_path / "company/hooks.py", GOOD)
    monkeypatch.syspath_prepend(tmp_path)
    assert find("company.hooks")[0] == "company.hooks"
    assert find("company.hooks:hook") == find("company.hooks")
    name, hook = find("company.hooks:other")
    assert (name, hook.handlers[0].event) == ("company.hooks.other", "pre-create")


def test_what_is_installed_is_a_hook_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(tmp_path / "sorting_it.py", GOOD)
    _write(tmp_path / "sorting_it-1.2.dist-info/METADATA", "Metadata-Version: 2.1\nName: sorting-it\nVersion: 1.2\n")
    points = _write(
        tmp_path / "sorting_it-1.2.dist-info/entry_points.txt", "[tusd_py.hooks]\nsort = sorting_it:other\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    name, hook = find("sort")
    assert (name, hook.handlers[0].event) == ("sort", "pre-create")
    assert "did you mean sort?" in _refusal("srot")
    points.write_text("[tusd_py.hooks]\nsort = gone_away:other\n")
    importlib.invalidate_caches()
    assert "the installed hook sort (gone_away:other): there is no module 'gone_away'" in _refusal("sort")
    assert list(entry_points()) == ["sort"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hook = 1 / 0\n", ", line 1: ZeroDivisionError: division by zero"),
        ("\nhook = (\n", ", line 2: SyntaxError: '(' was never closed"),
        ("import os\nimport pandsa\n", ", line 2: there is no module 'pandsa'; install it for "),
        ("import rules\n", ", line 1: there is no module 'rules'; a hook does not see the files beside it: make a"),
        (
            "import sys\nsys.exit(1)\n",
            ", line 2: it ends the process when it is loaded; put what is not for the server",
        ),
        ("from tusd_py.hooks.contract import Hook\nhook = Hook()\n", "listens to nothing: put @hook.on("),
        ("hook = 5\n", "'hook' is of type int, not a tusd_py.hooks.contract.Hook"),
        ("x = 5\n", "has no 'hook'; it needs a line such as: hook = Hook()"),
        ("from tusd_py.hooks.contract import Hook\nmine = Hook()\n", "has no 'hook', but a Hook 'mine'"),
        (
            "from tusd_py.hooks.contract import Hook\nhook = Hook()\n\n@hook.on('post-finsh')\ndef f(): ...\n",
            ", line 4: ValueError: there is no event 'post-finsh'",
        ),
    ],
)
def test_a_mistake_is_told_with_its_line_and_what_to_do(tmp_path: Path, text: str, said: str) -> None:
    _write(tmp_path / "rules.py", "")
    path = _write(tmp_path / "mine.py", text)
    before = set(sys.modules)
    refusal = _refusal(path)
    assert str(path) in refusal
    assert said in refusal
    assert not {name for name in set(sys.modules) - before if "mine" in name}, "half a module stays"
    path.write_text(GOOD)
    os.utime(path, (1, 1))
    assert find(str(path))[0] == "mine", "what was mended can be loaded"


def test_a_mistake_in_a_package_is_told_where_it_is(tmp_path: Path) -> None:
    _write(tmp_path / "scan/__init__.py", "from . import rules\n")
    rules = _write(tmp_path / "scan/rules.py", "\n\nLIMIT = int('x')\n")
    assert f"{rules}, line 3: ValueError" in _refusal(f"{tmp_path}/scan")
    rules.write_text("LIMIT = 1\n")
    _write(tmp_path / "scan/__init__.py", f"{GOOD}\nfrom .rules import LIMIT\n")
    assert find(f"{tmp_path}/scan")[0] == "scan"


def test_a_mistake_in_a_module_is_told_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _write(tmp_path / "my_company_hook.py", "import os\nimport nowhere_at_all\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert f"{path}, line 2: there is no module 'nowhere_at_all'" in _refusal("my_company_hook")


@pytest.mark.parametrize(
    ("use", "said"),
    [
        ("nothere", "there is no hook 'nothere', and no module of that name"),
        ("no where", "'no where' is no hook; write the name of an installed one"),
        ("a.b:c d", "is no hook"),
        ("./gone.py", "there is no file "),
        ("./", "is no package: it has no __init__.py"),
    ],
)
def test_what_is_not_there_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use: str, said: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert said in _refusal(use)


def test_a_folder_gives_its_hooks_in_the_order_of_their_names(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("b.py", "a-1.py", "c/__init__.py", "10.py"):
        _write(tmp_path / name, GOOD)
    for name in ("_own.py", "test_b.py", "conftest.py", "__init__.py", "tests/__init__.py", ".hidden.py"):
        _write(tmp_path / name, "raise RuntimeError('it was loaded')\n")
    _write(tmp_path / "data/readme.txt", "")
    _write(tmp_path / "pre-create", "#!/bin/sh\n")
    _write(tmp_path / "rules.py", "LIMIT = 3\n")
    assert [name for name, _ in find_in_folder(str(tmp_path))] == ["10", "a-1", "b", "c"]
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "NoHookInFile" in record.message
    assert "call it _rules.py" in record.message


def test_a_hook_under_a_wrong_name_is_not_passed_over(tmp_path: Path) -> None:
    _write(tmp_path / "mine.py", GOOD.replace("hook =", "hooook =").replace("@hook.", "@hooook."))
    with pytest.raises(ConfigError, match="has no 'hook', but a Hook 'hooook'"):
        find_in_folder(str(tmp_path))


def test_two_hooks_of_one_name_in_a_folder_are_refused(tmp_path: Path) -> None:
    _write(tmp_path / "a.py", GOOD)
    _write(tmp_path / "a/__init__.py", GOOD)
    with pytest.raises(ConfigError, match="two hooks would have the name 'a'"):
        find_in_folder(str(tmp_path))


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="gone' cannot be read: no such file or directory"):
        find_in_folder(str(tmp_path / "gone"))


def test_what_a_hook_prints_when_it_is_loaded_is_seen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    find(str(_write(tmp_path / "mine.py", f"{GOOD}\nprint('loaded')\n")))
    assert capsys.readouterr().out == "loaded\n"
