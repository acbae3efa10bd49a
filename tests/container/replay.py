"""The steps of a Dockerfile, taken without an engine: each stage in an overlay over this machine's own root.

The base image is the one thing that is not its own: Python and the rest are this machine's. Whoever runs in it has its
own mounts and processes, and the network of the machine.
"""

from __future__ import annotations

import fnmatch
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from dockerfile import Stage

RUN_SECONDS = 300
_BINDS = ("proc", "dev", "sys")

# $1: folder with root, upper, work; $2: "ro" or "rw"; $3: user; $4: directory; the rest is the command.
_ENTER = """
set -eu
box=$1 mode=$2 user=$3 directory=$4
shift 4
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=/,upperdir=$box/upper,workdir=$box/work" "$box/root"
for each in proc dev sys; do mount --rbind "/$each" "$box/root/$each"; done
if [ "$mode" = ro ]; then
    mount --bind "$box/data" "$box/root/data"
    mount -o remount,ro,bind "$box/root"
fi
cd "$box/root"
exec chroot --userspec="$user" "$box/root" sh -c 'cd "$0" && exec "$@"' "$directory" "$@"
"""


def can_replay() -> str:
    """What is missing for it, or nothing."""
    if os.geteuid() or not shutil.which("unshare"):
        return "root and unshare are needed to stand in for a container engine"
    tried = subprocess.run(["unshare", "-m", "mount", "--make-rprivate", "/"], capture_output=True, check=False)
    return "" if tried.returncode == 0 else "mounts of one's own are not allowed here"


class Box:
    """The file system of one stage, and its environment."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.environment = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME": "/root", "LANG": "C.UTF-8"}
        self.directory = "/"
        self.user = "0:0"
        for name in ("upper", "work", "root", "data"):
            (path / name).mkdir(parents=True)
        # The image's python is this one; it may stand where a slim image has none.
        python = Path(sys.executable).resolve()
        program = self._give("usr/local/bin/python")
        program.write_text(f'#!/bin/sh\nexec {python} "$@"\n')  # it finds its library by its own name
        program.chmod(0o755)
        for folder in reversed(python.parents):  # which may be in somebody's home, and images have users of their own
            place = self._give(str(folder).lstrip("/") or ".")
            place.mkdir(exist_ok=True)
            place.chmod(0o755)

    def build(self, stage: Stage, context: Path, earlier: dict[str, Box], environment: dict[str, str]) -> None:
        """Take each step of the stage. `environment` is what a build would get from its engine, such as an index."""
        for step in stage.instructions:
            if step.verb == "ENV":
                for name, value in (word.split("=", 1) for word in step.words):
                    self.environment[name] = value.replace("$PATH", self.environment["PATH"])
            elif step.verb == "WORKDIR":
                self.directory = step.text
                self._give(step.text).mkdir(parents=True, exist_ok=True)
            elif step.verb == "USER":
                self.user = step.text
            elif step.verb == "COPY":
                self._copy(step.words, context, earlier)
            elif step.verb == "RUN":
                done = self.start(["sh", "-euc", step.text], more=environment, is_read_only=False)
                output, _ = done.communicate(timeout=RUN_SECONDS)
                assert done.returncode == 0, f"RUN {step.text}\n{output.decode()[-4000:]}"

    def start(
        self, command: Sequence[str], *, is_read_only: bool, more: dict[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ["unshare", "-m", "sh", "-c", _ENTER, "enter", str(self.path), "ro" if is_read_only else "rw",
             self.user, self.directory, *command],
            env=self.environment | (more or {}),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def _give(self, path: str) -> Path:
        """Where a path of the image is changed."""
        found = self.path / "upper" / path.lstrip("/")
        found.parent.mkdir(parents=True, exist_ok=True)
        return found

    def _copy(self, words: Sequence[str], context: Path, earlier: dict[str, Box]) -> None:
        *options, source, target = words
        box = next(
            (earlier[option.removeprefix("--from=")] for option in options if option.startswith("--from=")), None
        )
        target = os.path.join(self.directory, target)
        if box is not None:
            shutil.copytree(box.path / "upper" / source.lstrip("/"), self._give(target), symlinks=True)
            return
        assert source == "."
        for path in _sent(context):
            place = self._give(f"{target}/{path}")
            shutil.copy2(context / path, place)


def _sent(context: Path) -> list[str]:
    """What an engine would be sent: everything that git knows or would add, but for what .dockerignore leaves out."""
    rules = [line for line in (context / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=context, capture_output=True, text=True, check=True)
    return [path for path in listed.stdout.splitlines() if _is_sent(path, rules) and (context / path).is_file()]


def _is_sent(path: str, rules: Sequence[str]) -> bool:
    """The last rule that fits a path, or a folder it is in, decides."""
    parts = path.split("/")
    names = ["/".join(parts[: count + 1]) for count in range(len(parts))]
    is_sent = True
    for rule in rules:
        pattern = rule.removeprefix("!")
        if pattern.startswith("**/"):
            fits = any(fnmatch.fnmatch(part, pattern.removeprefix("**/")) for part in parts)
        else:
            fits = any(fnmatch.fnmatch(name, pattern) and name.count("/") == pattern.count("/") for name in names)
        if fits:
            is_sent = rule.startswith("!")
    return is_sent
