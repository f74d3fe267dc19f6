"""Threads that each read a file of their own, in a process that serves nothing.

`python -m tests.chaos.parallel_reader KIND SECONDS MOUNT FILE…`; prints a report as JSON.
`shares` reads the files past the kernel's pages, over and over: how often each was read.
`whole` reads each file once from begin to end: how long each took.
`parked` reads a byte of each, and says `ready` once all wait for it; ends with its input.
`paced` reads one file after the other past the kernel's pages: how long each read took.
"""

from __future__ import annotations

import json
import mmap
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from tests.chaos.latency import Pulse

CHUNK_BYTES = 128 * 1024
ENOUGH_READS = 40
"""Of each file on the average, for shares to be told."""
_PREAD64 = {"17", "67"}
"""Number of pread64(2): x86-64, and arm64."""


def open_direct(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECT)


def read_shares(paths: list[Path], seconds: float) -> dict[str, Any]:
    """Reads of each file in the time, or a little longer, all begun at once."""
    counts = [0] * len(paths)
    begin = threading.Barrier(len(paths) + 1)
    ended = threading.Event()

    def work(number: int) -> None:
        buffer = mmap.mmap(-1, CHUNK_BYTES)
        fd = open_direct(paths[number])
        size = os.fstat(fd).st_size
        begin.wait()
        at = 0
        while not ended.is_set():
            os.preadv(fd, [buffer], at)
            counts[number] += 1
            at = (at + CHUNK_BYTES) % (size - size % CHUNK_BYTES)
        os.close(fd)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(len(paths))]
    for thread in threads:
        thread.start()
    begin.wait()
    time.sleep(seconds)
    while sum(counts) < ENOUGH_READS * len(paths):  # on a slow machine: few say nothing of shares
        time.sleep(0.05)
    ended.set()
    for thread in threads:
        thread.join()
    return {"counts": counts}


def read_whole(paths: list[Path], seconds: float) -> dict[str, Any]:
    """Seconds that each file took, all begun at once; `seconds` is not used."""
    del seconds
    took = [0.0] * len(paths)
    begin = threading.Barrier(len(paths))

    def work(number: int) -> None:
        begin.wait()
        start = time.monotonic()
        fd = os.open(paths[number], os.O_RDONLY)
        while os.read(fd, CHUNK_BYTES):
            pass
        os.close(fd)
        took[number] = time.monotonic() - start

    threads = [threading.Thread(target=work, args=(n,)) for n in range(len(paths))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"seconds": took}


def read_parked(paths: list[Path], seconds: float) -> dict[str, Any]:
    """All wait at once; bytes come, or not, until `seconds` are over or the input ends."""
    failures: list[str] = []

    def work(path: Path) -> None:
        try:
            fd = os.open(path, os.O_RDONLY)
            os.pread(fd, 1, 0)
            os.close(fd)
        except OSError as error:
            failures.append(repr(error))

    threads = [threading.Thread(target=work, args=(p,), daemon=True) for p in paths]
    for thread in threads:
        thread.start()
    limit = time.monotonic() + seconds
    while waiting() < len(paths) and time.monotonic() < limit:
        time.sleep(0.05)
    print(waiting(), flush=True)
    sys.stdin.read()
    return {"parked": waiting(), "failures": failures}


def waiting() -> int:
    """Threads of this process that are in pread."""
    found = 0
    for task in Path("/proc/self/task").iterdir():
        found += (task / "syscall").read_text().split()[0] in _PREAD64
    return found


def read_paced(paths: list[Path], seconds: float) -> dict[str, Any]:
    """Rounds of one read of each file, until `seconds` are over; what each took, with its open."""
    buffer = mmap.mmap(-1, 4096)
    took: list[float] = []
    limit = time.monotonic() + seconds
    while True:
        for path in paths:
            start = time.monotonic()
            fd = open_direct(path)
            os.preadv(fd, [buffer], 0)
            os.close(fd)
            took.append(time.monotonic() - start)
            time.sleep(0.001)
        if time.monotonic() >= limit:
            return {"seconds": took}


def main() -> None:
    """Reads as told."""
    kind, seconds, top, *files = sys.argv[1:]
    works = {
        "shares": read_shares,
        "whole": read_whole,
        "parked": read_parked,
        "paced": read_paced,
    }
    with Pulse() as pulse:
        report = works[kind]([Path(top) / file for file in files], float(seconds))
    print(json.dumps(report | {"stall": pulse.longest}), flush=True)


if __name__ == "__main__":
    main()
