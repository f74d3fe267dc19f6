"""Memory of a mount that read 100 GiB: private bytes of all its processes, over time; then the
kernel's pages of one file in each read mode: those of the mount, and those of its cache file.

The source is synthetic: sparse files in a directory, which cost no disk. The cache is small, so
that eviction works all the time.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import yaml

from benchmarks.mount.fluidpy_mount import MODES
from benchmarks.pairs import Figure, Outcome, spread
from benchmarks.single.bench import MIB, Bench, read_file
from benchmarks.single.page_cache import cached_bytes, forget
from benchmarks.single.processes import MemorySampler

_GIB = 1024 * MIB
_FLAT_MIB = 30
"""A tenth of what is allowed: what the last third may hold above the first, and still be flat."""

_SETTLED_SECONDS = 15.0
"""A mount lets go of a file ten seconds after its last read, and then of the file's pages."""


def _dataset(bench: Bench, source: Path, quota: str) -> Path:
    meta = {"name": "synthetic"}
    tier = {"mediumtype": "SSD", "path": str(bench.directory / "tier"), "quota": quota}
    objects = [
        {
            "apiVersion": "data.fluid.io/v1alpha1",
            "kind": "Dataset",
            "metadata": meta,
            "spec": {"mounts": [{"mountPoint": f"local://{source}", "name": "s", "path": "/"}]},
        },
        {
            "apiVersion": "data.fluid.io/v1alpha1",
            "kind": "AlluxioRuntime",
            "metadata": meta,
            "spec": {"tieredstore": {"levels": [tier]}},
        },
    ]
    path = bench.directory / "synthetic.yaml"
    path.write_text(yaml.safe_dump_all(objects))
    return path


def _synthetic(path: Path, size: int) -> None:
    path.touch()
    os.truncate(path, size)
    os.utime(path, (1_700_000_000, 1_700_000_000))


def _page_cache(bench: Bench, size: int, quota: str) -> dict[str, dict[str, float]]:
    """MiB in the page cache by read mode, after a whole file that is cached was read twice."""
    source, found = bench.directory / "one", {}
    source.mkdir()
    _synthetic(source / "whole.bin", size)
    time.sleep(3)  # a file whose ctime is under 2 s old is not kept
    file = _dataset(bench, source, quota)
    with bench.machine() as machine:
        machine.fluidpy("load", "-f", str(file))
        tier = list((bench.directory / "tier").rglob("objects/*/*"))
        for mode in MODES:
            for path in tier:
                forget(path)
            with machine.mounted(file, "--read-mode", mode) as directory:
                whole = directory / "whole.bin"
                for _ in range(2):
                    if read_file(whole) != size:
                        raise RuntimeError("short file")
                of_the_mount = cached_bytes(whole)
                time.sleep(_SETTLED_SECONDS)
                of_the_tier = sum(cached_bytes(path) for path in tier)
                found[mode] = {
                    "read": size / MIB,
                    "of_the_mount": of_the_mount / MIB,
                    "of_the_tier": of_the_tier / MIB,
                }
    return found


def _once_in_memory(mode: str, pages: dict[str, float]) -> Figure:
    """How often a byte that was read is in memory; in passthrough both files have the same pages"""
    kept = [pages["of_the_mount"], pages["of_the_tier"]]
    copies = (max(kept) if mode == "passthrough" else sum(kept)) / pages["read"]
    return Figure(f"page cache a byte read, {mode}", "B", spread([copies]))


def run(bench: Bench) -> Outcome:
    """No comparison: the peak of the first and of the last third, and which process had what."""
    files, size = (4, 64 * MIB) if bench.smoke else (100, _GIB)
    source = bench.directory / "source"
    source.mkdir()
    for index in range(files):
        _synthetic(source / f"part-{index:03d}.bin", size)
    (bench.directory / "tier").mkdir()
    quota = "128Mi" if bench.smoke else "12Gi"
    file = _dataset(bench, source, quota)
    with bench.machine() as machine, machine.mounted(file) as directory:
        time.sleep(3)  # a file whose ctime is under 2 s old is not kept
        (mount,) = machine.status()["mounts"]
        sampler = MemorySampler(machine.processes)
        sampler.start()
        begin, total = time.perf_counter(), 0
        for path in sorted(directory.iterdir()):
            total += read_file(path)
            bench.talk(f"{total / _GIB:.0f} GiB read")
        seconds = time.perf_counter() - begin
        sampler.finish()
    if total != files * size:
        raise RuntimeError("short files")
    third = max(1, len(sampler.totals) // 3)
    first, last = max(sampler.totals[:third]), max(sampler.totals[-third:])
    figures = [
        Figure(
            "private memory, all processes",
            "MiB",
            spread([max(sampler.totals)]),
            at_most=300,
        ),
        Figure("last third above the first", "MiB", spread([last - first]), at_most=_FLAT_MIB),
    ]
    pages = _page_cache(bench, 8 * MIB if bench.smoke else _GIB, quota)
    figures += [_once_in_memory(mode, found) for mode, found in pages.items()]
    return Outcome(
        (),
        figures,
        {
            "read_mode": mount["readMode"],
            "page_cache_mebibytes": pages,
            "read_gibibytes": total / _GIB,
            "mebibytes_a_second": total / MIB / seconds,
            "peak_of_first_third_mebibytes": first,
            "peak_of_last_third_mebibytes": last,
            "peak_by_process_mebibytes": sampler.by_role,
        },
    )
