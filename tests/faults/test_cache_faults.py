"""A cache, index or catalog that is full, read-only, damaged or gone costs time, not bytes."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fluidpy.cache.fork_safety import close_readers
from fluidpy.fuse.mounting import list_mounts
from fluidpy.namespace.catalog_file import CatalogFile
from fluidpy.testing.servers.fault_proxy import FaultProxy
from fluidpy.testing.servers.seaweedfs import SeaweedServer
from tests.faults.bed import FACES, Bed, attempt, contents, new_bed
from tests.model.place import BLOCK_BYTES, KIB, await_end, until

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a tmpfs as a small disk")

MIB = 1024 * KIB

Damage = Callable[[Path], None]


@pytest.fixture
def bed(seaweedfs_server: SeaweedServer, proxy: FaultProxy) -> Iterator[Bed]:
    with new_bed(seaweedfs_server, proxy, contents(8, 3 * BLOCK_BYTES)) as made:
        yield made


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MiB."""
    directory = tmp_path / "disk"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", directory], check=True)
    yield directory
    subprocess.run(["umount", "-l", directory], check=True)


def overwrite(path: Path) -> None:
    """Other bytes of the same length."""
    with path.open("r+b") as file:
        file.write(b"\xaa" * path.stat().st_size)


def flip(path: Path) -> None:
    """One byte in the middle."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def remove(path: Path) -> None:
    path.unlink()


DAMAGES: list[Damage] = [overwrite, flip, truncate, empty, remove]


def damage_files(bed: Bed, damages: list[Damage]) -> None:
    """Each cache file of the tier is damaged in one way, in turns."""
    files = sorted(bed.tier.glob("objects/*/*"))
    assert len(files) == len(bed.files)
    for number, path in enumerate(files):
        damages[number % len(damages)](path)


@needs_root
def test_a_full_disk_is_served_through(
    seaweedfs_server: SeaweedServer, proxy: FaultProxy, small_disk: Path
) -> None:
    files = contents(40, 2 * BLOCK_BYTES)
    with new_bed(
        seaweedfs_server, proxy, files, tier=small_disk / "tier", quota_bytes=1 << 30
    ) as bed:
        bed.check()
        bed.place.end_worker(signal.SIGKILL)
        bed.check()
        assert "served without being kept" in bed.place.worker_log()


@needs_root
def test_a_disk_that_became_read_only_is_said_and_mends(
    seaweedfs_server: SeaweedServer, proxy: FaultProxy, small_disk: Path
) -> None:
    files = contents(4, 2 * BLOCK_BYTES)
    with new_bed(
        seaweedfs_server, proxy, files, tier=small_disk / "tier", source_deadline_seconds=4.0
    ) as bed:
        bed.check("d/000", "d/001")
        bed.place.end_worker()
        # Readers of the index have a file of the disk open for writing: they are to have none.
        close_readers()
        (record,) = list_mounts(bed.place.settings)
        os.kill(record.server_pid, signal.SIGKILL)
        await_end(record.server_pid)
        subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
        bed.attempt_all()
        said = attempt(lambda: bed.read("url", "d/003"))
        assert said.data is None
        assert said.code == errno.EACCES, said
        assert str(bed.tier) in said.message, said
        bed.place.end_worker()
        subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
        assert until(lambda: all(o.data is not None for o in bed.attempt_all()))
        bed.check()


def test_cache_files_damaged_while_nobody_ran(bed: Bed) -> None:
    bed.check()
    bed.place.unmount()
    bed.place.end_worker()
    damage_files(bed, DAMAGES)
    bed.place.mount(bed.definition)
    bed.check()
    bed.check_accounting()


def test_cache_files_damaged_while_mounted_and_the_worker_was_away(bed: Bed) -> None:
    bed.ask("load", paths=["/"])
    bed.place.end_worker(signal.SIGKILL)
    damage_files(bed, DAMAGES)
    bed.check()
    bed.check_accounting()


def test_cache_files_damaged_under_the_worker_before_they_are_opened(bed: Bed) -> None:
    bed.ask("load", paths=["/"])
    damage_files(bed, DAMAGES)
    bed.check()
    bed.check_accounting()


def test_cache_files_cut_or_removed_while_they_are_open(bed: Bed) -> None:
    """Flips in a file that is in use are the scrubber's to find; missing bytes never are served."""
    opened = [bed.faces[face].open(path) for path in bed.files for face in FACES]
    try:
        for file in opened:
            file.read(0, BLOCK_BYTES)
        damage_files(bed, [truncate, empty, remove])
        for path in bed.files:
            for _ in FACES:
                file = opened.pop(0)
                data = file.read(0, len(bed.files[path]) + 1)
                file.close()
                assert data == bed.files[path], path
    finally:
        for file in opened:
            file.close()
    bed.check()
    bed.check_accounting()


