"""`find` with a `stat` of each of a million files, the first time and the second."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from benchmarks.mount.names import NAME_BYTES, Names
from benchmarks.mount.promises import Promise
from benchmarks.mount.reading import Drop, Sample, cpu_seconds, drop
from benchmarks.mount.rounds import Outcome, Series, outcome, take_rounds
from benchmarks.mount.system import Mounted

LIMIT_SECONDS = 90.0
"""A system that needs longer is stopped, reported as such and not asked again."""
PEER_SECONDS = 60.0
"""A peer that took so long in all is not asked again; others take part in all rounds."""
FIRST_TIME = Promise(ahead_of_peers=True)
SECOND_TIME = Promise(at_least=0.5, ahead_of_peers=True)
"""What fluidpy promises in any mode."""


def find(directory: Path, pids: list[int], limit_seconds: float) -> Sample:
    """Runs `find DIR -type f -printf '%s\\n'`, which asks for the attributes of each file.

    Raises RuntimeError when it fails or a size is wrong; a run over its limit is not finished.
    """
    before, begin = cpu_seconds(pids), time.perf_counter()
    process = subprocess.Popen(
        ["find", str(directory), "-type", "f", "-printf", "%s\\n"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        lines, wrong, finished = _count(process, begin + limit_seconds)
        seconds = time.perf_counter() - begin
    finally:
        os.kill(process.pid, signal.SIGKILL)  # ended or not, it is not waited for yet
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    said = process.stderr.read().decode() if process.stderr else ""
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()
    if said or wrong:
        raise RuntimeError(f"find: {wrong} wrong sizes; {said.strip()[-300:]}")
    cpu = cpu_seconds(pids) - before
    return Sample(max(lines, 1), seconds, used.ru_utime, used.ru_stime, cpu, finished=finished)


def _count(process: subprocess.Popen[bytes], limit: float) -> tuple[int, int, bool]:
    """Lines, lines of another size than expected, whether the end came before the limit."""
    assert process.stdout is not None
    fd, expected, rest = process.stdout.fileno(), b"%d\n" % NAME_BYTES, b""
    lines = right = 0
    with selectors.DefaultSelector() as selector:
        selector.register(fd, selectors.EVENT_READ)
        while True:
            left = limit - time.perf_counter()
            if left <= 0 or not selector.select(left):
                return lines, lines - right, False
            data = os.read(fd, 65536)
            if not data:
                return lines, lines - right, True
            whole, newline, rest = (rest + data).rpartition(b"\n")
            lines += whole.count(b"\n") + len(newline)
            right += (whole + newline).count(expected)


def run(
    names: Names,
    systems: Mapping[str, Mounted],
    failures: Mapping[str, str],
    rounds: int,
    requests: Callable[[], int],
    talk: Callable[[str], None],
) -> list[Outcome]:
    """First time: the kernel has nothing of the tree. Second time: at once after the first.

    A system that does not finish within its limit takes part no more.
    """
    title = f"find + stat of {names.count:,} files"
    talk(title)
    second: dict[str, list[Sample]] = {name: [] for name in systems}

    def scan(mounted: Mounted) -> Sample:
        before = requests()
        sample = find(mounted.directory, mounted.pids(), LIMIT_SECONDS)
        if sample.finished and sample.amount != names.count:
            raise RuntimeError(f"find saw {sample.amount:,} of {names.count:,} files")
        return replace(sample, source_requests=requests() - before)

    def take(name: str) -> Sample:
        drop(Drop.PAGES_NAMES_INODES)
        sample = scan(systems[name])
        talk(f"{name}, first time: {sample.seconds:.1f} s")
        if sample.finished:
            second[name].append(scan(systems[name]))
            talk(f"{name}, second time: {second[name][-1].seconds:.1f} s")
        return sample

    takes = {name: (lambda _number, name=name: take(name)) for name in systems}
    slow = {name: PEER_SECONDS for name in systems if name != "plain" and "fluidpy" not in name}
    first = take_rounds(takes, rounds, talk, seconds_of=slow, end_unfinished=True)
    lost = [Series(name, [], failure) for name, failure in failures.items()]
    again = [Series(s.system, second[s.system], _why_not(s)) for s in first]
    ours = [name for name in systems if name.startswith("fluidpy")]

    def found(name: str, which: str, series: list[Series], promise: Promise) -> Outcome:
        promises = dict.fromkeys(ours, promise)
        return outcome(name, f"{title}, {which} time", "files/s", 1.0, series, promises)

    return [
        found("find-first", "first", [*first, *lost], FIRST_TIME),
        found("find-second", "second", [*again, *lost], SECOND_TIME),
    ]


def _why_not(first: Series) -> str:
    if first.failure or not first.samples or first.samples[-1].finished:
        return first.failure
    return f"did not finish the first time in {LIMIT_SECONDS:g} s"
