"""The house keeps its shape: arrows between its rooms, no circles, no long modules or functions."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

HOUSE = Path(__file__).parent.parent / "tusd_py"
MODULES = sorted(HOUSE.rglob("*.py"))

# What each room may import of the house; a room is a folder or a module at the top.
ARROWS = {
    "errors": set(),
    "extensions": set(),
    "logs": set(),
    "memory": set(),
    "bundled": set(),
    "core": {"errors", "logs"},
    "protocol": {"errors", "core"},
    "stores": {"errors", "core", "logs"},
    "lockers": {"errors", "core", "logs"},
    "hooks": {"errors", "core", "logs"},
    "jobs": {"errors", "core", "logs"},
    "metrics": set(),
    "tracing": {"errors"},
    "server": {"errors", "extensions", "core", "logs"},
    "web": {"errors", "extensions", "core", "protocol", "logs"},
    "config": {"errors"},
    "client": {"errors", "config"},
    "assembly": {"errors", "config", "core", "stores", "lockers", "hooks", "jobs"},
    "app": {
        "errors",
        "config",
        "core",
        "stores",
        "assembly",
        "web",
        "logs",
        "metrics",
        "memory",
        "tracing",
        "bundled",
    },
    "queueing": {"errors", "config", "core", "logs", "jobs", "assembly"},
    "checking": {"errors", "config", "stores", "assembly"},
    "authoring": {"errors", "config", "core", "logs", "hooks", "client"},
    "cli": {"errors", "config", "logs", "app", "server", "checking", "authoring", "queueing", "client", "bundled"},
    "__main__": {"cli"},
}


def _name(path: Path) -> str:
    parts = path.relative_to(HOUSE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(path: Path) -> Iterator[str]:
    """Every module of the house that this one imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tusd_py"):
            assert node.module is not None
            for alias in node.names:
                candidate = f"{node.module}.{alias.name}"
                yield candidate if candidate in NAMES else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("tusd_py"))


NAMES = {_name(path) for path in MODULES}


def _room(name: str) -> str:
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else ""


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_a_room_imports_only_what_is_below_it(path: Path) -> None:
    room = _room(_name(path))
    if not room:
        return  # tusd_py itself: the version and the public names
    used = {_room(name) for name in _imports(path)} - {room, ""}
    assert used <= ARROWS[room], f"{_name(path)} reaches into {sorted(used - ARROWS[room])}"


def test_only_the_app_names_stores_and_lockers() -> None:
    for path in MODULES:
        rooms = {_room(name) for name in _imports(path)}
        if _room(_name(path)) not in ("app", "assembly", "checking", "stores", "lockers"):
            assert not rooms & {"stores", "lockers"}, _name(path)


def test_each_store_and_locker_stands_alone() -> None:
    for folder in ("stores", "lockers"):
        for path in (HOUSE / folder).rglob("*.py"):
            own = path.relative_to(HOUSE / folder).parts[0].removesuffix(".py")
            for name in _imports(path):
                parts = name.split(".")
                if parts[1] == folder and len(parts) > 2 and folder == "stores":
                    assert parts[2] in (own, "fileinfo"), f"{_name(path)} imports {name}"


def test_only_config_reads_the_environment() -> None:
    for path in MODULES:
        if _room(_name(path)) != "config":
            assert "os.environ" not in path.read_text(), _name(path)
            assert "getenv" not in path.read_text(), _name(path)


def test_there_are_no_circles() -> None:
    graph = {_name(path): set(_imports(path)) - {_name(path)} for path in MODULES}
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " -> ".join([*way, name])
        if name not in done:
            for other in graph.get(name, ()):
                visit(other, (*way, name))
            done.add(name)

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_modules_and_functions_are_short_and_say_what_they_own(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    assert len(text.splitlines()) <= 400
    assert ast.get_docstring(tree), "a module says in its docstring what it owns"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < 60, f"{node.name} is too long"


def test_no_room_has_a_name_that_says_nothing() -> None:
    for name in NAMES:
        assert not set(name.split(".")) & {"utils", "helpers", "common", "base", "manager", "misc"}
