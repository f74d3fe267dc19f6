"""Who has files open or mapped, over a real worker, notices neither a kill nor an upgrade."""

from __future__ import annotations

import mmap
import os
import re
import shutil
from pathlib import Path

import pytest

import fluidpy
from fluidpy.fuse.mount_record import log_path
from fluidpy.fuse.read_modes import ReadMode
from fluidpy.fuse.upgrade_command import upgrade
from tests.fuse.passed_through import passed_through
from tests.fuse.reading_bed import MODES, Bed, as_root
from tests.fuse.test_fuse_restart import kill_server
from tests.fuse.test_fuse_serving import until


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_open_and_mapped_files_are_read_on(bed: Bed, mode: ReadMode) -> None:
    bed.mount(mode)
    passes = mode is ReadMode.PASSTHROUGH
    content = (bed.source / "large").read_bytes()
    assert bed.same("large")
    if passes:
        assert until(lambda: bed.is_passed_through("large"))
    with (
        (bed.mount_point / "large").open("rb", buffering=0) as stream,
        mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ) as view,
    ):
        for number in range(2):
            if number == 0:
                kill_server(bed.settings)
            else:
                upgrade(bed.mount_point, bed.settings)
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            assert view[:] == content
            stream.seek(0)
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            assert stream.read(1 << 30) == content
            if passes:  # else the pages that are mapped stay with the kernel
                assert bed.is_passed_through("large")
        bed.ask("evict", path="/large")
        kill_server(bed.settings)
        assert stream.seek(0) == 0
        assert stream.read(1 << 30) == content
    assert bed.same("large")
    record = bed.record()
    assert (record.read_mode, record.restarts) == (mode, 2)
    log = log_path(bed.settings, bed.mount_point).read_text()
    assert len(re.findall(r"took over after [\d.]+ ms", log)) >= 3


@as_root
def test_more_open_files_than_the_bound_are_read_the_older_way(
    bed: Bed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bound = 4
    package = Path(fluidpy.__file__).parent
    shutil.copytree(package, tmp_path / "fluidpy", ignore=shutil.ignore_patterns("__pycache__"))
    module = tmp_path / "fluidpy/fuse/passthrough_files.py"
    text, found = re.subn(r"(MOST_BACKINGS: Final) = \d+", rf"\1 = {bound}", module.read_text())
    assert found == 1
    module.write_text(text)
    monkeypatch.setenv("PYTHONPATH", os.fspath(tmp_path))
    bed.mount("passthrough")
    bed.ask("load", paths=["/small"])
    contents = {
        bed.mount_point / f"small/{number}": (bed.source / f"small/{number}").read_bytes()
        for number in range(12)
    }

    def right() -> int:
        """How many of all the files, open at once, were passed through."""
        return len(passed_through(contents, bed.record().server_pid))

    assert until(lambda: right() == bound, 60)
    kill_server(bed.settings)
    assert until(lambda: right() == bound, 60)
