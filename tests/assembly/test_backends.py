"""What is made of settings before anything runs."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from tusd_py.assembly.backends import made_own_folder, own_folder
from tusd_py.config import Config
from tusd_py.errors import ConfigError


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """With uploads in S3, so that what processes share is in the temporary folder, where anybody may write."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return Config(s3_bucket="b")


def test_what_processes_share_is_this_users_alone(config: Config) -> None:
    folder = made_own_folder(config)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert made_own_folder(config) == folder
    assert own_folder(Config(s3_bucket="c")) != folder


def test_a_folder_that_others_may_write_to_is_refused(config: Config) -> None:
    own_folder(config).mkdir(mode=0o700)
    os.chmod(own_folder(config), 0o777)
    with pytest.raises(ConfigError, match="not this user's alone"):
        made_own_folder(config)


def test_a_link_is_refused(config: Config, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    own_folder(config).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="not this user's alone"):
        made_own_folder(config)


def test_a_folder_of_another_user_is_refused(config: Config) -> None:
    own_folder(config).mkdir(mode=0o700)
    if os.geteuid():
        pytest.skip("only root can give a folder away")
    os.chown(own_folder(config), 1, 1)
    with pytest.raises(ConfigError, match="not this user's alone"):
        made_own_folder(config)


def test_a_file_in_its_place_is_named(config: Config) -> None:
    own_folder(config).write_text("")
    with pytest.raises(ConfigError, match="cannot be made"):
        made_own_folder(config)
