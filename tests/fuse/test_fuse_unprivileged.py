"""A user without any privilege mounts through fusermount3."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fluidpy.fuse.kernel_mount import fusermount

NOBODY = 65534

PREPARE = """
set -e
umount --all --lazy --types fuse.fluidpy || true
if ! [ "$(stat -c %a /dev/fuse)" = 666 ]; then
  mknod "$HOME/fuse" c 10 229
  chmod 666 "$HOME/fuse"
  mount --bind "$HOME/fuse" /dev/fuse
fi
exec "$@"
"""
"""A device that any user may open, as udev makes it, for this one process tree where it is not. It
lets go of the mounts of others, whose copies here would outlive their unmount."""


def interpreter_for_others() -> str | None:
    """A Python that any user may run; what is mounted here needs the standard library alone."""
    for candidate in (sys.executable, "/usr/bin/python3"):
        real = Path(candidate).resolve()
        if not real.exists() or any(not parent.stat().st_mode & 1 for parent in real.parents):
            continue
        check = "import sys; sys.exit(sys.version_info < (3, 11))"
        if subprocess.run([real, "-c", check], check=False, timeout=60).returncode == 0:
            return str(candidate)
    return None


def test_a_user_without_privilege_mounts_reads_and_unmounts(short_directory: Path) -> None:
    if fusermount() is None:
        pytest.skip("the program fusermount3 is missing (apt-get install fuse3)")
    interpreter = interpreter_for_others()
    if interpreter is None:
        pytest.skip("no Python 3.11 or later is in a directory that other users may enter")
    command = [interpreter, "-m", "tests.fuse.unprivileged_mount", str(short_directory)]
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("the program setpriv is missing (apt-get install util-linux)")
        os.chown(short_directory, NOBODY, NOBODY)
        user = [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        command = ["unshare", "--mount", "sh", "-c", PREPARE, "sh", "setpriv", *user, *command]
    run = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        cwd=Path(__file__).parents[2],
        env={"PATH": os.environ["PATH"], "HOME": str(short_directory)},
    )
    assert run.stdout == "served\n", run.stderr
