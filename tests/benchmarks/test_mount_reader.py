"""The program that reads, on a plain directory."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from benchmarks.mount.find_names import find
from benchmarks.mount.names import NAME_BYTES
from benchmarks.mount.reading import digest, read

_TIMES = {"minimum_seconds": 0.0, "maximum_seconds": 300.0}


def _job(kind: str, *paths: str, **more: Any) -> dict[str, Any]:
    return {"kind": kind, "paths": list(paths), "seed": 1, **_TIMES, **more}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "large").write_bytes(os.urandom(3_000_000))
    for name in "abc":
        (tmp_path / name).write_bytes(name.encode() * 1000)
    return tmp_path


def test_a_sequential_read_reads_all_bytes(root: Path) -> None:
    sample = read(root, _job("sequential", "large"))
    assert (sample.amount, sample.finished) == (3_000_000, True)
    assert sample.speed == pytest.approx(3_000_000 / sample.seconds)


def test_a_short_job_is_done_again_and_a_long_one_stops(root: Path) -> None:
    for minimum in (0.1, 1.0, 10.0):  # on a slow machine once may take longer
        again = read(root, _job("sequential", "large", minimum_seconds=minimum))
        if again.amount > 3_000_000:
            break
    assert again.amount > 3_000_000
    assert again.amount % 3_000_000 == 0
    assert read(root, _job("sequential", "large", maximum_seconds=0.0)).finished is False


def test_random_reads_are_counted(root: Path) -> None:
    sample = read(root, _job("random", "large", count=1000))
    assert (sample.amount, sample.finished) == (1000, True)


def test_small_files_are_read_whole(root: Path) -> None:
    assert read(root, _job("small", "a", "b", "c", file_bytes=1000)).amount == 3
    with pytest.raises(RuntimeError, match="3000 bytes in 3 files"):
        read(root, _job("small", "a", "b", "c", file_bytes=999))


def test_parallel_readers_add_up(root: Path) -> None:
    assert read(root, _job("parallel", "large", "a", turns=1)).amount == 3_001_000


def test_a_file_that_is_not_there_is_an_error_with_its_name(root: Path) -> None:
    with pytest.raises(RuntimeError, match=r"FileNotFoundError.*missing"):
        read(root, _job("small", "missing", file_bytes=1))


def test_the_digest_is_of_all_bytes_in_order(root: Path) -> None:
    wanted = hashlib.sha256(b"b" * 1000 + b"a" * 1000).hexdigest()
    assert digest(root, ["b", "a"]) == wanted


def test_find_counts_files_and_refuses_other_sizes(tmp_path: Path) -> None:
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "file").write_bytes(b"0" * NAME_BYTES)
    sample = find(tmp_path, [], 30.0)
    assert (sample.amount, sample.finished) == (2, True)
    assert find(tmp_path, [], 0.0).finished is False
    (tmp_path / "y" / "other").write_bytes(b"0")
    with pytest.raises(RuntimeError, match="1 wrong sizes"):
        find(tmp_path, [], 30.0)
