"""What a machine may lack: a device, a capability, a kernel that is new enough."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import fluidpy
from fluidpy.errors import MountError
from fluidpy.fuse.kernel import InitFlag
from fluidpy.fuse.kernel_mount import fusermount
from fluidpy.fuse.mount_table import mounted_at
from fluidpy.fuse.negotiation import KernelOffer, negotiate
from fluidpy.fuse.read_mode_checks import passthrough_obstacle
from tests.chaos.test_bad_cases import directory, needs_root, processes_of, refused
from tests.chaos.test_surroundings import interpreter_for_nobody
from tests.cli.conftest import CommandLine, command_line, dataset_file, tree, write_dataset
from tests.fuse.test_fuse_unprivileged import NOBODY, PREPARE
from tests.model.place import until

__all__ = ["command_line", "dataset_file", "directory", "tree"]

needs_fuse = pytest.mark.skipif(not Path("/dev/fuse").exists(), reason="needs /dev/fuse")

NO_FUSE = """
set -e
mkdir "$1/dev"
for name in null zero full random urandom tty; do
  touch "$1/dev/$name"
  mount --bind "/dev/$name" "$1/dev/$name"
done
mount --rbind "$1/dev" /dev
shift
exec "$@"
"""
"""A `/dev` without `fuse`, for one process tree."""

REGULAR_FILE = """
set -e
touch "$1/no-device"
mount --bind "$1/no-device" /dev/fuse
shift
exec "$@"
"""
"""A `/dev/fuse` that is no device, as a careless container image has it."""

AS_NOBODY = """
import json, subprocess, sys
python, file, directory = sys.argv[1:]

def fluidpy(*words, codes=(0,)):
    run = subprocess.run([python, "-m", "fluidpy", *words], capture_output=True, text=True)
    assert run.returncode in codes, run
    return run.stdout

fluidpy("mount", "-f", file, directory)
try:
    with open(directory + "/labels.csv") as stream:
        content = stream.read()
    while (mount := json.loads(fluidpy("status", "-o", "json"))["mounts"][0])["readMode"] == "auto":
        pass
    said = fluidpy("doctor", codes=(0, 1))
finally:
    fluidpy("umount", directory)
    fluidpy("worker", "--stop")
