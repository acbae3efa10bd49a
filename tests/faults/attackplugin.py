"""What the modules of attacks share with pytest: their servers, and the table at the end of the run.

They name it in `pytest_plugins`; who does not is not touched.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import attackreport
import pytest
from attackscene import Make, Scene

from tests.server.supervised import Supervised

# The largest crowd, and all else that this process has open.
OPEN_FILES = 2_500


@pytest.fixture(scope="module")
def open_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < OPEN_FILES:
        if hard != resource.RLIM_INFINITY and hard < OPEN_FILES:
            pytest.skip(f"missing: {OPEN_FILES} open files")
        resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(scope="module")
def make(open_files: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Make]:
    """make(*flags, changes=..., environ=...) starts a server with two workers."""
    servers: list[Supervised] = []

    def make_one(*flags: str, changes: str = "", environ: dict[str, str] | None = None) -> Scene:
        folder = tmp_path_factory.mktemp("attacked")
        flags = ("--port", "0", "--workers", "2", "--durability", "process", *flags)
        changes = "from tests.faults.attackhooks import install; install()\n" + changes
        servers.append(Supervised(folder, *flags, changes=changes, environ=environ))
        return Scene(servers[-1])

    yield make_one
    for server in servers:
        server.clear_away()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not attackreport.OUTCOMES:
        return
    terminalreporter.section("attacks")
    for line in attackreport.lines(attackreport.OUTCOMES):
        terminalreporter.write_line(line)
    if folder := os.environ.get("ATTACK_REPORT"):
        attackreport.write(Path(folder), attackreport.OUTCOMES)
        terminalreporter.write_line(f"written to {folder}/attacks.json and attacks.md")
