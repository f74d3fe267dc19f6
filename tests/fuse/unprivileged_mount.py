"""Run as a user without privilege: mounts a tree below the directory given, reads it, unmounts."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from fluidpy.fuse.kernel_mount import may_mount, raise_read_ahead
from fluidpy.fuse.mount_table import mounted_at
from fluidpy.fuse.mounting import list_mounts, mount_dataset, unmount
from fluidpy.fuse.upgrade_command import upgrade
from fluidpy.settings import Settings
from tests.fuse.tree_worker import TreeWorker, definition


def main(base: Path) -> None:
    """Prints `served` when everything was as it should be."""
    assert not may_mount()
    settings = Settings(cache_dir=base / "cache", runtime_dir=base / "run")
    content = os.urandom(2_000_000)
    worker = TreeWorker(settings, base, {b"a": None, b"a/b": content})
    worker.complete = False
    worker.start()
    directory = base / "mnt"
    directory.mkdir()
    try:
        mount_dataset(definition(), directory, settings, foreground=False, file=None, deadline=60)
        assert (directory / "a/b").read_bytes() == content
        assert (directory / "a/b").stat().st_uid == os.getuid()
        assert not raise_read_ahead(directory)  # not allowed, and nothing depends on it
        (record,) = list_mounts(settings)
        os.kill(record.server_pid, signal.SIGKILL)
        assert (directory / "a/b").read_bytes() == content
        assert os.listdir(directory / "a") == ["b"]
        (record,) = list_mounts(settings)
        assert record.restarts == 1
        assert upgrade(directory, settings).old == record.server_pid
        assert (directory / "a/b").read_bytes() == content
        unmount(directory, settings)
        assert mounted_at(directory) is None
        print("served")
    finally:
        if mounted_at(directory) is not None:
            unmount(directory, settings, lazy=True)
        worker.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
