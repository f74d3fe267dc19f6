"""The tests of the mount once more: in each read mode, on an overlay, and without privilege."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fluidpy.fuse.kernel_mount import fusermount
from tests.chaos.bed import ROOT
from tests.chaos.read_modes import READ_MODES, options_of
from tests.fuse.test_fuse_unprivileged import NOBODY, PREPARE

SUITE = (
    "tests/fuse/test_fuse_serving.py",
    "tests/fuse/test_fuse_faults.py",
    "tests/fuse/test_fuse_real_worker.py",
)
"""What a user of a mount sees, and what goes wrong; the rest is about parts. The last one has a
real worker, and with it a cache whose files can be passed through."""
READING = "tests/fuse/test_fuse_reading_modes.py"
"""Each read mode over a real worker, where that is not what the surroundings are."""
NOT_AGAIN = "not thousands and not big_folder and not foreground"
"""Long ones, for which the surroundings make no difference."""
KILLS = "tests/chaos/test_storms.py::test_kill_9_of_the_server"

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts an overlay, or changes the user")


@dataclass(frozen=True)
class Surroundings:
    """How pytest is started: a command that takes what is for Python, and its environment."""

    command: Sequence[str] = (sys.executable,)
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    cwd: Path | None = ROOT


def run(
    tests: Sequence[str], *options: str, around: Surroundings | None = None, **environment: str
) -> tuple[int, int]:
    """Runs tests, none of which may fail; how many passed, and how many were skipped."""
    around = around or Surroundings()
    outer = {k: v for k, v in around.environment.items() if not k.startswith("PYTEST_")}
    done = subprocess.run(
        [*around.command, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, *tests],
        cwd=around.cwd,
        env={**outer, **environment},
        capture_output=True,
        text=True,
        timeout=380,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    last = done.stdout.splitlines()[-1]
    print(last)
    passed, skipped = (re.search(rf"(\d+) {what}", last) for what in ("passed", "skipped"))
    return int(passed[1]) if passed else 0, int(skipped[1]) if skipped else 0


def run_suite(
    tests: Sequence[str],
    *options: str,
    around: Surroundings | None = None,
    most_skipped: int = 3,
    **environment: str,
) -> None:
    """Runs files of tests, two at a time; they must find something to do."""
    side_by_side = ("-n", "2", "--dist", "loadfile", "-k", NOT_AGAIN)
    passed, skipped = run(tests, *side_by_side, *options, around=around, **environment)
    assert passed >= LEAST_PASSED + (READING in tests) * LEAST_READING
    assert skipped <= most_skipped


LEAST_PASSED = 36
LEAST_READING = 10


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("read_mode", READ_MODES)
def test_in_a_read_mode(read_mode: str) -> None:
    options_of(read_mode)
    run_suite(SUITE, FUSE_TESTS_READ_MODE=read_mode)


@pytest.mark.slow
@pytest.mark.timeout(400)
@needs_root
def test_on_an_overlay() -> None:
    run_suite((*SUITE, READING), FUSE_TESTS_DIRECTORY="overlayfs", most_skipped=6)


@pytest.mark.slow
@pytest.mark.timeout(400)
@needs_root
def test_kills_with_a_cache_on_an_overlay() -> None:
    kills = f"{KILLS}[passthrough]"
    assert run([kills], "-m", "", FUSE_TESTS_DIRECTORY="overlayfs") == (1, 0)


ENTER = f"""
set -e
mkdir -p "$HOME/clone" "$HOME/packages"
mount --bind "$1" "$HOME/clone"
mount --bind "$2" "$HOME/packages"
shift 2
cd "$HOME/clone"
rm -f "$HOME/fuse"
{PREPARE}
"""
"""What lies where other users may not enter is seen at a place where they may, by this process tree
alone."""

CHECK = """
import subprocess, sys, pytest, pytest_timeout, xdist, pydantic, aiohttp, tests.chaos.bed
sys.exit(subprocess.call([sys.executable, "-c", ""]) or sys.version_info < (3, 11))
"""
"""From inside, since the first program that setpriv starts may be anywhere."""


def packages() -> str:
    """Where this Python's libraries are."""
    return next((path for path in sys.path if path.endswith("site-packages")), "/nowhere")


def interpreter_for_nobody(
    command: Sequence[str],
    code: str = f"{ROOT}:{packages()}",
    environment: Mapping[str, str] = os.environ,
    cwd: Path | None = ROOT,
) -> tuple[str, dict[str, str]] | None:
    """A Python with pytest that the user may run, and what to add to its environment."""
    for candidate in (sys.executable, "/usr/bin/python3"):
        more = {} if candidate == sys.executable else {"PYTHONPATH": code}
        done = subprocess.run(
            [*command, candidate, "-c", CHECK],
            env={**environment, **more},
            cwd=cwd,
            capture_output=True,
            timeout=60,
            check=False,
        )
        if done.returncode == 0:
            return candidate, more
    return None


@pytest.fixture
def as_nobody() -> Iterator[Surroundings]:
    """A user without privilege, who may use fusermount3, and a Python for it."""
    if fusermount() is None:
        pytest.skip("the program fusermount3 is missing (apt-get install fuse3)")
    if shutil.which("setpriv") is None:
        pytest.skip("the program setpriv is missing (apt-get install util-linux)")
    home = Path("/tmp") / f"fluidpy-home-{os.getpid()}"
    home.mkdir()
    try:
        os.chown(home, NOBODY, NOBODY)
        yield surroundings_of_nobody(home)
    finally:
        shutil.rmtree(home)


def surroundings_of_nobody(home: Path) -> Surroundings:
    user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    enter = ["unshare", "--mount", "sh", "-c", ENTER, "sh", os.fspath(ROOT), packages(), *user]
    environment = {**os.environ, "HOME": os.fspath(home), "XDG_RUNTIME_DIR": ""}
    found = interpreter_for_nobody(enter, f"{home}/clone:{home}/packages", environment, None)
    if found is None:
        pytest.skip("no Python that other users may run can import this project's libraries")
    return Surroundings((*enter, found[0]), {**environment, **found[1]}, None)


@pytest.mark.slow
@pytest.mark.timeout(400)
@needs_root
def test_as_a_user_without_privilege(as_nobody: Surroundings) -> None:
    basetemp = f"--basetemp={as_nobody.environment['HOME']}/pytest"
    run_suite((*SUITE, READING), basetemp, around=as_nobody, most_skipped=8)


@pytest.mark.slow
@pytest.mark.timeout(400)
@needs_root
def test_kills_fio_and_model_as_a_user_without_privilege(as_nobody: Surroundings) -> None:
    tests = [
        f"{KILLS}[no-open]",
        "tests/chaos/test_fio_verify.py::test_fio_verifies_its_data_set[no-open]",
        "tests/chaos/test_mount_model.py::test_a_mount_is_what_its_source_holds[no-open]",
    ]
    basetemp = f"--basetemp={as_nobody.environment['HOME']}/pytest"
    passed, skipped = run(tests, "-m", "", "-n", "2", basetemp, around=as_nobody)
    assert (passed, skipped) == ((3, 0) if shutil.which("fio") else (2, 1))
