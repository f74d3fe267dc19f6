"""fluidpy as a system, one for each read mode, each with a cache of its own."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from benchmarks.mount.system import Mounted, Open, System, is_mount
from benchmarks.mount.tree import Tree
from benchmarks.single.bench import Bench, Machine
from fluidpy import __version__

MODES = ("passthrough", "no-open", "plain")
"""Values of `fluidpy mount --read-mode`; `auto` and `default` (no option) may be asked for too."""


def fluidpy(mode: str) -> System:
    """The mount in one read mode."""
    return System(
        f"fluidpy {mode}", lambda: __version__, _open(mode, names=False), _open(mode, names=True)
    )


def _open(mode: str, *, names: bool) -> Open:
    @contextlib.contextmanager
    def opened(bench: Bench, tree: Tree) -> Iterator[Mounted]:
        file = _unchanging(bench.dataset_file(tree.bucket, tree.bucket))
        with bench.machine() as machine:
            machine.fluidpy("load", "-f", str(file), *(["--metadata"] if names else []))
            directory = machine.home / "mnt"
            directory.mkdir()
            option = [] if mode == "default" else ["--read-mode", mode]
            try:
                machine.fluidpy("mount", *option, "-f", str(file), str(directory))
                found = _served_in(machine)
                _refuse_other_mode(mode, found)
                pids = [int(pid) for pid in _pids(found)]
                command = " ".join(["fluidpy mount", *option, "-f dataset.yaml"])
                note = f"read mode {found['readMode']}"
                # The worker verifies 16 MiB of its cache every 5 s; warm reads never ask it.
                background = (int(str(found["workerPid"])),)
                yield Mounted(directory, lambda: pids, command, note, background)
            finally:
                if is_mount(directory):
                    machine.fluidpy("umount", str(directory))

    return opened


def _unchanging(file: Path) -> Path:
    """Says of the Dataset that its listings count for an hour, as the peers are told."""
    _, secret, dataset = file.read_text().split("---\n")
    document = json.loads(dataset)
    document["metadata"]["annotations"] = {"fluidpy.io/metadata-ttl": "1h"}
    file.write_text(f"---\n{secret}---\n{json.dumps(document)}\n")
    return file


def _served_in(machine: Machine) -> dict[str, object]:
    status = json.loads(machine.fluidpy("status", "-o", "json"))
    (mount,) = status["mounts"]
    return {**mount, "workerPid": status["worker"]["pid"]}


def _refuse_other_mode(mode: str, found: dict[str, object]) -> None:
    if mode in MODES and found["readMode"] != mode:
        raise RuntimeError(f"{mode} was asked for, and the mount reads by {found['readMode']}")


def _pids(found: dict[str, object]) -> list[str]:
    names = ("workerPid", "holderPid", "serverPid", "sparePid")
    return [str(found[name]) for name in names if found.get(name)]
