"""What a user may get wrong, or a machine lack: a clear message or errno, and nothing is left."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from fluidpy.fuse.mount_table import mounted_at
from tests.chaos.read_modes import options_of
from tests.cli.conftest import CommandLine, command_line, dataset_file, tree
from tests.model.place import until

__all__ = ["command_line", "dataset_file", "tree"]

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="changes mounts or limits as root")

READER = """
import errno, os, sys
top = sys.argv[1]
print("reading", flush=True)
while True:
    for folder, _, files in os.walk(top, onerror=lambda error: sys.exit(error.errno)):
        for name in files:
            try:
                fd = os.open(os.path.join(folder, name), os.O_RDONLY)
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                os.read(fd, 1 << 20)
                os.close(fd)
            except OSError as error:
                sys.exit(error.errno)
    if not os.path.exists(top + "/labels.csv"):
        sys.exit(99 if os.path.ismount(top) else errno.ENOENT)  # 99: a live mount lost a file
"""


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """A mount point that nothing is left at."""
    path = tmp_path / "data"
    path.mkdir()
    yield path
    if mounted_at(path) is not None:
        subprocess.run(["umount", "-l", path], check=False)
        pytest.fail(f"{path} is still mounted")


def refused(line: CommandLine, *words: str | Path) -> str:
    """What a command that fails says on stderr."""
    run = line.run(*words)
    assert run.returncode == 1, run
    assert b"Traceback" not in run.stderr, run.stderr.decode()
    return run.stderr.decode()


def pids_of(line: CommandLine) -> tuple[int, int]:
    """Holder and server of the only mount."""
    (mount,) = json.loads(line.done("status", "-o", "json"))["mounts"]
    return mount["holderPid"], mount["serverPid"]


def processes_of(line: CommandLine) -> dict[int, str]:
    """Running processes with this runtime directory, but workers."""
    wanted = f"FLUIDPY_RUNTIME_DIR={line.environment['FLUIDPY_RUNTIME_DIR']}".encode()
    found = {}
    for process in Path("/proc").iterdir():
        try:
            environment = (process / "environ").read_bytes().split(b"\0")
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if wanted in environment and "fluidpy.fuse" in command:
            found[int(process.name)] = command
    return found


# -- where one mounts ------------------------------------------------------------------------------


def test_a_mount_point_in_the_cache_directory(
    command_line: CommandLine, dataset_file: Path
) -> None:
    inside = Path(command_line.environment["FLUIDPY_CACHE_DIR"]) / "data"
    inside.mkdir(parents=True)
    said = refused(command_line, "mount", "-f", dataset_file, inside)
    assert f"{inside} lies in the cache directory" in said
    assert "Mount at a directory outside of it." in said
    assert mounted_at(inside) is None


@pytest.mark.slow
def test_a_mount_point_that_would_hide_the_cache_directory(
    command_line: CommandLine, dataset_file: Path
) -> None:
    said = refused(command_line, "mount", "-f", dataset_file, command_line.directory)
    assert "would hide the cache directory" in said
    assert processes_of(command_line) == {}


def test_unmounting_while_it_is_busy(
    command_line: CommandLine, dataset_file: Path, directory: Path
) -> None:
    command_line.done("mount", "-f", dataset_file, directory)
    with (directory / "labels.csv").open("rb") as held:
        said = refused(command_line, "umount", directory)
        assert f"{directory} is in use by" in said
        assert f"({os.getpid()}) with {directory}/labels.csv" in said
        assert "--lazy" in said
        assert held.read() == b"name,label\n1,cat\n"
        command_line.done("umount", "--lazy", directory)
        assert mounted_at(directory) is None
        held.seek(0)
        assert held.read() == b"name,label\n1,cat\n"
    assert until(lambda: processes_of(command_line) == {}), processes_of(command_line)


# -- limits ----------------------------------------------------------------------------------------


@pytest.fixture
def count() -> int:
    """How many files are open at once."""
    return 600


@pytest.fixture
def many_files(tmp_path: Path, tree: Path, count: int) -> Path:
    """The YAML file of small files; `tree` was made before, so that its wait is shared."""
    del tree
    source = tmp_path / "many"
    source.mkdir()
    for number in range(count):
        (source / f"{number:04}").write_bytes(content_of(number))
    file = tmp_path / "many.yaml"
    file.write_text(
        "apiVersion: data.fluid.io/v1alpha1\nkind: Dataset\nmetadata: {name: many}\n"
        f"spec: {{mounts: [{{mountPoint: 'local://{source}', name: many, path: /}}]}}\n"
    )
    return file


def content_of(number: int) -> bytes:
    """5,000 bytes: more than a page, and other ones in each file."""
    return b"%04d\n" % number * 1000


def read_all_open(directory: Path, count: int) -> None:
    """All files open at once, each read in parts, and each again when all were."""
    fds = [os.open(directory / f"{number:04}", os.O_RDONLY) for number in range(count)]
    try:
        for _ in range(2):
            for number, fd in enumerate(fds):
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                assert os.pread(fd, 100, 4500) == content_of(number)[4500:4600]
                assert os.pread(fd, 100, 0) == content_of(number)[:100]
    finally:
        for fd in fds:
            os.close(fd)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("read_mode", "count"),
    [
        ("no-open", 600),
        pytest.param("passthrough", 2000, marks=pytest.mark.slow),
        pytest.param("plain", 2000, marks=pytest.mark.slow),
    ],
)
def test_more_open_files_than_the_processes_of_a_mount_may_have(
    command_line: CommandLine, many_files: Path, directory: Path, read_mode: str, count: int
) -> None:
    """Server, holder and worker have 150 fds at most, and many more files are open and read."""
    options_of(read_mode)
    limit = ["prlimit", "--nofile=150:150", command_line.python, "-m", "fluidpy"]
    subprocess.run(
        [*limit, "mount", "--read-mode", read_mode, "-f", many_files, directory],
        env=command_line.environment,
        check=True,
        timeout=100,
    )
    try:
        for pid in pids_of(command_line):
            assert resource.prlimit(pid, resource.RLIMIT_NOFILE)[1] == 150
        read_all_open(directory, count)
        (mount,) = json.loads(command_line.done("status", "-o", "json"))["mounts"]
        assert (mount["readMode"], mount["restarts"]) == (read_mode, 0)
        assert (directory / "0000").read_bytes() == content_of(0)
    finally:
        command_line.done("umount", "--lazy", directory)


@pytest.mark.slow
def test_more_open_files_than_a_reader_may_have(
    command_line: CommandLine, many_files: Path, directory: Path
) -> None:
    """The reader's own limit is EMFILE at its 101st file, as anywhere; the mount goes on."""
    program = (
        "import os, resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))\n"
        "fds = []\n"
        "try:\n"
        "    while True: fds.append(os.open(f'{sys.argv[1]}/{len(fds):04}', os.O_RDONLY))\n"
        "except OSError as error: print(len(fds), error.errno)\n"
    )
    command_line.done("mount", "-f", many_files, directory)
    try:
        command = [sys.executable, "-c", program, str(directory)]
        opened, code = map(int, subprocess.check_output(command, timeout=60).split())
        assert (code, opened > 80) == (errno.EMFILE, True)
        read_all_open(directory, 300)
    finally:
        command_line.done("umount", directory)


