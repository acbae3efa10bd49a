"""Clients whose programs are compiled first, in a folder here: fetched, built, and started by arguments."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from client_run import ClientRun

BUILD_SECONDS = 180

Start = Callable[..., ClientRun]
"""Starts a client: what to do, and what with."""


def compiled_client(folder: Path, *, name: str, fetch: str, build: str, program: str) -> Start:
    """`fetch` and `build` are commands for `folder`, and `program` what these make there. Skips where the compiler or
    the client called `name` cannot be had."""
    compiler = fetch.split(maxsplit=1)[0]
    if shutil.which(compiler) is None:
        pytest.skip(f"missing: {compiler}")
    fetched = _run(folder, fetch)
    if fetched.returncode:
        pytest.skip(f"missing: {name}: {fetched.stderr[-1000:]}")
    built = _run(folder, build)
    assert built.returncode == 0, built.stderr
    return lambda *arguments: ClientRun([str(folder / program), *map(str, arguments)])


def _run(folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command.split(), cwd=folder, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False
    )
