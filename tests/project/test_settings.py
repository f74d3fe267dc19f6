"""Settings that a user may get wrong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fluidpy.errors import UsageError
from fluidpy.settings import default_cache_dir, load_settings


def test_directories_of_the_environment_are_absolute_or_left_out(tmp_path: Path) -> None:
    environment = {
        "HOME": str(tmp_path),
        "FLUIDPY_RUNTIME_DIR": "run",
        "FLUIDPY_CACHE_DIR": "",
        "FLUIDPY_SECRET_DIRECTORY": "",
    }
    settings = load_settings(environment)
    assert settings.runtime_dir == Path.cwd() / "run"
    assert settings.cache_dir == tmp_path / ".cache/fluidpy"
    assert settings.secret_directory is None
    assert default_cache_dir({"HOME": os.curdir}).is_absolute()


def test_a_relative_directory_of_the_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[settings]\ncache_dir = "cache"\n')
    with pytest.raises(UsageError) as caught:
        load_settings({"HOME": str(tmp_path), "FLUIDPY_CONFIG": str(file)})
    assert caught.value.message == f"{file}: cache_dir is 'cache', which is not an absolute path"
