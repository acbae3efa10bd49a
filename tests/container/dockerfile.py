"""A Dockerfile taken apart: its stages and their instructions, in the forms that ours uses."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Instruction:
    verb: str
    text: str

    @property
    def words(self) -> list[str]:
        """Of a JSON form its strings, else what a shell would make of it."""
        form = self.text[self.text.find("[") :] if "[" in self.text else ""
        if form:
            words: list[str] = json.loads(form)
            return words
        return shlex.split(self.text)


@dataclass(frozen=True)
class Stage:
    base: str
    name: str
    instructions: list[Instruction] = field(default_factory=list)

    def all(self, verb: str) -> list[Instruction]:
        return [each for each in self.instructions if each.verb == verb]

    def last(self, verb: str) -> Instruction:
        return self.all(verb)[-1]


def read(path: Path) -> list[Stage]:
    stages: list[Stage] = []
    arguments: dict[str, str] = {}
    for instruction in _instructions(path.read_text()):
        text = re.sub(r"\$\{(\w+)\}", lambda match: arguments.get(match[1], match[0]), instruction.text)
        if instruction.verb == "ARG":
            name, _, value = text.partition("=")
            arguments[name] = value
        elif instruction.verb == "FROM":
            base, *named = text.split()
            stages.append(Stage(base, named[1] if named else ""))
        else:
            stages[-1].instructions.append(Instruction(instruction.verb, text))
    return stages


def _instructions(text: str) -> Iterator[Instruction]:
    lines = "\n".join(line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#"))
    for line in re.sub(r"\\\n\s*", " ", lines).splitlines():
        verb, _, rest = line.partition(" ")
        yield Instruction(verb, rest.strip())
