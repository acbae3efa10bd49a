"""Builds the page's bundle for the tests, unless the one that is there is newer than its sources."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

STATIC = Path(__file__).resolve().parents[3] / "static"
INSTALL_SECONDS = 180.0
SOURCES = ("src", "test", "package.json", "package-lock.json", "build.mjs", "tsconfig.json")


class MissingNode(Exception):
    """There is no Node here, or its packages cannot be installed."""


def build_page() -> Path:
    """`dist`, after which the server has a page to serve."""
    dist = STATIC / "dist"
    with (STATIC / "package-lock.json").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        install_packages()
        index = dist / "index.html"
        if not index.exists() or index.stat().st_mtime < newest_source():
            run_npm("run", "build")
    return dist


def install_packages() -> None:
    installed = STATIC / "node_modules" / ".package-lock.json"
    has_all = (STATIC / "node_modules" / "axe-core").is_dir()  # a build for an install leaves out what tests need
    if has_all and installed.stat().st_mtime >= (STATIC / "package-lock.json").stat().st_mtime:
        return
    run_npm("ci", "--no-audit", "--no-fund", "--ignore-scripts")
    os.utime(installed)


def run_npm(*arguments: str) -> str:
    npm = shutil.which("npm")
    if npm is None:
        raise MissingNode("node and npm are needed to build the page")
    command = [npm, *arguments]
    try:
        done = subprocess.run(command, cwd=STATIC, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise MissingNode("npm did not end; is there a network?") from error
    if done.returncode and arguments[0] == "ci":
        raise MissingNode(f"npm ci failed: {done.stderr[-1000:]}")
    assert done.returncode == 0, f"npm {' '.join(arguments)} failed:\n{done.stdout[-6000:]}\n{done.stderr[-2000:]}"
    return done.stdout


def newest_source() -> float:
    paths = [path for name in SOURCES for path in [STATIC / name, *(STATIC / name).rglob("*")]]
    return max(path.stat().st_mtime for path in paths if path.is_file())
