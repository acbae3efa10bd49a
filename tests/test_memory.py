"""malloc keeps what bodies need again, in any process that runs the application's lifespan."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

GLIBC = "CS_GNU_LIBC_VERSION"
pytestmark = pytest.mark.skipif(GLIBC not in os.confstr_names, reason="malloc is glibc's only there")

# What uvicorn does for each piece that it receives: 256 KiB are made and freed. Prints how many pages were faulted in.
PIECES = 500
SCRIPT = f"""
import asyncio, resource
from tusd_py import Config, create_app
async def main():
    app = create_app(Config(upload_dir="uploads"))
    async with app.router.lifespan_context(app):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range({PIECES}):
            bytes(bytearray(256 * 1024))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
asyncio.run(main())
"""


def faults(folder: Path, **environment: str) -> int:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, cwd=folder, env=inherited | environment, capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_what_a_piece_took_is_there_for_the_next(tmp_path: Path) -> None:
    assert faults(tmp_path) < PIECES


def test_what_the_operator_sets_counts_more(tmp_path: Path) -> None:
    assert faults(tmp_path, MALLOC_MMAP_THRESHOLD_="65536") > 50 * PIECES
