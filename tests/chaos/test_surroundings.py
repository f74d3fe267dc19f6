"""The tests of the mount once more: in each read mode, on an overlay, and without privilege."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fluidpy.fuse.kernel_mount import fusermount
from tests.chaos.bed import ROOT
from tests.chaos.read_modes import READ_MODES, options_of
from tests.fuse.test_fuse_unprivileged import NOBODY, PREPARE

SUITE = ("tests/fuse/test_fuse_serving.py", "tests/fuse/test_fuse_faults.py")
"""What a user of a mount sees, and what goes wrong; the rest is about parts."""
NOT_AGAIN = "not thousands and not big_folder and not foreground"
"""Long ones, for which the surroundings make no difference."""

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts an overlay, or changes the user")


def run_suite(command: list[str], *options: str, **environment: str) -> None:
    run = subprocess.run(
        [
            *command,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-k",
            NOT_AGAIN,
            *options,
            *SUITE,
        ],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=380,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
    print(run.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("read_mode", READ_MODES)
def test_in_a_read_mode(read_mode: str) -> None:
    options_of(read_mode)
    run_suite([sys.executable], FUSE_TESTS_READ_MODE=read_mode)


@pytest.mark.slow
@pytest.mark.timeout(400)
@needs_root
def test_on_an_overlay() -> None:
    run_suite([sys.executable], FUSE_TESTS_DIRECTORY="overlayfs")


def interpreter_for_nobody(command: list[str]) -> tuple[str, dict[str, str]] | None:
    """A Python with pytest that the user may run, and its environment."""
    packages = next((p for p in sys.path if p.endswith("site-packages")), "")
    for candidate in (sys.executable, "/usr/bin/python3"):
        environment = {} if candidate == sys.executable else {"PYTHONPATH": f"{ROOT}:{packages}"}
        # From inside, since the first program that setpriv starts may be anywhere.
        check = (
            "import subprocess, sys, pytest, pytest_timeout, pydantic, aiohttp\n"
            "sys.exit(subprocess.call([sys.executable, '-c', '']) or sys.version_info < (3, 11))"
        )
        run = subprocess.run(
            [*command, candidate, "-c", check],
            env={**os.environ, **environment},
            capture_output=True,
            timeout=60,
            check=False,
        )
        if run.returncode == 0:
            return candidate, environment
    return None


@pytest.mark.slow
@pytest.mark.timeout(400)
@needs_root
def test_as_a_user_without_privilege(tmp_path: Path) -> None:
    if fusermount() is None:
        pytest.skip("the program fusermount3 is missing (apt-get install fuse3)")
    if shutil.which("setpriv") is None:
        pytest.skip("the program setpriv is missing (apt-get install util-linux)")
    home = Path("/tmp") / f"fluidpy-home-{os.getpid()}"
    home.mkdir()
    try:
        os.chown(home, NOBODY, NOBODY)
        user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        found = interpreter_for_nobody(user)
        if found is None:
            pytest.skip("no Python with this project's libraries is where other users may enter")
        command = ["unshare", "--mount", "sh", "-c", PREPARE, "sh", *user, found[0]]
        basetemp = f"--basetemp={home}/pytest"
        run_suite(command, basetemp, HOME=str(home), XDG_RUNTIME_DIR="", **found[1])
    finally:
        shutil.rmtree(home)
