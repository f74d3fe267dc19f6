"""fio's own checksums, written at the source and verified through the mount."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.bed import BUCKET, Bed, new_bed
from tests.chaos.read_modes import every_mode, options_of
from tests.model.place import KIB

FILES = 6
FILE_BYTES = 2 * 1024 * KIB
JOBS = (("psync", "read"), ("mmap", "randread"), ("libaio", "read"), ("libaio", "randread"))

needs_fio = pytest.mark.skipif(
    shutil.which("fio") is None, reason="the program fio is missing (apt-get install fio)"
)


def fio(directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """One job over the data set; all that is common to writing and verifying it."""
    return subprocess.run(
        [
            "fio",
            "--name=data",
            f"--directory={directory}",
            "--filename_format=data.$filenum",
            f"--nrfiles={FILES}",
            f"--filesize={FILE_BYTES}",
            f"--size={FILES * FILE_BYTES}",
            "--bs=16k",
            "--verify=crc32c",
            "--verify_state_save=0",
            *options,
        ],
        cwd="/tmp",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def verify(bed: Bed, engine: str, order: str) -> None:
    options = [f"--rw={order}", f"--ioengine={engine}", "--readonly", "--verify_fatal=1"]
    depth = ["--iodepth=16"] if engine == "libaio" else []
    # `invalidate` is fio's default: the pages of the mount are dropped before each job.
    run = fio(bed.top / "fio", *options, *depth)
    assert run.returncode == 0, f"{engine} {order}: {run.stdout}\n{run.stderr}"
    assert "verify" not in run.stderr, run.stderr


@pytest.fixture(scope="session")
def data_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("fio")
    written = fio(directory, "--rw=write", "--do_verify=0", "--ioengine=psync", "--fallocate=none")
    assert written.returncode == 0, written.stderr
    return directory


@pytest.fixture
def bed() -> Iterator[Bed]:
    """Room for all of fio's files."""
    with new_bed(quota_bytes=64 * 1024 * KIB, mounted=False) as made:
        yield made


@needs_fio
@every_mode(quick="no-open")
def test_fio_verifies_its_data_set(bed: Bed, data_set: Path, read_mode: str) -> None:
    for path in data_set.iterdir():
        bed.server.put(BUCKET, f"fio/{path.name}", path.read_bytes())
    bed.place.mount(bed.definition, **options_of(read_mode))
    for engine, order in JOBS:
        bed.evict("fio")
        verify(bed, engine, order)  # cold
        verify(bed, engine, order)


@needs_fio
def test_fio_sees_one_wrong_byte(bed: Bed, data_set: Path) -> None:
    """The job above could find something."""
    for path in data_set.iterdir():
        data = bytearray(path.read_bytes())
        data[len(data) // 2 + 100] ^= path.name == "data.1"
        bed.server.put(BUCKET, f"fio/{path.name}", bytes(data))
    bed.place.mount(bed.definition)
    with pytest.raises(AssertionError, match=r"verify failed at file .*data\.1"):
        verify(bed, "psync", "read")
