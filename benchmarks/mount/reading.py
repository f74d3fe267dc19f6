"""One job of the reading program on one mount: what it read, how long, and who paid for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any

_READER = Path(__file__).with_name("reader.py")
_SPARE_SECONDS = 300.0
"""How much longer than its own limit a job may take before it counts as hanging."""
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Sample:
    """`amount` (bytes, reads, files) in `seconds`; processor seconds of the reader and the system.

    `source_requests` are the requests the source answered meanwhile, `disk_bytes` what was read
    meanwhile from the disk below all caches; None where not counted.
    `finished` is false when the job's limit came first; the speed is that of the part done.
    """

    amount: int
    seconds: float
    reader_user_seconds: float
    reader_system_seconds: float
    system_cpu_seconds: float = 0.0
    source_requests: int | None = None
    disk_bytes: int | None = None
    finished: bool = True

    @property
    def speed(self) -> float:
        """Amount a second."""
        return self.amount / self.seconds

    def to_document(self) -> dict[str, Any]:
        """Plain values for the JSON that is kept."""
        return asdict(self)


def _run(root: Path, job: dict[str, Any]) -> dict[str, Any]:
    limit = float(job.get("maximum_seconds", 0)) + _SPARE_SECONDS
    done = subprocess.run(
        [sys.executable, "-I", str(_READER)],
        input=json.dumps({"root": str(root), **job}),
        capture_output=True,
        text=True,
        timeout=limit,
        check=False,
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise RuntimeError(f"{job['kind']} read of {root}: {last[0]}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def read(root: Path, job: dict[str, Any], pids: Iterable[int] = ()) -> Sample:
    """Does one job below `root`; `pids` are the processes that serve it. Raises RuntimeError."""
    serving = tuple(pids)
    before = cpu_seconds(serving)
    result = _run(root, job)
    return Sample(
        int(result["amount"]),
        float(result["seconds"]),
        float(result["user_seconds"]),
        float(result["system_seconds"]),
        cpu_seconds(serving) - before,
        finished=bool(result["finished"]),
    )


def digest(root: Path, paths: Iterable[str]) -> str:
    """sha256 of the files' bytes, one after the other. Raises RuntimeError."""
    return str(_run(root, {"kind": "digest", "paths": list(paths)})["digest"])


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system seconds of these processes so far; one that is gone counts nothing."""
    total = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += int(fields[11]) + int(fields[12])
    return total / _TICKS


def session_pids(session: int) -> list[int]:
    """Processes of one session (`setsid`), as a server and its children are."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[3]) == session:
            found.append(int(entry.name))
    return found


def disk_bytes_read(directory: Path, without: Iterable[int] = ()) -> int:
    """Bytes read so far from the block device that holds the directory; 0 where there is none.

    What the processes `without` had read from disk is left out.
    """
    device = os.stat(directory).st_dev
    try:
        stat = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat").read_text()
    except FileNotFoundError:
        return 0
    # Sectors are of 512 bytes there, whatever the device's.
    return int(stat.split()[2]) * 512 - sum(map(_read_bytes, without))


def _read_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/io").read_text().splitlines():
        if line.startswith("read_bytes:"):
            return int(line.split()[1])
    return 0


class Drop(Enum):
    """What the kernel is to forget (`/proc/sys/vm/drop_caches`, its sysctl documentation)."""

    PAGES = "1"
    PAGES_NAMES_INODES = "3"


def drop(what: Drop) -> None:
    """Empties caches of the kernel; what is dirty is written before."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text(f"{what.value}\n")
