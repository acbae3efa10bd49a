"""The peers: how each is installed, started in its most favourable sane file-store configuration, and named.

Favourable and sane means: no logs per request, no hooks, files on disk, every core that the peer's own documentation
gives it. A peer that cannot be installed raises Unavailable with one line for the user.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchwatch import usable_cores

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SERVERS = HERE / "servers"
RUSTUS_VERSION = "0.5.10"
NODE_VERSIONS = {"server": "2.4.5", "file-store": "2.1.1", "s3-store": "2.0.7"}
PIP_PEERS_NEED = ("uvicorn", "uvloop", "httptools")
# actix reads a whole PATCH into memory, and refuses what is larger than this.
RUSTUS_MAX_BODY_BYTES = 2 << 30


class Unavailable(Exception):
    """Why a peer is left out, in one line."""


@dataclass(frozen=True)
class Choices:
    """What the user decided about peers. `python` runs tusd_py; `workers` is for whoever can have several processes."""

    cache: Path
    python: str = sys.executable
    tusd: str = ""
    rustus: str = ""
    workers: int = field(default_factory=usable_cores)
    may_install: bool = True


@dataclass(frozen=True)
class Recipe:
    """How a peer runs here. `environment` is added to ours; {port}, {folder} and the like are filled in both.

    `ready_seconds` after its start, what it knows by heart is all it will know.
    """

    version: str
    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    note: str = ""
    workers: int = 1
    is_asked_for_downloads: bool = True
    ready_seconds: float = 0

    def fill(self, **places: str) -> tuple[list[str], dict[str, str]]:
        def put(text: str) -> str:
            for name, value in places.items():
                text = text.replace(f"{{{name}}}", value)
            return text

        return [put(each) for each in self.command], {name: put(value) for name, value in self.environment.items()}


@dataclass(frozen=True)
class Peer:
    name: str
    title: str
    prepare: Callable[[Choices], Recipe]


def _run(*command: str, seconds: float = 900, cwd: Path | None = None) -> str:
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=seconds, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{command[0]}: {error}") from error
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no output"]
        raise Unavailable(f"{' '.join(command[:3])}: {lines[-1]}")
    return done.stdout.strip()


def _ours(durability: str) -> Callable[[Choices], Recipe]:
    def prepare(choices: Choices) -> Recipe:
        known = _run(choices.python, "-P", "-m", "tusd_py", "--help")
        has_workers = "--workers" in known
        flags = [f"--durability={durability}"] if durability else []
        if "--expose-metrics" in known:  # as tusd
            flags.append("--expose-metrics=false")
        if has_workers:
            flags.append(f"--workers={choices.workers}")
        return Recipe(
            our_version(choices),
            our_command(choices, "--upload-dir={folder}", *flags),
            note=" ".join(flags),
            workers=choices.workers if has_workers else 1,
        )

    return prepare


def our_command(choices: Choices, *flags: str) -> tuple[str, ...]:
    where = ("--host=127.0.0.1", "--port={port}")
    return (choices.python, "-P", "-m", "tusd_py", *where, "--verbose=false", *flags)


def our_version(choices: Choices) -> str:
    version = _run(choices.python, "-P", "-m", "tusd_py", "--version").rpartition(" ")[2]
    where = _run(choices.python, "-P", "-c", "import tusd_py; print(tusd_py.__path__[0])")
    try:
        commit = _run("git", "-C", where, "describe", "--always")
        is_changed = _run("git", "-C", where, "status", "--porcelain", ".")  # results beside it do not count
    except Unavailable:
        return version
    return f"{version} ({commit}{'-dirty' if is_changed else ''})"


def _uvicorn(python: str, app: str, choices: Choices, *flags: str) -> tuple[str, ...]:
    where = (f"--app-dir={SERVERS}", "--host=127.0.0.1", "--port={port}", f"--workers={choices.workers}")
    return (python, "-P", "-m", "uvicorn", app, *where, *flags, "--log-level=warning", "--no-access-log")


def _ours_under_uvicorn(choices: Choices) -> Recipe:
    uvicorn = _run(choices.python, "-P", "-c", "import uvicorn; print(uvicorn.__version__)")
    return Recipe(
        f"{our_version(choices)}, uvicorn {uvicorn}",
        _uvicorn(choices.python, "ours:create", choices, "--factory"),
        {"TUSD_PY_UPLOAD_DIR": "{folder}", "TUSD_PY_DURABILITY": "process", "TUSD_PY_VERBOSE": "false"},
        note=f"uvicorn --workers {choices.workers}, durability process",
        workers=choices.workers,
    )


def tusd_binary(choices: Choices) -> str:
    binary = choices.tusd or shutil.which("tusd")
    if not binary or not os.access(binary, os.X_OK):
        raise Unavailable("no tusd here; say where with --tusd")
    return binary


def tusd_version(binary: str) -> str:
    version = _run(binary, "-version").splitlines()[0].rpartition(" ")[2]
    if version == "n/a":  # built without their release script
        with open(binary, "rb") as file:
            version = f"own build, sha256 {hashlib.file_digest(file, 'sha256').hexdigest()[:12]}"
    return version


def _tusd(choices: Choices) -> Recipe:
    binary = tusd_binary(choices)
    return Recipe(
        tusd_version(binary),
        (binary, *_TUSD),
        note="-verbose=false -expose-metrics=false, no hooks; all cores",
    )


_TUSD = [
    "-host=127.0.0.1",
    "-port={port}",
    "-upload-dir={folder}",
    "-base-path=/files/",
    "-verbose=false",
    "-show-startup-logs=false",
    "-expose-metrics=false",
]


def node_recipe(choices: Choices, store: str, script: Path) -> Recipe:
    """Of @tus/server with one of its stores, each in a folder of its own."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node:
        raise Unavailable("no node here")
    folder = choices.cache / f"node-{store}"
    packages = {name: f"@tus/{name}@{NODE_VERSIONS[name]}" for name in ("server", store)}
    modules = folder / "node_modules" / "@tus"
    if any(_node_version(modules / name) != NODE_VERSIONS[name] for name in packages):
        if not npm or not choices.may_install:
            raise Unavailable(f"{' and '.join(packages.values())} are not installed, and npm is not to be had")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text('{"private": true}')
        _run(npm, "install", "--no-audit", "--no-fund", "--silent", *packages.values(), cwd=folder)
    shutil.copy(script, folder)  # node looks for modules from where the file is
    return Recipe(
        f"{NODE_VERSIONS['server']}, {store} {NODE_VERSIONS[store]}, node {_run(node, '--version')}",
        (node, str(folder / script.name)),
        {"UPLOAD_DIR": "{folder}", "PORT": "{port}", "NODE_ENV": "production"},
        note="one process: its locks are in memory",
        # A client that leaves right after a download ends the process: "ReadableStream is already closed".
        is_asked_for_downloads=False,
    )


