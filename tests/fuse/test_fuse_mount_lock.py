"""The log that is locked while a Dataset is mounted at a directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from fluidpy.errors import MountError
from fluidpy.fuse import mounting
from fluidpy.fuse.mount_record import log_path
from fluidpy.settings import Settings


@pytest.mark.parametrize("mounted", [True, False])
def test_a_mount_that_failed_takes_its_empty_log_along_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mounted: bool
) -> None:
    settings = Settings(cache_dir=tmp_path / "cache", runtime_dir=tmp_path)
    directory = tmp_path / "mnt"
    monkeypatch.setattr(mounting, "mounted_at", lambda _: object() if mounted else None)
    with pytest.raises(MountError), mounting._alone_at(directory, settings):
        raise MountError("somebody was quicker", cure="Choose another directory.")
    assert log_path(settings, directory).exists() == mounted
