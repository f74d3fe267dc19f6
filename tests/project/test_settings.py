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


def test_a_bound_may_be_zero_and_no_other_number(tmp_path: Path) -> None:
    def loaded(name: str, text: str) -> object:
        settings = load_settings({"HOME": str(tmp_path), f"FLUIDPY_{name.upper()}": text})
        return getattr(settings, name)

    assert loaded("move_bytes_per_second", "0") == 0
    with pytest.raises(UsageError) as caught:
        loaded("move_bytes_per_second", "-1")
    assert caught.value.message == "FLUIDPY_MOVE_BYTES_PER_SECOND: move_bytes_per_second is '-1'"
    assert caught.value.cure == "Give a value above zero, or 0 for no bound."
    for name, text in (("fetch_concurrency", "0"), ("idle_seconds", "nan")):
        with pytest.raises(UsageError, match=f"{name} is '{text}'"):
            loaded(name, text)


def test_what_the_file_does_not_know_is_refused_and_what_the_environment_has_is_not(
    tmp_path: Path,
) -> None:
    file = tmp_path / "config.toml"
    file.write_text("[settings]\nblock_size = 4096\n")
    with pytest.raises(UsageError, match="unknown settings block_size"):
        load_settings({"HOME": str(tmp_path), "FLUIDPY_CONFIG": str(file)})
    load_settings({"HOME": str(tmp_path), "FLUIDPY_BLOCK_SIZE": "4096"})