def _node_version(package: Path) -> str:
    try:
        version: str = json.loads((package / "package.json").read_text())["version"]
    except FileNotFoundError:
        return ""
    return version


def _tus_node(choices: Choices) -> Recipe:
    return node_recipe(choices, "file-store", SERVERS / "theirs_tus_node.mjs")


def _from_pip(package: str, app: str, note: str) -> Callable[[Choices], Recipe]:
    def prepare(choices: Choices) -> Recipe:
        folder = choices.cache / package
        python = str(folder / "bin" / "python")
        if not (folder / "installed").exists():
            if not choices.may_install:
                raise Unavailable(f"{package} is not installed")
            _run(sys.executable, "-m", "venv", str(folder))
            _run(python, "-m", "pip", "install", "-q", package, *PIP_PEERS_NEED)
            (folder / "installed").touch()
        code = f"from importlib.metadata import version as v; print(v({package!r}) + ', uvicorn ' + v('uvicorn'))"
        return Recipe(
            _run(python, "-c", code),
            _uvicorn(python, app, choices),
            {"UPLOAD_DIR": "{folder}"},
            note=f"uvicorn --workers {choices.workers}{note}",
            workers=choices.workers,
        )

    return prepare


def _rustus(choices: Choices) -> Recipe:
    binary = choices.rustus or str(choices.cache / "rustus" / "bin" / "rustus")
    if not os.access(binary, os.X_OK):
        cargo = shutil.which("cargo")
        if choices.rustus or not cargo or not choices.may_install:
            raise Unavailable("no rustus here, and no cargo to build it; say where with --rustus")
        _run(*_cargo(cargo, choices.cache / "rustus"), seconds=3600)
    return Recipe(
        _run(binary, "--version").rpartition(" ")[2],
        (binary, *_RUSTUS, f"--max-body-size={RUSTUS_MAX_BODY_BYTES}"),
        note="file storage, --log-level ERROR, bodies up to 2 GiB allowed; all cores",
    )


_RUSTUS = [
    "--host=127.0.0.1",
    "--port={port}",
    "--url=/files",
    "--data-dir={folder}",
    "--info-dir={folder}",
    "--log-level=ERROR",
]


def _cargo(cargo: str, root: Path) -> tuple[str, ...]:
    return ("nice", cargo, "install", "rustus", "--version", RUSTUS_VERSION, "--locked", "--root", str(root))


PEERS = {
    peer.name: peer
    for peer in (
        Peer("tusd-py", "tusd-py, `--durability process`", _ours("process")),
        Peer("tusd-py-power", "tusd-py, default durability", _ours("")),
        Peer("tusd-py-uvicorn", "tusd_py under stock uvicorn", _ours_under_uvicorn),
        Peer("tusd", "tusd (Go)", _tusd),
        Peer("tus-node", "@tus/server (Node)", _tus_node),
        Peer("tuspyserver", "tuspyserver (Python)", _from_pip("tuspyserver", "theirs_tuspyserver:app", "")),
        Peer(
            "resumable-upload",
            "resumable-upload (Python)",
            _from_pip("resumable-upload", "theirs_resumable_upload:app", ", SQLite beside the files"),
        ),
        Peer("rustus", "rustus (Rust)", _rustus),
    )
}
