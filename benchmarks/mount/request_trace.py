"""Counts FUSE requests of one mount by the kernel's own trace events: of any server, at its speed.

The events are `fuse:fuse_request_send` and `fuse:fuse_request_end` (Linux 6.18 has them), recorded
in an instance of tracefs of our own, with a filter on the mount's connection. FORGET has no answer
and is not among them.
"""

from __future__ import annotations

import contextlib
import os
import re
import statistics
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_BUFFER_KIBIBYTES = 64 * 1024
"""For each processor; a request takes about 100 bytes of it."""
_EVENT = re.compile(r"(\d+\.\d+): fuse_request_(send|end): connection \d+ req (\d+)(.*)")
_OPCODE = re.compile(r"\(FUSE_(\w+)\)")


@dataclass(frozen=True)
class Requests:
    """Requests of one kind: how many, and microseconds from request to answer.

    `share` is this kind's part of the time of all requests, from 0 to 1.
    """

    count: int
    median_microseconds: float
    share: float


def count_requests(lines: Iterable[str]) -> dict[str, Requests]:
    """Requests by opcode (LOOKUP, READ, …), most time first, of the text of a trace."""
    begun: dict[str, tuple[str, float]] = {}
    times: dict[str, list[float]] = defaultdict(list)
    for line in lines:
        event = _EVENT.search(line)
        if event is None:
            continue
        moment, what, unique, rest = event.groups()
        if what == "send":
            opcode = _OPCODE.search(rest)
            begun[unique] = (opcode.group(1) if opcode else "unknown", float(moment))
        elif unique in begun:
            name, start = begun.pop(unique)
            times[name].append((float(moment) - start) * 1e6)
    total = sum(sum(found) for found in times.values()) or 1.0
    return {
        name: Requests(len(found), statistics.median(found), sum(found) / total)
        for name, found in sorted(times.items(), key=lambda item: -sum(item[1]))
    }


@contextlib.contextmanager
def tracing() -> Iterator[Path]:
    """An instance of tracefs. Raises RuntimeError where the kernel has no events of FUSE."""
    with contextlib.ExitStack() as stack:
        root = Path("/sys/kernel/tracing")
        if not (root / "instances").exists():
            root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fluidpy-trace-")))
            _mount(root)
            stack.callback(subprocess.run, ["umount", str(root)], check=False)
        if not (root / "events/fuse/fuse_request_send").exists():
            raise RuntimeError("this kernel has no trace events of FUSE; Linux 6.18 has")
        instance = root / "instances" / f"fluidpy-{os.getpid()}"
        instance.mkdir()
        stack.callback(instance.rmdir)
        (instance / "buffer_size_kb").write_text(str(_BUFFER_KIBIBYTES))
        yield instance


def _mount(directory: Path) -> None:
    command = ["mount", "-t", "tracefs", "tracefs", str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"tracefs cannot be mounted: {done.stderr.strip()}")


class Recording:
    """Filled by `recorded` when its block has ended."""

    requests: dict[str, Requests]


@contextlib.contextmanager
def recorded(instance: Path, directory: Path) -> Iterator[Recording]:
    """Records the requests of the mount `directory`. Raises RuntimeError when some got lost."""
    device = os.stat(directory).st_dev
    connection = os.major(device) << 20 | os.minor(device)  # the kernel's own form of a dev_t
    events = instance / "events/fuse"
    for name in ("fuse_request_send", "fuse_request_end"):
        (events / name / "filter").write_text(f"connection == {connection}")
    (instance / "trace").write_text("")
    (events / "enable").write_text("1")
    recording = Recording()
    try:
        yield recording
    finally:
        (events / "enable").write_text("0")
    if lost := _lost(instance):
        raise RuntimeError(f"{lost:,} trace events did not fit the buffer")
    with (instance / "trace").open() as lines:
        recording.requests = count_requests(lines)
    (instance / "trace").write_text("")


def _lost(instance: Path) -> int:
    lost = 0
    for path in (instance / "per_cpu").glob("cpu*/stats"):
        for line in path.read_text().splitlines():
            if line.startswith(("overrun:", "dropped events:")):
                lost += int(line.rpartition(":")[2])
    return lost
