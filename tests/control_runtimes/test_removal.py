"""What goes with a runtime, and what never does."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from fluidpy.control.runtime_keeper import remove_unmounted
from fluidpy.errors import ControlPlaneError


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting without FUSE needs root")
@pytest.mark.parametrize("name", ["runtime", "by-a-link/runtime", "läuft 中文"])
def test_files_of_a_store_that_is_still_mounted_are_not_removed(tmp_path: Path, name: str) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "by-a-link").symlink_to("real")
    place = tmp_path / name
    mounted = place / "mount" / "fuse"
    mounted.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "store", mounted], check=True)
    try:
        (mounted / "precious").write_text("the user's")
        with pytest.raises(ControlPlaneError, match="is mounted, and stays as it is"):
            remove_unmounted(place)
        assert (mounted / "precious").read_text() == "the user's"
    finally:
        subprocess.run(["umount", mounted], check=True)
    remove_unmounted(place)
    assert not place.exists()
    remove_unmounted(place)
