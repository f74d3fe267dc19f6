"""What is open and mapped over a real worker when the mount's processes are killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from fluidpy.fuse.mount_record import read_records
from fluidpy.fuse.mount_table import mounted_at
from fluidpy.fuse.mounting import list_mounts
from fluidpy.fuse.read_modes import ReadMode
from tests.chaos.mapper import Mapper
from tests.fuse.conftest import children_of
from tests.fuse.reading_bed import MODES, Bed, as_root
from tests.fuse.test_fuse_faults import gone, running
from tests.fuse.test_fuse_restart import environment, kill_server
from tests.fuse.test_fuse_serving import until

PAGES = (0, 1 << 20, 6 << 20)
"""Where the large file is looked at: a page each that nobody has touched."""


@pytest.fixture
def mapper() -> Iterator[Mapper]:
    """A process that maps files: where it cannot read a page, it alone ends."""
    mapper = Mapper()
    yield mapper
    mapper.close()


@pytest.mark.parametrize(
    "mode",
    [pytest.param(m, marks=() if m is ReadMode.NO_OPEN else pytest.mark.slow) for m in MODES],
)
def test_status_tells_how_files_are_read_and_how_often_servers_followed(
    bed: Bed, mode: ReadMode
) -> None:
    bed.mount(mode)
    assert bed.same("large")
    record = kill_server(bed.settings)
    assert bed.same("large")
    run = subprocess.run(
        [sys.executable, "-m", "fluidpy", "status", "-o", "json"],
        env=environment(bed.settings),
        capture_output=True,
        check=True,
    )
    (shown,) = json.loads(run.stdout)["mounts"]
    assert (shown["readMode"], shown["readModeReason"]) == (mode, "asked for")
    assert (shown["restarts"], shown["serverPid"]) == (1, record.server_pid)


@as_root
@pytest.mark.slow
@pytest.mark.parametrize("victims", [("holder",), ("holder", "server")])
def test_what_was_passed_through_is_read_on_when_the_mount_is_dead(
    bed: Bed, mapper: Mapper, victims: tuple[str, ...]
) -> None:
    record = bed.mount("passthrough")
    content = (bed.source / "large").read_bytes()
    path = bed.mount_point / "large"
    assert bed.same("large")
    assert until(lambda: bed.is_passed_through("large"))
    assert mapper.map(1, path)
    children = children_of(record.holder_pid)
    with path.open("rb", buffering=0) as stream:
        for victim in victims:
            os.kill(getattr(record, f"{victim}_pid"), signal.SIGKILL)
        assert until(lambda: gone(record))
        assert until(lambda: not any(running(pid) for pid in children))
        for start in PAGES:  # the kernel has the cache file, and needs nobody to read it
            wanted = content[start : start + 4096]
            assert mapper.page(1, start, 4096) == wanted
            assert os.pread(stream.fileno(), 4096, start) == wanted
    if victims == ("holder",):
        assert mounted_at(bed.mount_point) is None
        assert read_records(bed.settings) == []
    bed.mount("passthrough")  # clears what is dead
    assert until(lambda: bed.same("large") and bed.is_passed_through("large"))
    assert [found.failure for found in list_mounts(bed.settings)] == [None]