print(json.dumps([content, mount["readMode"], mount["readModeReason"], said]))
"""
"""A whole life of a mount; in one process tree, which alone sees it."""

LEAST_MINOR = "PROTOCOL_MINOR_MINIMUM: Final = 99"

WITHOUT_PRIVILEGE = ("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin")
"""Makes root a user who may not mount; any other user is one already."""


def in_namespace(line: CommandLine, prepare: str, *words: str | Path) -> tuple[int, str]:
    """Runs `fluidpy` where the machine's mounts were changed first; exit code and stderr."""
    command = ["unshare", "--mount", "sh", "-c", prepare, "sh", str(line.directory)]
    run = subprocess.run(
        [*command, line.python, "-m", "fluidpy", *map(str, words)],
        env=line.environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return run.returncode, run.stdout + run.stderr


def assert_nothing_is_mounted(line: CommandLine, directory: Path) -> None:
    """No mount, no process of one, no record, no socket, and the directory is as it was."""
    assert mounted_at(directory) is None
    assert os.listdir(directory) == []
    assert until(lambda: processes_of(line) == {}), processes_of(line)
    mounts = Path(line.environment["FLUIDPY_RUNTIME_DIR"]) / "mounts"
    assert not mounts.exists() or os.listdir(mounts) == []
    status = json.loads(line.done("status", "-o", "json"))
    assert (status["mounts"], status["failed"]) == ([], [])


@needs_root
@pytest.mark.parametrize(
    ("machine", "problem", "cure"),
    [
        pytest.param(
            NO_FUSE,
            "/dev/fuse cannot be opened: No such file or directory\n",
            "Load the kernel module (as root: modprobe fuse)",
            id="missing",
        ),
        pytest.param(
            REGULAR_FILE,
            "/dev/fuse is there, and it is not a device\n",
            "In a container, start it with --device /dev/fuse",
            id="a file in its place",
        ),
    ],
)
def test_a_machine_without_the_device(
    command_line: CommandLine,
    dataset_file: Path,
    directory: Path,
    machine: str,
    problem: str,
    cure: str,
) -> None:
    code, said = in_namespace(command_line, machine, "mount", "-f", dataset_file, directory)
    assert code == 1
    assert problem in said
    assert f"cure: {cure}" in said
    assert "Traceback" not in said
    assert processes_of(command_line) == {}


@pytest.mark.slow
@needs_root
@pytest.mark.skipif(fusermount() is None, reason="needs fusermount3 (apt-get install fuse3)")
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv (util-linux)")
def test_auto_without_the_capability(tree: Path) -> None:
    """Who may not mount gets no-open, and reads why, here and in `doctor`."""
    user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    found = interpreter_for_nobody(user)
    if found is None:
        pytest.skip("no Python with this project's libraries is where other users may enter")
    with tempfile.TemporaryDirectory(prefix="fp-", dir="/tmp") as name:
        home = Path(name)
        shutil.copytree(tree, home / "nas")
        file = write_dataset(home / "pets.yaml", f"local://{home}/nas")
        (home / "data").mkdir()
        subprocess.run(["chown", "-R", f"{NOBODY}:{NOBODY}", name], check=True)
        directories = {"FLUIDPY_CACHE_DIR": f"{name}/cache", "FLUIDPY_RUNTIME_DIR": f"{name}/run"}
        command = ["unshare", "--mount", "sh", "-c", PREPARE, "sh", *user, found[0]]
        run = subprocess.run(
            [*command, "-c", AS_NOBODY, found[0], str(file), str(home / "data")],
            env={**os.environ, **found[1], **directories, "HOME": name, "XDG_RUNTIME_DIR": ""},
            cwd=home,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert run.returncode == 0, run.stderr
    content, mode, reason, doctor = json.loads(run.stdout)
    assert content == "name,label\n1,cat\n"
    assert mode == "no-open"
    assert f"{home}/data: read mode no-open ({reason})" in doctor
    if not passthrough_obstacle(platform.release(), may_mount=True):
        assert reason == "no passthrough: the mount's holder has no CAP_SYS_ADMIN"
        assert "no-open, plain; not passthrough: it takes CAP_SYS_ADMIN" in doctor


@pytest.mark.slow
@needs_root
def test_doctor_on_a_machine_without_the_device(command_line: CommandLine) -> None:
    code, said = in_namespace(command_line, NO_FUSE, "doctor")
    assert code == 1
    assert "/dev/fuse is missing" in said
    assert "modprobe fuse" in said


@needs_fuse
def test_passthrough_without_the_capability(
    command_line: CommandLine, dataset_file: Path, directory: Path
) -> None:
    words = ["mount", "--read-mode", "passthrough", "-f", str(dataset_file), str(directory)]
    run = subprocess.run(
        [
            *(WITHOUT_PRIVILEGE if os.geteuid() == 0 else ()),
            sys.executable,
            "-m",
            "fluidpy",
            *words,
        ],
        env=command_line.environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    why = passthrough_obstacle(platform.release(), may_mount=False)
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr.splitlines() == [
        f"fluidpy: the read mode passthrough is impossible here: {why}",
        "cure: Mount as root on Linux 6.9 or later, or without --read-mode.",
    ]
    assert_nothing_is_mounted(command_line, directory)


def test_a_kernel_that_is_too_old() -> None:
    """What INIT of Linux 5.3 offers (FUSE 7.30); `mount` says it, since the server hands it on."""
    offered = KernelOffer(7, 30, 131_072, InitFlag(0))
    with pytest.raises(MountError) as caught:
        negotiate(offered)
    assert caught.value.message == "the kernel speaks FUSE 7.30, and fluidpy needs 7.31"
    assert caught.value.cure.startswith("Use Linux 5.4 or later")


@needs_fuse
def test_mounting_on_a_kernel_that_is_too_old(
    command_line: CommandLine, dataset_file: Path, directory: Path
) -> None:
    """The whole command, of a fluidpy for which this kernel is too old."""
    newer = command_line.directory / "newer"
    shutil.copytree(Path(fluidpy.__file__).parent, newer / "fluidpy")
    kernel = newer / "fluidpy/fuse/kernel.py"
    text = kernel.read_text()
    assert "PROTOCOL_MINOR_MINIMUM: Final = 31" in text
    kernel.write_text(text.replace("PROTOCOL_MINOR_MINIMUM: Final = 31", LEAST_MINOR))
    command_line.environment["PYTHONPATH"] = str(newer)
    said = refused(command_line, "mount", "-f", dataset_file, directory)
    problem, cure = said.splitlines()
    assert re.fullmatch(
        r"fluidpy: the kernel speaks FUSE 7\.\d\d, and fluidpy needs 7\.99", problem
    )
    assert cure == "cure: Use Linux 5.4 or later, or read the Dataset by its fluid:// URL."
    assert_nothing_is_mounted(command_line, directory)


def test_a_kernel_that_sends_nothing_again() -> None:
    """Linux 6.8: requests in flight are lost with a server, and that is known."""
    agreed, _reply = negotiate(KernelOffer(7, 39, 131_072, ~InitFlag.HAS_RESEND))
    assert not agreed.has(InitFlag.HAS_RESEND)
