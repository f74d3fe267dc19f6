"""A mount whose servers cannot be followed by others ends: whoever waits in it gets an error."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import fluidpy
from fluidpy.client.start import worker_environment
from fluidpy.fuse import mounting
from fluidpy.fuse.mount_table import mounted_at
from fluidpy.fuse.mounting import list_failures, list_mounts
from fluidpy.settings import Settings
from tests.fuse.conftest import Mounted
from tests.fuse.test_fuse_faults import gone
from tests.fuse.test_fuse_restart import helpers_of
from tests.fuse.test_fuse_serving import until
from tests.fuse.tree_worker import TreeWorker

ABSENCE_SECONDS = 4.0
"""What the code under test has instead of half a minute."""

HANGS = """
    import os, time
    while os.path.exists({flag!r}):
        time.sleep(0.05)
"""


@pytest.fixture
def impatient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Lets holders run code that waits less for a server; called, no template forks any more."""
    package, flag = tmp_path / "fluidpy", tmp_path / "hang"
    source = Path(fluidpy.__file__).parent
    shutil.copytree(source, package, ignore=shutil.ignore_patterns("__pycache__"))
    policy = package / "fuse/restart_policy.py"
    text = policy.read_text()
    changed = text.replace("ABSENCE_SECONDS: Final = 30.0", f"ABSENCE_SECONDS = {ABSENCE_SECONDS}")
    assert changed != text
    policy.write_text(changed)
    template = package / "fuse/template_process.py"
    text = template.read_text()
    changed = text.replace("def main() -> int:\n", f"def main() -> int:\n{HANGS}")
    changed = changed.replace("{flag!r}", repr(os.fspath(flag)))
    assert changed != text
    template.write_text(changed)

    def with_changed_code(settings: Settings) -> dict[str, str]:
        return {**worker_environment(settings), "PYTHONPATH": os.fspath(tmp_path)}

    monkeypatch.setattr(mounting, "worker_environment", with_changed_code)
    return flag.touch


@pytest.mark.slow
def test_a_mount_without_a_server_for_long_ends_with_a_reason(
    worker: TreeWorker,
    impatient: Callable[[], None],
    mounted: Mounted,
    mount_point: Path,
    fuse_settings: Settings,
) -> None:
    worker.complete = False
    record = mounted()
    assert until(lambda: len(helpers_of(record)) == 2)
    impatient()
    os.kill(record.holder_pid, signal.SIGSTOP)  # so that it replaces none of them meanwhile
    for pid in (*helpers_of(record), record.server_pid):
        os.kill(pid, signal.SIGKILL)
    os.kill(record.holder_pid, signal.SIGCONT)
    reader = subprocess.run(
        ["cat", mount_point / "large.bin"], capture_output=True, text=True, timeout=60, check=False
    )
    assert reader.returncode == 1
    assert reader.stdout == ""
    assert mounted_at(mount_point) is None
    assert until(lambda: gone(record))
    assert list_mounts(fuse_settings) == []
    (failed,) = list_failures(fuse_settings)
    why = f"no server has served for {ABSENCE_SECONDS:g} s"
    assert failed.failure == f"the mount was taken down: {why}"
