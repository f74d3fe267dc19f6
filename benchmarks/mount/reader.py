"""The program that reads, the same for every system: `python -I reader.py < JOB`.

The result goes to stdout. It runs as a process of its own, imports nothing of this project and
reads with `readv` into one buffer, which begins at a page as fio's does and is used again, the
collector of garbage off, so that what it adds to a read is the same few hundred nanoseconds
everywhere (the user seconds of the plain directory's samples show it).

A job is JSON: `kind` (sequential, random, small, parallel, digest), `root`, `paths` relative to it;
`seed` and `count` where they matter; `minimum_seconds`: the job is done again until so much time
has passed; `maximum_seconds`: it stops in the middle then, and `finished` is false.
"""

from __future__ import annotations

import gc
import hashlib
import json
import mmap
import os
import random
import resource
import sys
import time
from typing import Any

BUFFER_BYTES = 1024 * 1024
BLOCK_BYTES = 4096
BATCH = 256
"""Random reads between two looks at the clock."""


def _sequential(job: dict[str, Any]) -> dict[str, Any]:
    buffers, total = [mmap.mmap(-1, BUFFER_BYTES)], 0
    path = os.path.join(job["root"], job["paths"][0])
    begin = time.perf_counter()
    least, most = begin + job["minimum_seconds"], begin + job["maximum_seconds"]
    while True:
        fd = os.open(path, os.O_RDONLY)
        while count := os.readv(fd, buffers):
            total += count
            if time.perf_counter() > most:
                break
        os.close(fd)
        now = time.perf_counter()
        if count or now >= least:
            return {"amount": total, "seconds": now - begin, "finished": count == 0}


def _random(job: dict[str, Any]) -> dict[str, Any]:
    buffers, done, short = [mmap.mmap(-1, BLOCK_BYTES)], 0, 0
    fd = os.open(os.path.join(job["root"], job["paths"][0]), os.O_RDONLY)
    generator, blocks = random.Random(job["seed"]), os.fstat(fd).st_size // BLOCK_BYTES
    offsets = [generator.randrange(blocks) * BLOCK_BYTES for _ in range(job["count"])]
    preadv, begin = os.preadv, time.perf_counter()
    least, most = begin + job["minimum_seconds"], begin + job["maximum_seconds"]
    while True:
        for start in range(0, len(offsets), BATCH):
            for offset in offsets[start : start + BATCH]:
                short += preadv(fd, buffers, offset) != BLOCK_BYTES
                done += 1
            now = time.perf_counter()
            if now > most:
                break
        if now >= least:
            break
    os.close(fd)
    if short:
        raise RuntimeError(f"{short} short reads")
    return {"amount": done, "seconds": now - begin, "finished": now <= most}


def _small(job: dict[str, Any]) -> dict[str, Any]:
    buffers, done, total = [mmap.mmap(-1, BUFFER_BYTES)], 0, 0
    paths = [os.path.join(job["root"], path) for path in job["paths"]]
    random.Random(job["seed"]).shuffle(paths)
    begin = time.perf_counter()
    least, most = begin + job["minimum_seconds"], begin + job["maximum_seconds"]
    while True:
        for path in paths:
            fd = os.open(path, os.O_RDONLY)
            while count := os.readv(fd, buffers):
                total += count
            os.close(fd)
            done += 1
            now = time.perf_counter()
            if now > most:
                break
        if now >= least:
            break
    if total != done * job["file_bytes"]:
        raise RuntimeError(f"{total} bytes in {done} files")
    return {"amount": done, "seconds": now - begin, "finished": now <= most}


def _read_until(path: str, most: float, turns: int) -> tuple[int, float, float]:
    """Reads one file `turns` times, or again and again (0), until the clock says `most`."""
    buffers, total, begin = [mmap.mmap(-1, BUFFER_BYTES)], 0, time.perf_counter()
    while True:
        fd = os.open(path, os.O_RDONLY)
        while count := os.readv(fd, buffers):
            total += count
            if time.perf_counter() > most:
                break
        os.close(fd)
        turns -= 1
        now = time.perf_counter()
        if now > most or turns == 0:
            return total, begin, now


def _parallel(job: dict[str, Any]) -> dict[str, Any]:
    """One process a path. The clock is that of the machine, so their times can be compared."""
    start_read, start_write = os.pipe()
    answers: list[int] = []
    for path in job["paths"]:
        answer_read, answer_write = os.pipe()
        if os.fork() == 0:
            os.close(start_write)
            os.read(start_read, 1)
            most = time.perf_counter() + job["maximum_seconds"]
            found = _read_until(os.path.join(job["root"], path), most, job["turns"])
            os.write(answer_write, json.dumps(found).encode())
            os._exit(0)
        os.close(answer_write)
        answers.append(answer_read)
    os.close(start_read)
    os.close(start_write)  # the end of the pipe is the start signal
    results = []
    for fd in answers:
        with os.fdopen(fd, "rb") as stream:
            results.append(json.loads(stream.read()))
    for _ in job["paths"]:
        _, status = os.wait()
        if status:
            raise RuntimeError(f"a reader ended with {status}")
    begin, end = min(r[1] for r in results), max(r[2] for r in results)
    return {"amount": sum(r[0] for r in results), "seconds": end - begin, "finished": True}


def _digest(job: dict[str, Any]) -> dict[str, Any]:
    buffer, whole, total = mmap.mmap(-1, BUFFER_BYTES), hashlib.sha256(), 0
    view, begin = memoryview(buffer), time.perf_counter()
    for path in job["paths"]:
        fd = os.open(os.path.join(job["root"], path), os.O_RDONLY)
        while count := os.readv(fd, [buffer]):
            whole.update(view[:count])
            total += count
        os.close(fd)
    seconds = time.perf_counter() - begin
    return {"amount": total, "seconds": seconds, "finished": True, "digest": whole.hexdigest()}


KINDS = {
    "sequential": _sequential,
    "random": _random,
    "small": _small,
    "parallel": _parallel,
    "digest": _digest,
}


def _used() -> tuple[float, float]:
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(item.ru_utime for item in both), sum(item.ru_stime for item in both)


def main() -> None:
    """Does the job on stdin; the processor seconds are of this process and its children."""
    job = json.load(sys.stdin)
    gc.disable()
    user, system = _used()
    result = KINDS[job["kind"]](job)
    user_after, system_after = _used()
    result["user_seconds"] = user_after - user
    result["system_seconds"] = system_after - system
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
