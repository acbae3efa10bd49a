"""tus-js-client and Uppy on Node, of their newest and their previous major version: installed once, each upload in a
process of its own that is told what to do.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any, Literal

from client_run import ClientRun

FOLDER = Path(__file__).parent / "js"
INSTALL_SECONDS = 180.0

Release = Literal["newest", "previous"]
FOLDERS: dict[Release, Path] = {"newest": FOLDER, "previous": FOLDER / "previous"}


class MissingNode(Exception):
    """There is no Node here, or its packages cannot be installed."""


def installed_node_client(release: Release = "newest") -> NodeClient:
    """Install the locked packages unless they are there; several test runs at once do it once."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise MissingNode("node and npm are needed to run the JavaScript clients")
    folder = FOLDERS[release]
    stamp = folder / "node_modules" / ".installed-from"
    with (folder / "package-lock.json").open("rb") as locked:
        fcntl.flock(locked, fcntl.LOCK_EX)
        wanted = hashlib.sha256(locked.read()).hexdigest()
        if not stamp.exists() or stamp.read_text() != wanted:
            _install(npm, folder)
            stamp.write_text(wanted)
    return NodeClient(node, release)


def _install(npm: str, folder: Path) -> None:
    command = [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise MissingNode("npm ci did not end; is there a network?") from error
    if done.returncode:
        raise MissingNode(f"npm ci failed: {done.stderr[-1000:]}")


class NodeClient:
    def __init__(self, node: str, release: Release) -> None:
        self._node = node
        self._release = release

    def start(self, script: str = "upload.mjs", **scenario: Any) -> ClientRun:
        scenario["packages"] = str(FOLDERS[self._release] / "package.json")
        return ClientRun([self._node, str(FOLDER / script), json.dumps(scenario)])

    def upload(self, script: str = "upload.mjs", **scenario: Any) -> ClientRun:
        """Run it to its end, which must be a success."""
        with self.start(script, **scenario) as run:
            run.finish()
        return run
