"""Each read mode over a real worker: right bytes, versions, evictions, files that become whole."""

from __future__ import annotations

import mmap
import os
import random
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.single.page_cache import cached_bytes, forget
from fluidpy.fuse.open_files import IDLE_SECONDS
from fluidpy.fuse.read_modes import ReadMode
from tests.fuse.reading_bed import LARGE, MIB, MODES, Bed, as_root, held_by_server, write
from tests.fuse.test_fuse_serving import until
from tests.fuse.ways_to_read import at_random, by_direct_io, by_mmap, by_sendfile


@pytest.mark.parametrize("mode", MODES)
def test_bytes_are_right_however_they_are_read(bed: Bed, mode: ReadMode) -> None:
    bed.mount(mode)
    top = bed.mount_point
    for name in ("large", "small/3"):
        content = (bed.source / name).read_bytes()
        ways: list[Callable[[Path], bytes]] = [
            at_random,
            Path.read_bytes,
            by_mmap,
            by_sendfile,
            by_direct_io,
        ]
        for way in ways:
            assert way(top / name) == content, way
    assert (top / "empty").read_bytes() == b""
    archive = bed.tier.parent / "tree.tar"
    subprocess.run(["tar", "-cf", archive, "-C", top, "."], check=True, stderr=subprocess.DEVNULL)
    with tarfile.open(archive) as tar:
        for number in range(12):
            member = tar.extractfile(f"./small/{number}")
            assert member is not None
            assert member.read() == (bed.source / f"small/{number}").read_bytes()
    record = bed.record()
    assert (record.read_mode, record.read_mode_reason) == (mode, "asked for")
    if mode is ReadMode.PASSTHROUGH:
        assert until(lambda: bed.is_passed_through("large"))
    else:
        assert not bed.is_passed_through("large")


@pytest.mark.parametrize("mode", MODES)
def test_a_new_version_is_seen_by_new_opens_alone(bed: Bed, mode: ReadMode) -> None:
    bed.mount(mode, ttl=0.3)
    for name in ("large", "small/3"):
        old = (bed.source / name).read_bytes()
        assert (bed.mount_point / name).read_bytes() == old
        assert (bed.mount_point / name).read_bytes() == old
        with (bed.mount_point / name).open("rb", buffering=0) as stream:
            new = os.urandom(len(old) + 1)
            write(bed.source / name, new, age=60)
            assert until(lambda n=name, c=new: (bed.mount_point / n).read_bytes() == c)  # type: ignore[misc]  # the defaults bind the loop's values
            assert stream.read(1 << 30) == old
        assert bed.same(name)


@as_root
def test_a_file_is_passed_through_once_it_is_whole(bed: Bed) -> None:
    bed.mount("passthrough")
    path = bed.mount_point / "large"
    with path.open("rb", buffering=0) as early:
        assert early.read(4096) == (bed.source / "large").read_bytes()[:4096]
        assert until(lambda: bed.same("large"))
        assert until(lambda: bed.is_passed_through("large"))
        assert early.read(1 << 30) == (bed.source / "large").read_bytes()[4096:]
    bed.ask("load", paths=["/small"])
    os.listdir(bed.mount_point / "small")
    assert until(lambda: bed.is_passed_through("small/5"))


def without_pages(bed: Bed, path: str) -> Path:
    """The cache file of an object that was loaded, whose pages the kernel has forgotten."""
    bed.ask("load", paths=[path])
    (cached,) = bed.tier.rglob("objects/*/*")
    time.sleep(0.2)  # its row is in the index by now
    forget(cached)
    if cached_bytes(cached):
        pytest.skip("the file system here, such as tmpfs, keeps its pages")
    return cached


@pytest.mark.parametrize("mode", [ReadMode.NO_OPEN, ReadMode.PLAIN])
def test_pages_that_the_mount_has_are_not_kept_a_second_time(bed: Bed, mode: ReadMode) -> None:
    bed.mount(mode)
    cached = without_pages(bed, "/small/3")
    assert bed.same("small/3")
    assert until(lambda: not cached_bytes(cached))
    assert bed.same("small/3")


def test_what_the_mount_forgot_is_read_again_past_the_cache_files_pages(bed: Bed) -> None:
    bed.mount(ReadMode.NO_OPEN)
    cached = without_pages(bed, "/small/3")
    for _ in range(2):  # the second time it is held
        assert bed.same("small/3")
        assert until(lambda: not cached_bytes(cached))
        forget(bed.mount_point / "small/3")

    def past_its_pages() -> bool:
        """It is not where a disk was late, or another request waited: on a busy machine."""
        assert bed.same("small/3")
        kept = cached_bytes(cached)
        forget(bed.mount_point / "small/3")
        return not kept or not until(lambda: not cached_bytes(cached))

    assert until(past_its_pages)


@pytest.mark.slow
@pytest.mark.parametrize("mode", [ReadMode.NO_OPEN, ReadMode.PLAIN])
def test_no_page_of_a_large_file_is_kept_a_second_time(bed: Bed, mode: ReadMode) -> None:
    bed.mount(mode)
    cached = without_pages(bed, "/large")
    assert bed.same("large")
    assert until(lambda: not cached_bytes(cached), 60 + IDLE_SECONDS)  # when it is held no longer
    assert bed.same("large")


