"""A mount plug-in, or an engine, from outside: run, read through, killed, refused and stopped."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from fluidpy.api.dataset import Dataset
from fluidpy.control import linux_processes as linux
from fluidpy.control.kept_process import KeptProcess
from fluidpy.control.process_order import LOG_FILE, ProcessOrder, ProcessState
from fluidpy.control.process_supervisor import MARK_VARIABLE
from fluidpy.control.runtime_commands import run_command
from fluidpy.control.runtime_keeper import order_of, write_files
from fluidpy.errors import FluidpyError, SourceError
from fluidpy.fuse.mount_probe import probe
from fluidpy.namespace.definition import MountDefinition
from fluidpy.runtime.discovery import Plugin, driver_of
from fluidpy.runtime.driver import RuntimePlace, RuntimeRequest
from fluidpy.runtime.installing import record_of
from fluidpy.settings import load_settings
from fluidpy.storage.factory import open_storage
from fluidpy.storage.local_files import SETTLED_NS
from fluidpy.storage.under_storage import MountSource
from fluidpy.testing.conformance.bed import TestBed
from fluidpy.testing.conformance.mount_cures import cure_of
from fluidpy.testing.conformance.report import Outcome, Result
from fluidpy.testing.conformance.storage_clauses import (
    CLAUSES,
    AllowedError,
    BrokenPromiseError,
    Clause,
    NothingToTestError,
)
from fluidpy.testing.conformance.worker_clauses import INSIDE, declared, served_by_a_worker
from fluidpy.testing.sample_tree import TREE

CALL_SECONDS: Final = 10.0
"""How long one call of the file system may take here; the store lies on this machine, which may be
busy: a folder of thousands of files took 4 s through sshfs beside other work."""
CLAUSE_SECONDS: Final = 60.0
READY_SECONDS: Final = 40.0
"""The mount has to be there by then, however long the manifest allows."""
REFUSED_SECONDS: Final = 8.0
BACK_SECONDS: Final = 40.0
STAYS_SECONDS: Final = 1.0

MOUNTS: Final = "the program mounts where it is told, as the declared type, and answers"
STAYS: Final = "the program stays in the foreground"
BACK: Final = "a program that was killed is back, and no reader gets wrong bytes"
LEAKS: Final = "no secret is printed, or shown in a list of processes"
STOPS: Final = "the program ends when it is told to"
NOTHING_LEFT: Final = "no process and no mount is left"
REFUSES: Final = "a wrong secret is refused"
HANGING_CURE: Final = "Give each request of the store a time limit, and answer EIO after it."


def check_mount_plugin(plugin: Plugin, bed: TestBed, scratch: Path) -> Iterator[Outcome]:
    """Every clause, as it is tried."""
    bed.put(TREE)
    run = _Run(plugin, bed, scratch / "mounted", READY_SECONDS)
    try:
        began = time.monotonic()
        failure = run.await_ready()
        yield _said(MOUNTS, failure, seconds=time.monotonic() - began)
        if not failure:
            yield _said(STAYS, run.await_loss(STAYS_SECONDS))
            yield from asyncio.run(_clauses(run.source, bed))
            yield from _served(plugin, run, bed, scratch)
            yield _back(run)
        yield _leaks(run, bed)
        if not failure:
            yield _stops(run)
    finally:
        run.end()
    outcome = _nothing_left(run)
    linux.unmount_below(str(run.directory))  # what is removed soon must not be the store
    yield outcome
    if not failure:
        yield _refuses(plugin, bed, scratch / "refused")


@dataclass(slots=True)
class _Run:
    """The plug-in's program with the bed's store, in a directory of its own."""

    plugin: Plugin
    bed: TestBed
    directory: Path
    ready_seconds: float
    source: MountSource = field(init=False)
    process: KeptProcess = field(init=False)
    _order: ProcessOrder = field(init=False)

    def __post_init__(self) -> None:
        place = RuntimePlace(
            self.directory / "work", self.directory / "mount" / "fuse", self.directory / "cache"
        )
        driver = driver_of(self.plugin)
        plan = driver.prepare(_request(self.bed, place))
        desired = driver.desired(plan)
        for directory in desired.directories:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for command in desired.commands:
            write_files(command.files)
            asyncio.run(run_command(command))
        kept = desired.processes[0]
        write_files(kept.command.files)
        order = order_of(kept)
        ready = min(order.ready_seconds, self.ready_seconds)
        self._order = replace(order, ready_seconds=ready)
        self.source = driver.mount(plan)[0].source
        self.process = KeptProcess(self.directory / "process")
        self.process.begin(self._order)

    def await_ready(self) -> str:
        """Empty once the mount is there; else what the supervisor says."""
        limit = time.monotonic() + self.ready_seconds + 5
        while not (seen := self.process.seen()).ready:
            if seen.failure or time.monotonic() > limit:
                return seen.failure or "nothing was mounted"
            time.sleep(0.02)  # a file tells, which changes without a word
        return ""

    def await_loss(self, seconds: float) -> str:
        """Empty if it is ready all the time; else what became of it."""
        limit = time.monotonic() + seconds
        while time.monotonic() < limit:
            state = self.process.state()
            if state is not None and state.restarts:
                return self.last_note()
            time.sleep(0.02)
        return ""

    def last_note(self) -> str:
        """What the supervisor has written last."""
        log = (self.process.directory / LOG_FILE).read_text(errors="replace")
        notes = [
            line.partition(" fluidpy: ")[2] for line in log.splitlines() if " fluidpy: " in line
        ]
        return notes[-1] if notes else "it ended"

    def pids(self) -> list[int]:
        """The processes of the program."""
        return linux.processes_with(MARK_VARIABLE, str(self.process.directory))

    def end(self) -> ProcessState | None:
        """Ends it; what was seen of it last."""
        return self.process.end()


def _request(bed: TestBed, place: RuntimePlace) -> RuntimeRequest:
    """The Dataset of the bed as a control plane would ask for it."""
    values = declared(bed)["items"][0]
    secrets = {("test-secret", name): value for name, value in bed.secrets.items()}
    return RuntimeRequest(
        Dataset.model_validate(values),
        (MountDefinition("data", "/", bed.source()),),
        place,
        secrets=secrets,
    )


def _said(clause: str, failure: str, *, seconds: float = 0.0, cure: str = "") -> Outcome:
    """The outcome of what failed in words that end with a cure of their own."""
    if not failure:
        return Outcome(clause, Result.PASSED, seconds=seconds)
    what, _, then = failure.partition(". ")
    return Outcome(clause, Result.FAILED, what, cure or then, seconds)


async def _clauses(source: MountSource, bed: TestBed) -> list[Outcome]:
    """What storage plug-ins have to do, too, tried on what is mounted."""
    options = {**source.options, "retries": "0", "deadline_seconds": str(CALL_SECONDS)}
    storage = open_storage(replace(source, options=options), load_settings())
    outcomes = []
    try:
        for clause in CLAUSES:
            began = time.monotonic()
            outcome = await _outcome(clause, lambda c=clause: c.check(storage, bed))  # type: ignore[misc]  # bound at once
            outcomes.append(replace(outcome, seconds=time.monotonic() - began))
            if outcome.cure == HANGING_CURE:
                break  # its threads hang as well
    finally:
        await storage.close()
    return outcomes


async def _outcome(clause: Clause, check: Callable[[], object]) -> Outcome:
    cure = cure_of(clause)
    try:
        async with asyncio.timeout(CLAUSE_SECONDS):
            said = await check()  # type: ignore[misc]  # a coroutine
    except BrokenPromiseError as error:
        return Outcome(clause.promise, Result.FAILED, str(error), cure)
    except NothingToTestError as error:
        return Outcome(clause.promise, Result.LEFT_OUT, str(error))
    except AllowedError as error:
        return Outcome(clause.promise, Result.WARNED, str(error), cure)
    except TimeoutError as error:
        said = error.message if isinstance(error, FluidpyError) else "a call did not return"
        return Outcome(clause.promise, Result.FAILED, said, HANGING_CURE)
    except FluidpyError as error:
        return Outcome(clause.promise, Result.FAILED, error.message, cure)
    return Outcome(clause.promise, Result.PASSED, str(said))


def _served(plugin: Plugin, run: _Run, bed: TestBed, scratch: Path) -> Iterator[Outcome]:
    """Through a real worker, whose cache lies in front of the mount."""
    # A file that changed a moment ago is not kept; what is awaited is the passing of time itself.
    time.sleep(SETTLED_NS / 1e9 + 0.2)
    mounted = replace(
        bed, mount_point=run.source.url, options=dict(run.source.options), secrets={}, refused={}
    )
    for outcome in served_by_a_worker(record_of(plugin.manifest), mounted, scratch / "served"):
        if outcome.clause != INSIDE:
            yield outcome


def _back(run: _Run) -> Outcome:
    """SIGKILL, while somebody reads."""
    began = time.monotonic()
    state = run.process.state()
    if state is not None and state.client:
        with contextlib.suppress(ProcessLookupError):
            os.kill(state.client, signal.SIGKILL)
    said = asyncio.run(_read_until_back(run))
    cure = "Keep nothing from one start to the next that keeps the program from mounting again."
    return _said(BACK, said, seconds=time.monotonic() - began, cure=cure)


async def _read_until_back(run: _Run) -> str:
    options = {**run.source.options, "retries": "0", "deadline_seconds": str(CALL_SECONDS)}
    storage = open_storage(replace(run.source, options=options), load_settings())
    limit = time.monotonic() + BACK_SECONDS
    content, last = TREE["train/0001.jpg"], "it is not mounted"
    try:
        while time.monotonic() < limit:
            try:
                got = bytes(await storage.read("train/0001.jpg", 0, len(content), b""))
            except SourceError as error:
                last = error.message
                await asyncio.sleep(0.05)  # the mount comes back without a word
                continue
            if got != content:
                return "a reader got wrong bytes while the program was away"
            seen = run.process.seen()
            if seen.ready and seen.restarts:
                return ""
            await asyncio.sleep(0.02)
    finally:
        await storage.close()
    return f"{BACK_SECONDS:g} s after the program was killed nothing can be read: {last}"


def _leaks(run: _Run, bed: TestBed) -> Outcome:
    secrets = [secret for secret in bed.all_secrets if len(secret) >= 4]
    if not secrets:
        return Outcome(LEAKS, Result.LEFT_OUT, "the manifest names no secrets to test with")
    state = run.process.state()
    if state is not None and state.hidden:
        said = f"a secret of the mount was printed {state.hidden} times (its log shows *** there)"
        return Outcome(LEAKS, Result.FAILED, said, "Print neither options nor whole requests.")
    for pid in run.pids():
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
            if any(secret.encode() in words for secret in secrets):
                name = Path(f"/proc/{pid}/comm").read_text().strip()
                said = f"a secret stands in the arguments of {name}, which all users can see (ps)"
                cure = "Hand the program the path of the secret's file: {secretFile.NAME}."
                return Outcome(LEAKS, Result.FAILED, said, cure)
    return Outcome(LEAKS, Result.PASSED)


def _stops(run: _Run) -> Outcome:
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as aside:
        log = Path(aside) / "log"
        with contextlib.suppress(OSError):
            os.link(run.process.directory / LOG_FILE, log)
        state = run.end()
        seconds = time.monotonic() - began
        if state is not None and state.killed:
            notes = log.read_text(errors="replace").splitlines() if log.exists() else []
            return _said(STOPS, notes[-1].partition(" fluidpy: ")[2], seconds=seconds)
    return Outcome(STOPS, Result.PASSED, seconds=seconds)


def _nothing_left(run: _Run) -> Outcome:
    mounts = [m for m in linux.mount_table() if m.mount_point.startswith(f"{run.directory}/")]
    if mounts:
        said, cure = f"{mounts[0].mount_point} is still mounted", "Unmount {target} at the end."
        return Outcome(NOTHING_LEFT, Result.FAILED, said, cure)
    if pids := run.pids():
        said, cure = f"process {pids[0]} goes on", "End what the program has started with it."
        return Outcome(NOTHING_LEFT, Result.FAILED, said, cure)
    return Outcome(NOTHING_LEFT, Result.PASSED)


def _refuses(plugin: Plugin, bed: TestBed, directory: Path) -> Outcome:
    """With the secrets of `refused` nothing is read."""
    if not bed.refused:
        return Outcome(REFUSES, Result.LEFT_OUT, "the manifest names no secrets to be refused")
    began = time.monotonic()
    wrong = replace(bed, secrets={**bed.secrets, **bed.refused})
    run = _Run(plugin, wrong, directory, REFUSED_SECONDS)
    try:
        if not run.await_ready():
            path = Path(run.source.url.partition("://")[2]) / "top.bin"
            if _is_read(path):
                said = "a file was read with a wrong secret"
                cure = "Check the secret before mounting, and end with another status than 0."
                return Outcome(REFUSES, Result.FAILED, said, cure, time.monotonic() - began)
    finally:
        run.end()
    return Outcome(REFUSES, Result.PASSED, seconds=time.monotonic() - began)


def _is_read(path: Path) -> bool:
    """Whether a file is read in time: a client that hangs instead gives nothing away."""
    # A read that hangs ends with the mount, when the client is told to end.
    return probe(path.read_bytes, REFUSED_SECONDS) is None
