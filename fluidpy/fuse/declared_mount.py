"""Mounts that the control plane keeps: one process mounts, or unmounts, one of them, and ends.

`python -m fluidpy.fuse.declared_mount ORDER` with ORDER a JSON object: `directory`, and either
`unmount` (with `lazy`), or `namespace`, `dataset`, `readMode` and `deadline` in seconds. It answers
with one line on stdout: `{"record": …}`, or `{"error": …}` as `FluidpyError.to_wire` has it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from fluidpy.client.control_client import ControlClient
from fluidpy.errors import FluidpyError
from fluidpy.fuse import kernel_mount
from fluidpy.fuse.mount_record import MountRecord, read_record, record_path, remove_record
from fluidpy.fuse.mount_table import mounted_at
from fluidpy.fuse.mounting import mount_dataset, unmount
from fluidpy.namespace.definition import DatasetDefinition
from fluidpy.settings import Settings, load_settings

EXTRA_SECONDS: Final = 5.0
"""How much sooner than the control plane this ends, so that its own error is heard."""


def main(arguments: Sequence[str]) -> int:
    """Carries one order out; the exit code."""
    order = json.loads(arguments[0])
    try:
        answer = _carry_out(order, load_settings())
    except FluidpyError as error:
        print(json.dumps({"error": error.to_wire()}), flush=True)
        return error.exit_code
    print(json.dumps(answer), flush=True)
    return 0


def _carry_out(order: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    directory = Path(order["directory"])
    if order.get("unmount"):
        _unmount(directory, settings, lazy=bool(order.get("lazy")))
        return {}
    record = _still_served(directory, settings)
    if record is None:
        record = _mount(order, directory, settings)
    return {"record": record.to_wire()}


def _mount(order: Mapping[str, Any], directory: Path, settings: Settings) -> MountRecord:
    deadline = float(order["deadline"]) - EXTRA_SECONDS
    _clear(directory, settings)
    client = ControlClient(settings)
    access = client.access(str(order["namespace"]), str(order["dataset"]), deadline=deadline)
    return mount_dataset(
        DatasetDefinition.from_wire(access["definition"]),
        directory,
        replace(
            settings,
            worker_runtime_dir=Path(access["runtimeDir"]),
            cache_dir=Path(access["cacheDir"]),
        ),
        foreground=False,
        file=None,
        deadline=deadline,
        read_mode=str(order.get("readMode", "auto")),
    )


def _still_served(directory: Path, settings: Settings) -> MountRecord | None:
    """The record of a mount that the control plane kept before and that is well."""
    record = read_record(record_path(settings, directory))
    point = mounted_at(directory)
    if record is None or point is None or not (point.ours and record.managed):
        return None
    return record if _lives(record.holder_pid) else None


def _clear(directory: Path, settings: Settings) -> None:
    """Takes away a mount whose holder is gone; its readers go on until they close their files."""
    record = read_record(record_path(settings, directory))
    point = mounted_at(directory)
    if record is None or not record.managed or _lives(record.holder_pid):
        return
    if point is not None and point.ours:
        kernel_mount.unmount(directory, lazy=True)
    remove_record(settings, directory, record.holder_pid)


def _unmount(directory: Path, settings: Settings, *, lazy: bool) -> None:
    if mounted_at(directory) is None:
        remove_record(settings, directory)
        return
    unmount(directory, settings, lazy=lazy)


def _lives(pid: int) -> bool:
    try:
        os.close(os.pidfd_open(pid))
    except OSError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
