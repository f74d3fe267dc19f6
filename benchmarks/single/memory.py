"""Memory of a mount that read 100 GiB: private bytes of all its processes, over time.

The source is synthetic: sparse files in a directory, which cost no disk. The cache is small, so
that eviction works all the time.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import yaml

from benchmarks.pairs import Figure, Outcome, spread
from benchmarks.single.bench import MIB, Bench, Machine, private_bytes, read_file

_GIB = 1024 * MIB
_SAMPLE_SECONDS = 1.0
_FLAT_MIB = 30
"""A tenth of what is allowed: what the last third may hold above the first, and still be flat."""


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


class _Sampler(threading.Thread):
    """Adds up private memory of the processes once a second."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(daemon=True)
        self._pids = machine.processes()
        self._finished = threading.Event()
        self.totals: list[float] = []
        self.by_process: dict[str, float] = dict.fromkeys(self._pids, 0.0)

    def run(self) -> None:
        self._sample()
        while not self._finished.wait(_SAMPLE_SECONDS):
            self._sample()
        self._sample()

    def _sample(self) -> None:
        now = {name: private_bytes(pid) / MIB for name, pid in self._pids.items()}
        self.totals.append(sum(now.values()))
        self.by_process = {n: max(v, self.by_process[n]) for n, v in now.items()}

    def finish(self) -> None:
        self._finished.set()
        self.join()


def run(bench: Bench) -> Outcome:
    """No comparison: the peak of the first and of the last third, and which process had what."""
    files, size = (4, 64 * MIB) if bench.smoke else (100, _GIB)
    source = bench.directory / "source"
    source.mkdir()
    for index in range(files):
        path = source / f"part-{index:03d}.bin"
        path.touch()
        os.truncate(path, size)
        os.utime(path, (1_700_000_000, 1_700_000_000))
    (bench.directory / "tier").mkdir()
    file = _dataset(bench, source, "128Mi" if bench.smoke else "12Gi")
    with bench.machine() as machine, machine.mounted(file) as directory:
        time.sleep(3)  # a file whose ctime is under 2 s old is not kept
        sampler = _Sampler(machine)
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
    return Outcome(
        (),
        figures,
        {
            "read_gibibytes": total / _GIB,
            "mebibytes_a_second": total / MIB / seconds,
            "peak_of_first_third_mebibytes": first,
            "peak_of_last_third_mebibytes": last,
            "peak_by_process_mebibytes": sampler.by_process,
        },
    )