@pytest.fixture
def overlay(short_directory: Path) -> Iterator[Path]:
    """A directory on overlayfs, as a container's root is."""
    layers = [short_directory / name for name in ("lower", "upper", "work")]
    for layer in layers:
        layer.mkdir()
    merged = short_directory / "merged"
    merged.mkdir()
    options = "lowerdir={},upperdir={},workdir={}".format(*layers)
    command = ["mount", "-t", "overlay", "overlay", "-o", options, os.fspath(merged)]
    if subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode:
        pytest.skip("overlayfs cannot be mounted here")
    yield merged
    subprocess.run(["umount", "-l", merged], check=True)


@as_root
def test_a_cache_on_overlayfs_is_passed_through_too(overlay: Path, bed: Bed) -> None:
    bed.tier = overlay / "tier"
    bed.mount("passthrough")
    assert bed.same("large")
    assert until(lambda: bed.is_passed_through("large"))


@as_root
def test_an_evicted_file_is_read_to_its_end_and_then_leaves(bed: Bed) -> None:
    bed.mount("passthrough")
    content = (bed.source / "large").read_bytes()
    assert bed.same("large")
    assert until(lambda: bed.is_passed_through("large"))
    with (
        (bed.mount_point / "large").open("rb", buffering=0) as stream,
        mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ) as view,
    ):
        assert bed.ask("evict", path="/large")["objects"] == 1
        assert bed.bytes_of_cache() < LARGE
        assert until(lambda: unlinked(bed) >= LARGE)
        time.sleep(1.5)  # its id is closed by now; who has it open reads on
        assert bytes(view) == content
        assert stream.read(1 << 30) == content
        assert unlinked(bed) >= LARGE
    assert until(lambda: unlinked(bed) == 0)
    assert until(lambda: bed.same("large") and bed.is_passed_through("large"))


def unlinked(bed: Bed) -> int:
    """Bytes that the worker counts although their file has left."""
    return sum(int(tier["unlinked_bytes"]) for tier in bed.ask("usage")["tiers"])


def read_anew(bed: Bed, name: str) -> bool:
    """Whether a file has the right bytes, none of which the kernel has yet."""
    with (bed.mount_point / name).open("rb", buffering=0) as stream:
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return stream.read(1 << 30) == (bed.source / name).read_bytes()


def test_a_small_file_that_is_read_again_is_held_until_it_leaves_the_cache(bed: Bed) -> None:
    bed.mount("no-open")
    bed.ask("load", paths=["/small"])

    def held_beyond_their_reads() -> bool:
        assert read_anew(bed, "small/3")
        assert read_anew(bed, "small/4")
        time.sleep(1.5)  # what nobody reads is looked through once a second
        return len(set(held_by_server(bed))) == 2

    assert until(held_beyond_their_reads, 60)
    bed.ask("evict", path="/small")
    assert until(lambda: not held_by_server(bed))
    assert until(lambda: unlinked(bed) == 0)
    assert read_anew(bed, "small/3")


@as_root
def test_opens_never_fail_while_files_come_and_go(bed: Bed) -> None:
    bed.mount("passthrough")
    names = [f"small/{number}" for number in range(6)]
    content = {name: (bed.source / name).read_bytes() for name in names}
    problems: list[str] = []
    stop = threading.Event()

    def read_on(seed: int) -> None:
        chance = random.Random(seed)
        while not stop.is_set():
            name, opened = chance.choice(names), False
            try:
                with (bed.mount_point / name).open("rb", buffering=0) as stream:
                    opened = True
                    if stream.read(1 << 20) != content[name]:
                        problems.append(f"{name}: wrong bytes")
            except OSError as error:
                problems.append(f"{name}: {error!r} ({'read' if opened else 'open'})")

    readers = [threading.Thread(target=read_on, args=(seed,)) for seed in range(3)]
    for reader in readers:
        reader.start()
    limit, rounds = time.monotonic() + 6, 0
    while time.monotonic() < limit or rounds <= 10:
        bed.ask("evict", path="/small")
        rounds += 1
        time.sleep(0.05)
    stop.set()
    for reader in readers:
        reader.join(60)
    log = next(bed.settings.runtime_dir.glob("mount-*.log")).read_text()
    assert problems == [], log[-2000:]


@pytest.mark.parametrize("small", [True, False])
def test_auto_goes_by_the_size_of_the_files(bed: Bed, small: bool) -> None:
    if small:
        for number in range(200):
            write(bed.source / f"small/{number}", b"x" * 1000)
    else:
        write(bed.source / "larger", b"x" * (32 * MIB))
    bed.mount("auto")
    os.listdir(bed.mount_point / "small")
    assert bed.same("large")
    wanted = "no-open" if small or os.geteuid() != 0 else "passthrough"
    assert until(lambda: bed.record().read_mode == wanted)
    assert bed.same("small/7")
