"""Mount points and directories of our own that cannot serve."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bad_input.conftest import WITHOUT_RIGHTS, Refusals, dataset
from tests.cli.conftest import CommandLine, needs_fuse

NOBODY = 65534
"""The user without rights (Debian's `nobody`)."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.txt").write_bytes(b"a")
    file = tmp_path / "pets.yaml"
    file.write_text(dataset(f"local://{source}"))
    return file


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    directory = tmp_path / "data"
    directory.mkdir()
    return directory


def test_mount_points_that_cannot_be(refusals: Refusals, file: Path, directory: Path) -> None:
    missing = directory / "missing"
    assert refusals.said("mount", "-f", file, missing) == (
        f"the mount point {missing} does not exist\ncure: Make it: mkdir -p {missing}"
    )
    assert refusals.said("mount", "-f", file, file) == (
        f"the mount point {file} is not a directory\ncure: Choose an empty directory."
    )
    (directory / "x").touch()
    assert refusals.said("mount", "-f", file, directory) == (
        f"the mount point {directory} is not empty (it has x)\n"
        "cure: Choose an empty directory: a mount hides what lies under it."
    )
    assert refusals.said("mount", "-f", file, "/proc") == (
        "/proc is a mount of proc already\ncure: Choose another directory, or unmount it."
    )
    assert refusals.said("umount", directory) == (
        f"nothing is mounted at {directory}\ncure: `fluidpy status` lists the mounts."
    )
    cache = Path(refusals.line.environment["FLUIDPY_CACHE_DIR"])
    inside = cache / "data"
    inside.mkdir(parents=True, exist_ok=True)
    assert refusals.said("mount", "-f", file, inside) == (
        f"{inside} lies in the cache directory {cache}\ncure: Mount at a directory outside of it."
    )


@pytest.fixture
def mounted(command_line: CommandLine, file: Path, directory: Path) -> Iterator[Path]:
    command_line.done("mount", "-f", file, directory)
    yield directory
    command_line.done("umount", "--lazy", directory)


@needs_fuse
def test_a_directory_used_twice(refusals: Refusals, file: Path, mounted: Path) -> None:
    assert refusals.said("mount", "-f", file, mounted) == (
        f"{mounted} is a mount of Dataset default/pets already\n"
        f"cure: Unmount it first: fluidpy umount {mounted}"
    )
    assert (mounted / "a.txt").read_bytes() == b"a"


@needs_fuse
def test_a_name_used_twice(refusals: Refusals, tmp_path: Path, file: Path, mounted: Path) -> None:
    other, elsewhere = tmp_path / "other", tmp_path / "elsewhere"
    other.mkdir()
    elsewhere.mkdir()
    (tmp_path / "other.yaml").write_text(dataset(f"local://{other}"))
    for words in (("ls", "fluid://pets/"), ("mount", elsewhere)):
        assert refusals.said(*words, "-f", tmp_path / "other.yaml") == (
            "the Dataset default/pets is mounted with another definition\n"
            "cure: Unmount it first (fluidpy status shows where), or give this one another name."
        )
    assert os.listdir(mounted) == ["a.txt"]
    assert refusals.line.done("ls", "-f", file, "fluid://pets/") == "a.txt\n"


@needs_fuse
def test_two_mounts_at_one_directory_at_once(
    command_line: CommandLine, file: Path, directory: Path
) -> None:
    command = [command_line.python, "-m", "fluidpy", "mount", "-f", str(file), str(directory)]
    both = [
        subprocess.Popen(
            command, env=command_line.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=100)[1].decode() for process in both]
    assert sorted(process.returncode for process in both) == [0, 1]
    assert any("is mounting at" in text or "already" in text for text in said)
    mounts = [line for line in Path("/proc/self/mounts").read_text().splitlines()
              if f" {directory} " in line]  # fmt: skip
    for _ in mounts:
        command_line.done("umount", directory)
    assert len(mounts) == 1


@pytest.mark.parametrize("verb", ["ls", "load", pytest.param("mount", marks=needs_fuse)])
def test_directories_of_ours_that_cannot_be_written(
    refusals: Refusals, tmp_path: Path, file: Path, directory: Path, verb: str
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    targets: dict[str, list[str | Path]] = {"ls": ["fluid://pets/"], "mount": [directory]}
    words = [verb, "-f", file, *targets.get(verb, [])]

    def said(**environment: str) -> str:
        return refusals.said(*words, run_by=WITHOUT_RIGHTS, environment=environment)

    assert said(FLUIDPY_CACHE_DIR=str(closed)) == (
        f"cache directory {closed}/store cannot be used: Permission denied\n"
        "cure: Make it writable for this user, or set another one (FLUIDPY_CACHE_DIR)."
    )
    assert said(FLUIDPY_RUNTIME_DIR=f"{closed}/run") == (
        f"the runtime directory {closed}/run cannot be made: Permission denied\n"
        "cure: Set FLUIDPY_RUNTIME_DIR to a directory you may write."
    )
    assert list(closed.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a directory to another user")
@pytest.mark.parametrize("linked", [False, True])
def test_a_runtime_directory_that_somebody_else_made(
    refusals: Refusals, tmp_path: Path, file: Path, linked: bool
) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir(mode=0o700)
    os.chown(theirs, NOBODY, NOBODY)
    shown = theirs
    if linked:
        shown = tmp_path / "link"
        shown.symlink_to(theirs)
    refusals.line.environment["FLUIDPY_RUNTIME_DIR"] = str(shown)
    try:
        for words in (("ls", "-f", file, "fluid://pets/"), ("mount", "-f", file, tmp_path / "m")):
            (tmp_path / "m").mkdir(exist_ok=True)
            assert refusals.said(*words) == (
                f"the runtime directory {shown} belongs to, or can be written by, other users\n"
                "cure: Set FLUIDPY_RUNTIME_DIR to a directory of your own with mode 0700."
            )
        assert list(theirs.iterdir()) == []
    finally:
        os.chown(theirs, 0, 0)
