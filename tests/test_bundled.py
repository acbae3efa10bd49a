"""Where the bundle is found: in a wheel, in a checkout, and nowhere else."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from tusd_py import bundled as own

Find = Callable[[str], Path | None]


@pytest.fixture
def find(tmp_path: Path) -> Find:
    """`bundled` of a package in `tmp_path`."""
    module = tmp_path / "tusd_py" / "bundled.py"
    module.parent.mkdir()
    shutil.copy(own.__file__, module)
    spec = spec_from_file_location("bundled_elsewhere", module)
    assert spec is not None
    assert spec.loader is not None
    loaded = module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded.bundled


def test_a_package_without_a_bundle_has_none(find: Find) -> None:
    assert find("static") is None


def test_a_wheel_has_it_in_the_package(find: Find, tmp_path: Path) -> None:
    folder = tmp_path / "tusd_py" / "_bundled" / "static"
    folder.mkdir(parents=True)
    assert find("static") == folder
    assert find("hooks") is None


def test_a_checkout_has_it_where_it_was_built(find: Find, tmp_path: Path) -> None:
    (tmp_path / "hatch_build.py").touch()
    (tmp_path / "static").mkdir()
    assert find("static") is None, "those are the sources"
    (tmp_path / "static" / "dist").mkdir()
    assert find("static") == tmp_path / "static" / "dist"


def test_somebodys_folder_beside_an_installed_package_is_not_taken(find: Find, tmp_path: Path) -> None:
    (tmp_path / "static" / "dist").mkdir(parents=True)
    assert find("static") is None


def test_what_is_not_built_is_found_as_it_is(find: Find, tmp_path: Path) -> None:
    (tmp_path / "hatch_build.py").touch()
    (tmp_path / "hooks").mkdir()
    assert find("hooks") == tmp_path / "hooks"