def test_a_flip_in_use_is_found_by_the_scrubber(bed: Bed) -> None:
    bed.ask("load", paths=["/"])
    damage_files(bed, [flip])
    assert bed.ask("scrub")["damaged"] > 0
    bed.check()


INDEX_DAMAGES = [
    remove,
    overwrite,
    pytest.param(truncate, marks=pytest.mark.slow),
    pytest.param(empty, marks=pytest.mark.slow),
]


@pytest.mark.parametrize("damage", INDEX_DAMAGES)
def test_a_lost_or_corrupt_index(bed: Bed, damage: Damage) -> None:
    bed.check()
    bed.place.end_worker()
    damage(bed.tier / "index.sqlite")
    bed.check()
    # Who has the lost index open reads on by it; the files leave when the worker finds them.
    bed.check_accounting()


def test_an_index_lost_under_the_worker(bed: Bed) -> None:
    bed.check("d/000", "d/001")
    for path in bed.tier.glob("index.sqlite*"):
        path.unlink()
    bed.check()
    bed.place.end_worker(signal.SIGKILL)
    bed.check()
    bed.check_accounting()


def catalog(bed: Bed) -> Path:
    return bed.place.settings.catalogs_dir / "default.faults.sqlite"


@pytest.mark.parametrize("damage", [remove, empty, overwrite])
def test_a_lost_or_corrupt_catalog(bed: Bed, damage: Damage) -> None:
    """The mount stays: what the kernel remembers must not name other files of the new catalog."""
    bed.check()
    bed.place.end_worker()
    damage(catalog(bed))
    bed.put("d/0000", b"a file that shifts the others")
    assert until(lambda: all(o.data is not None or "0000" in o.message for o in bed.attempt_all()))
    bed.session.entry("d", refresh=True)  # a catalog may have been saved by its log
    assert until(lambda: all(o.data is not None for o in bed.attempt_all()))
    bed.check()


@pytest.mark.parametrize("damage", INDEX_DAMAGES)
def test_a_catalog_lost_or_corrupt_under_the_worker(bed: Bed, damage: Damage) -> None:
    bed.check("d/000", "d/001")
    for path in catalog(bed).parent.glob("*.sqlite-*"):
        path.unlink()
    damage(catalog(bed))
    bed.attempt_all()
    bed.place.end_worker(signal.SIGKILL)
    bed.attempt_all()
    assert until(lambda: all(o.data is not None for o in bed.attempt_all()))
    bed.check()


def test_a_catalog_lost_at_once_gives_no_row_id_twice(tmp_path: Path) -> None:
    """A mount would take a new file for the old one of that id, and show its bytes."""
    path = tmp_path / "catalog.sqlite"
    now = 1_800_000_000.0
    first = CatalogFile(path, lambda: now)
    with first.transaction():
        first.take_ids(20_000)
    last = first.next_id
    first.close()
    path.unlink()
    second = CatalogFile(path, lambda: now + 0.2)  # sooner than a worker starts
    assert second.next_id >= last
    second.close()
