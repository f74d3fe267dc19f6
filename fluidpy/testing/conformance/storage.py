"""A storage plug-in from outside: its code runs in processes that may hang, leak or be killed."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from fluidpy.storage.plugins import InstalledPlugin
from fluidpy.testing.conformance.bed import TestBed, await_killed
from fluidpy.testing.conformance.report import Outcome, Result
from fluidpy.testing.conformance.storage_process import HANGING_CURE, LOADING
from fluidpy.testing.conformance.worker_clauses import served_by_a_worker
from fluidpy.testing.sample_tree import TREE

SILENCE_SECONDS = 25.0
"""A process that says nothing for so long hangs; each clause ends itself before."""
SHOWN: Final = 80

STDOUT: Final = "nothing is written to standard output"
LEAKS: Final = "no secret is printed or logged"
LOG_CURE: Final = "Log neither secrets nor whole requests."
SAME: Final = "another process, after a kill, sees the same versions"


@dataclass(slots=True)
class Watched:
    """A run of the process under test, and what it left behind."""

    lines: list[dict[str, Any]] = field(default_factory=list)
    status: int | None = None
    """None for one that hung and was killed."""
    stdout: bytes = b""
    stderr: bytes = b""

    def outcomes(self) -> list[Outcome]:
        """What it said came of its clauses."""
        return [Outcome.from_wire(line["outcome"]) for line in self.lines if "outcome" in line]

    def unfinished(self) -> str:
        """The clause that it had begun when it ended."""
        begun = [line["begins"] for line in self.lines if "begins" in line]
        return begun[-1] if len(begun) > len(self.outcomes()) else ""


def check_storage_plugin(
    plugin: InstalledPlugin, place: Path, bed: TestBed, scratch: Path
) -> Iterator[Outcome]:
    """Every clause, as it is tried. `place` is where the plug-in is installed for the test."""
    bed.put(TREE)
    run = _Runs(plugin, place, bed, scratch)
    first = run.watch("clauses")
    yield from first.outcomes()
    if (broken := _ended_early(first)) is not None:
        yield broken
    yield _stdout(first)
    yield _leaks(first, bed)
    if any(one.clause == LOADING and one.result is Result.FAILED for one in first.outcomes()):
        return
    if any(one.cure == HANGING_CURE for one in first.outcomes()):
        return
    if first.status == 0:
        yield _same_versions(run)
        yield from served_by_a_worker(plugin, bed, scratch / "served")


class _Runs:
    """Starts the process under test with one order or another."""

    def __init__(self, plugin: InstalledPlugin, place: Path, bed: TestBed, scratch: Path) -> None:
        self._order = {"plugin": plugin.to_record(), "place": str(place)}
        self._bed, self._scratch = bed, scratch

    def watch(self, task: str, *, kill_when: str = "") -> Watched:
        """Runs it to its end, or kills it: when it hangs, or once it said `kill_when`."""
        out, err = self._scratch / "stdout", self._scratch / "stderr"
        ours, theirs = os.pipe()
        order = {**self._order, "task": task, "bed": self._bed.to_wire()}
        with out.open("wb") as stdout, err.open("wb") as stderr, open(ours, "rb") as pipe:
            process = subprocess.Popen(
                [sys.executable, "-m", "fluidpy.testing.conformance.storage_process", str(theirs)],
                stdin=subprocess.PIPE,
                stdout=stdout,
                stderr=stderr,
                pass_fds=(theirs,),
            )
            os.close(theirs)
            try:
                _send(process, order)
                watched = _follow(process, pipe.fileno(), kill_when)
            finally:
                process.kill()
                await_killed(process, f"the process that runs {task!r}")
        watched.stdout, watched.stderr = out.read_bytes(), err.read_bytes()
        return watched


def _send(process: subprocess.Popen[bytes], order: dict[str, Any]) -> None:
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError), process.stdin:
        process.stdin.write(json.dumps(order).encode())


def _follow(process: subprocess.Popen[bytes], fd: int, kill_when: str) -> Watched:
    watched, rest = Watched(), b""
    while True:
        if not select.select([fd], [], [], SILENCE_SECONDS)[0]:
            return watched
        piece = os.read(fd, 65536)
        *whole, rest = (rest + piece).split(b"\n")
        watched.lines += [json.loads(line) for line in whole]
        if kill_when and any(kill_when in line for line in watched.lines):
            return watched
        if not piece:
            break
    with contextlib.suppress(subprocess.TimeoutExpired):
        watched.status = process.wait(timeout=SILENCE_SECONDS)
    return watched


def _ended_early(run: Watched) -> Outcome | None:
    """What to say of a process that hung, or ended other than by coming to its end."""
    clause = run.unfinished() or "a process that used the plug-in ends"
    if run.status is None:
        said = f"nothing came for {SILENCE_SECONDS:g} s, and the call could not be given up"
        return Outcome(clause, Result.FAILED, said, HANGING_CURE)
    if run.status == 0 and not run.unfinished():
        return None
    last = run.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or ["it said nothing"]
    said = f"the process ended with status {run.status}: {last[0]}"
    return Outcome(clause, Result.FAILED, said, "Raise an exception; never end the process.")


def _stdout(run: Watched) -> Outcome:
    if not run.stdout:
        return Outcome(STDOUT, Result.PASSED)
    text = run.stdout.decode("utf-8", "replace").strip().splitlines()
    said = f"{len(run.stdout)} bytes were written, first: {(text or [''])[0][:SHOWN]}"
    return Outcome(STDOUT, Result.FAILED, said, "Use logging.getLogger(__name__) and not print.")


def _leaks(run: Watched, bed: TestBed) -> Outcome:
    secrets = [secret for secret in bed.all_secrets if len(secret) >= 4]
    if not secrets:
        return Outcome(LEAKS, Result.LEFT_OUT, "the manifest names no secrets to test with")
    for where, text in (("standard output", run.stdout), ("standard error", run.stderr)):
        for secret in secrets:
            if secret.encode() in text:
                said = f"a secret of the mount stands on {where}"
                return Outcome(
                    LEAKS, Result.FAILED, said, "Log neither secrets nor whole requests."
                )
    for line in run.lines:
        if any(secret in json.dumps(line, ensure_ascii=False) for secret in secrets):
            said = "an error of the plug-in repeats a secret of the mount"
            return Outcome(LEAKS, Result.FAILED, said, "Leave it out of what is raised.")
    return Outcome(LEAKS, Result.PASSED)


def _same_versions(run: _Runs) -> Outcome:
    began = time.monotonic()
    cure = (
        "Make versions of what the store says; never of id(), hash() of a text, or the time the "
        "process began."
    )
    before = _fingerprint(run.watch("fingerprint"))
    run.watch("reading", kill_when="reading")
    after = _fingerprint(run.watch("fingerprint"))
    seconds = time.monotonic() - began
    if not before or not after:
        return Outcome(SAME, Result.FAILED, "a second process could not read", cure, seconds)
    for name, value in before.items():
        if after.get(name) != value:
            said = f"{name} is another version in another process: nothing would stay cached"
            return Outcome(SAME, Result.FAILED, said, cure, seconds)
    return Outcome(SAME, Result.PASSED, seconds=seconds)


def _fingerprint(run: Watched) -> dict[str, str]:
    found = [line["fingerprint"] for line in run.lines if "fingerprint" in line]
    return found[-1] if found else {}