# -- what dies -------------------------------------------------------------------------------------


def start_readers(directory: Path, count: int = 3) -> list[subprocess.Popen[str]]:
    readers = [
        subprocess.Popen(
            [sys.executable, "-c", READER, str(directory)], stdout=subprocess.PIPE, text=True
        )
        for _ in range(count)
    ]
    for reader in readers:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "reading\n"
    return readers


def assert_all_end(readers: Sequence[subprocess.Popen[str]]) -> None:
    """Each reader gets an errno soon, and none is left waiting in the kernel."""
    try:
        codes = [reader.wait(timeout=60) for reader in readers]
    finally:
        for reader in readers:
            reader.kill()
            reader.communicate(timeout=60)  # would fail for one in uninterruptible sleep
    allowed = (errno.ENOTCONN, errno.ECONNABORTED, errno.EIO, errno.ENOENT, errno.ENODEV)
    assert all(code in allowed for code in codes), [errno.errorcode.get(c, c) for c in codes]


def kill_both(line: CommandLine) -> None:
    """Holder and server, the holder held still so that neither sees the other end."""
    holder, server = pids_of(line)
    os.kill(holder, signal.SIGSTOP)
    for pid in processes_of(line):
        if pid != holder:
            os.kill(pid, signal.SIGKILL)
    os.kill(server, signal.SIGKILL)
    os.kill(holder, signal.SIGKILL)


def test_a_killed_holder_ends_the_mount(
    command_line: CommandLine, dataset_file: Path, directory: Path
) -> None:
    command_line.done("mount", "-f", dataset_file, directory)
    readers = start_readers(directory)
    holder, _server = pids_of(command_line)
    os.kill(holder, signal.SIGKILL)
    assert_all_end(readers)
    assert until(lambda: mounted_at(directory) is None)
    assert until(lambda: processes_of(command_line) == {}), processes_of(command_line)
    assert json.loads(command_line.done("status", "-o", "json"))["mounts"] == []


@pytest.mark.parametrize(
    "cure",
    [
        "umount",
        pytest.param("mount", marks=pytest.mark.slow),
        pytest.param("doctor", marks=pytest.mark.slow),
    ],
)
def test_a_mount_whose_processes_are_all_killed_is_cleared(
    command_line: CommandLine, dataset_file: Path, directory: Path, cure: str
) -> None:
    command_line.done("mount", "-f", dataset_file, directory)
    readers = start_readers(directory)
    kill_both(command_line)
    assert_all_end(readers)
    assert until(lambda: processes_of(command_line) == {})
    assert mounted_at(directory) is not None
    begin = time.monotonic()
    if cure == "umount":
        command_line.done("umount", directory)
    elif cure == "doctor":
        said = command_line.run("doctor", "--fix").stdout.decode()
        assert f"{directory} was dead and is unmounted now" in said
    else:
        command_line.done("mount", "-f", dataset_file, directory)
        assert (directory / "labels.csv").read_bytes() == b"name,label\n1,cat\n"
        command_line.done("umount", directory)
    assert time.monotonic() - begin < 60
    assert mounted_at(directory) is None
    assert json.loads(command_line.done("status", "-o", "json"))["mounts"] == []
