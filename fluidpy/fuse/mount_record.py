"""Records of this user's mounts: one private JSON file each, without options or secrets."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fluidpy.settings import Settings


@dataclass(slots=True)
class MountRecord:
    """One mount: where, what, by whom. `started_at` in epoch seconds.

    `file` and `url` say where the Dataset was declared; `read_mode` and its reason how files are
    read; `restarts` how often a server was followed by another after it had ended by itself or was
    killed. `failure` is why a mount that nobody unmounted is there no longer.
    `managed` is one that the control plane keeps.
    """

    mount_point: Path
    dataset: str
    namespace: str
    holder_pid: int
    server_pid: int
    read_mode: str
    started_at: float
    file: Path | None = None
    url: str | None = None
    read_mode_reason: str = ""
    restarts: int = 0
    failure: str | None = None
    managed: bool = False

    def to_wire(self) -> dict[str, Any]:
        """Plain values, named as `fluidpy status -o json` names them."""
        return {
            "mountPoint": os.fspath(self.mount_point),
            "dataset": self.dataset,
            "namespace": self.namespace,
            "holderPid": self.holder_pid,
            "serverPid": self.server_pid,
            "readMode": self.read_mode,
            "readModeReason": self.read_mode_reason,
            "restarts": self.restarts,
            "startedAt": self.started_at,
            "file": None if self.file is None else os.fspath(self.file),
            "url": self.url,
            "failure": self.failure,
            "managed": self.managed,
        }

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> MountRecord:
        """The record that `to_wire` described. Raises KeyError, TypeError for anything else."""
        return cls(
            Path(wire["mountPoint"]),
            str(wire["dataset"]),
            str(wire["namespace"]),
            int(wire["holderPid"]),
            int(wire["serverPid"]),
            str(wire["readMode"]),
            float(wire["startedAt"]),
            None if wire.get("file") is None else Path(wire["file"]),
            wire.get("url"),
            str(wire.get("readModeReason", "")),
            int(wire.get("restarts", 0)),
            wire.get("failure"),
            bool(wire.get("managed", False)),
        )


def mount_id(directory: Path) -> str:
    """The name of a mount's record and log: 16 hexadecimal digits from its directory."""
    return hashlib.blake2b(os.fsencode(directory), digest_size=8).hexdigest()


def record_path(settings: Settings, directory: Path) -> Path:
    """Where the record of a mount lies."""
    return settings.mounts_dir / f"{mount_id(directory)}.json"


def socket_path(settings: Settings, directory: Path) -> Path:
    """Where the holder of a mount hears commands."""
    return settings.mounts_dir / f"{mount_id(directory)}.sock"


def log_path(settings: Settings, directory: Path) -> Path:
    """Where the processes of a mount write what they have to say."""
    return settings.runtime_dir / f"mount-{mount_id(directory)}.log"


def write_record(settings: Settings, record: MountRecord) -> None:
    """Writes the record (0600), whole or not at all. Raises OSError."""
    settings.mounts_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd, temporary = tempfile.mkstemp(dir=settings.mounts_dir, suffix=".new")
    try:
        with os.fdopen(fd, "w") as stream:
            json.dump(record.to_wire(), stream)
        Path(temporary).replace(record_path(settings, record.mount_point))
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise


def read_record(path: Path) -> MountRecord | None:
    """The record in a file; None when it is gone or not one of ours."""
    try:
        return MountRecord.from_wire(json.loads(path.read_bytes()))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def read_records(settings: Settings) -> list[MountRecord]:
    """All records, in order of their mount points."""
    found = (read_record(path) for path in settings.mounts_dir.glob("*.json"))
    return sorted((r for r in found if r is not None), key=lambda r: r.mount_point)


def remove_record(settings: Settings, directory: Path, holder_pid: int | None = None) -> None:
    """Removes a mount's record; with `holder_pid` only if it is that holder's."""
    path = record_path(settings, directory)
    if holder_pid is not None:
        record = read_record(path)
        if record is None or record.holder_pid != holder_pid:
            return
    path.unlink(missing_ok=True)
    socket_path(settings, directory).unlink(missing_ok=True)
