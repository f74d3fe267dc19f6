"""A mounted Dataset whose source changes, whose cache is small, and which many processes read."""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fluidpy.cache.tier import TierDefinition
from fluidpy.cli.attachment import ask
from fluidpy.client.session import DatasetSession
from fluidpy.fuse.mount_record import MountRecord, log_path
from fluidpy.fuse.mounting import list_mounts
from fluidpy.namespace.definition import DatasetDefinition, MountDefinition
from fluidpy.storage.under_storage import MountSource
from fluidpy.testing.servers.object_server import ObjectServer, object_server
from tests.chaos.latency import describe, worst
from tests.chaos.reader import GRACE_SECONDS, NEW_FOLDER
from tests.chaos.versioned_content import CHANGING_FILES, Ledger, content, shared_names
from tests.fuse.conftest import ON_OVERLAY, overlay
from tests.fuse.passed_through import is_passed_through
from tests.model.place import KIB, Place, new_place, until

QUOTA_BYTES = 5 * 1024 * KIB
"""About two thirds of the shared files: what is read pushes out what was read."""
BUCKET = "chaos"
READERS = ("files", "files", "mapped", "cold", "tar", "pulse")
HOPS = 5
"""Processes that a cold read passes: reader, old and new server, worker, source. A busy machine may
stall each of them once."""
QUIET_STALL_SECONDS = 0.1
"""A machine that kept nobody waiting for longer excuses nothing."""
ROOT = Path(__file__).parents[2]


@dataclass
class Bed:
    """The Dataset `chaos` over a bucket in memory; its cache lies on a disk of its own for root."""

    place: Place
    server: ObjectServer
    definition: DatasetDefinition
    session: DatasetSession
    ledger: Ledger
    names: list[str]
    tier: Path
    own_disk: bool
    new_names: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def top(self) -> Path:
        return self.place.mount_point

    @property
    def record(self) -> MountRecord:
        """The record as it is now: a restart changes it."""
        (record,) = list_mounts(self.place.settings)
        return record

    def ask(self, operation: str, **fields: Any) -> dict[str, Any]:
        return ask(self.session, operation, deadline=60.0, **fields)

    def sync(self, folder: str) -> None:
        """A metadata sync of a folder."""
        self.session.entry(folder, refresh=True)

    # -- what the source and its keeper do -------------------------------------------------------

    def change(self, name: str) -> None:
        """The source gets a new version, and a metadata sync sees it."""
        version = self.ledger.begin(name)
        self.server.put(BUCKET, name, content(name, version))
        self.sync(name)
        self.ledger.settle(name)

    def add(self) -> None:
        """A new file."""
        name = f"{NEW_FOLDER}/{next(self.new_names):05}"
        self.server.put(BUCKET, name, content(name, 1))
        self.sync(NEW_FOLDER)

    def evict(self, path: str) -> int:
        """How many files left the cache."""
        return int(self.ask("evict", path=path)["objects"])

    # -- what must hold --------------------------------------------------------------------------

    def wrong_files(self) -> list[str]:
        """Shared files that the mount does not show in their newest version."""
        wrong = []
        for name in self.names:
            try:
                data = (self.top / name).read_bytes()
            except OSError as error:
                wrong.append(f"{name}: {error!r}")
                continue
            if data != content(name, self.ledger.newest(name)):
                wrong.append(f"{name}: not version {self.ledger.newest(name)}")
        return wrong

    def passes_through(self, chance: random.Random, patience: float) -> bool:
        """Whether the kernel reads some file by itself, and rightly; under load a try may fail."""
        name = chance.choice(self.names[:-CHANGING_FILES])
        wanted = content(name, 1)
        assert (self.top / name).read_bytes() == wanted  # the cache has all of it
        return is_passed_through(self.top / name, wanted, self.record.server_pid, patience)

    def held_bytes(self) -> int:
        """Bytes of the cache's disk that no file in it accounts for: unlinked and held by someone.

        On a shared disk: what processes of this place hold; a backing id of the kernel is not seen.
        """
        if self.own_disk:
            status = os.statvfs(self.tier.parent)
            used = (status.f_blocks - status.f_bfree) * status.f_frsize
            return used - _disk_usage(self.tier.parent)
        return sum(_deleted_bytes(pid) for pid in self.place.processes())

    def fds(self) -> dict[str, Counter[str]]:
        """What the processes of the mount and the worker have open, by process."""
        found: dict[str, Counter[str]] = {}
        for pid, command in self.place.processes().items():
            match = re.search(r"fluidpy\.?(fuse\.\w+|worker)|fluidpy worker", command)
            name = match.group(0) if match else command
            found.setdefault(name, Counter()).update(_open_files(pid))
        return found

    def settled(self, *, new_server: bool = False) -> dict[str, Counter[str]]:
        """Empties the cache, waits until nothing of it is held; what is open then.

        A server keeps closed files a while; a `new_server` has none.
        """
        if new_server:
            before = self.record.server_pid
            os.kill(before, signal.SIGKILL)
            assert until(lambda: self.record.server_pid != before)
        self.evict("")
        held = 0

        def idle() -> bool:
            nonlocal held
            held = self.held_bytes()
            return held == 0

        assert until(idle, 60), f"{held} bytes of evicted files are still held"
        assert until(self._spare_waits)
        return self.fds()

    def _spare_waits(self) -> bool:
        """Whether there are a server and the next spare, which is made after a server was replaced,
        late on a busy machine, and only then opens what it has while it waits.
        """
        fds = self.fds()
        spare = fds.get("fluidpy.fuse.spare", Counter())
        opened = any(path.endswith(".sqlite") for path in spare)
        return "fluidpy.fuse.server" in fds and "anon_inode:[eventpoll]" in spare and opened


def _disk_usage(directory: Path) -> int:
    total = 0
    for path in directory.rglob("*"):
        if path.is_file():
            total += path.stat().st_blocks * 512
    return total


def _open_files(pid: int) -> Iterator[str]:
    """What a process has open, without numbers; connections to sources come and go, and are not."""
    directory = f"/proc/{pid}/fd"
    local = {line.split()[6] for line in Path("/proc/net/unix").read_text().splitlines()[1:]}
    for name in os.listdir(directory):
        try:
            target = os.readlink(f"{directory}/{name}")
        except FileNotFoundError:
            continue
        if not target.startswith("socket:") or target[8:-1] in local:
            yield re.sub(r"\d+", "N", target)


def _deleted_bytes(pid: int) -> int:
    total = 0
    directory = f"/proc/{pid}/fd"
    for name in os.listdir(directory):
        try:
            if "/objects/" in (path := os.readlink(f"{directory}/{name}")) and "(deleted)" in path:
                total += os.stat(f"{directory}/{name}").st_blocks * 512
        except FileNotFoundError:
            continue
    return total


@contextmanager
def new_bed(
    *, quota_bytes: int = QUOTA_BYTES, ttl: float = 300.0, mounted: bool = True, **mount: Any
) -> Iterator[Bed]:
    """A bed with its source filled; `mount` are keywords of `Place.mount`."""
    names = shared_names()
    with object_server() as server, new_place(source_deadline_seconds=10.0) as place:
        for name in names:
            server.put(BUCKET, name, content(name, 1))
        server.put(BUCKET, f"{NEW_FOLDER}/00000", content(f"{NEW_FOLDER}/00000", 1))
        options = {"endpoint": server.endpoint, "region": "us-east-1", "allow_http": "true"}
        options |= {"anonymous": "true", "path_style": "true"}
        source = MountSource(f"s3://{BUCKET}", "bucket", options)
        with _disk(place.base / "disk") as own_disk:
            definition = DatasetDefinition(
                name="chaos",
                namespace="default",
                mounts=(MountDefinition("bucket", "/", source),),
                tiers=(TierDefinition(str(place.base / "disk/tier"), quota_bytes),),
                metadata_ttl_seconds=ttl,
            )
            bed = Bed(
                place,
                server,
                definition,
                place.session(definition),
                Ledger(place.base / "ledger", names),
                names,
                place.base / "disk/tier",
                own_disk,
            )
            if mounted:
                place.mount(definition, **mount)
            try:
                yield bed
            finally:
                place.close()
                bed.ledger.close()


@contextmanager
def _disk(directory: Path) -> Iterator[bool]:
    """A disk of its own in memory, where one may be mounted; whether it is one.

    `FUSE_TESTS_DIRECTORY` may ask for an overlay, as `tests/fuse` does.
    """
    directory.mkdir()
    if os.geteuid() != 0:
        yield False
        return
    if ON_OVERLAY:
        with overlay(directory):
            yield True
        return
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256m", "none", directory], check=True)
    try:
        yield True
    finally:
        subprocess.run(["umount", "-l", directory], check=True)


# -- load ------------------------------------------------------------------------------------------


class Load:
    """Processes that read, and a thread that changes and evicts; reports come at the end."""

    def __init__(self, bed: Bed, seed: int, changes_a_second: float = 8.0) -> None:
        self.bed = bed
        self.seed = seed
        self.failures: list[str] = []
        self.reports: list[dict[str, Any]] = []
        self.done: Counter[str] = Counter()
        self._pause = 1 / changes_a_second
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._steer, daemon=True)
        self._readers: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Load:
        ledger = self.bed.place.base / "ledger"
        for number, kind in enumerate(READERS):
            words = [
                kind,
                os.fspath(self.bed.top),
                os.fspath(ledger),
                str(self.seed + 100 * number),
            ]
            self._readers.append(
                subprocess.Popen(
                    [sys.executable, "-m", "tests.chaos.reader", *words],
                    cwd=ROOT,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
        for reader in self._readers:
            assert reader.stdout is not None
            assert reader.stdout.readline() == "ready\n"
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(60)
        for reader in self._readers:
            try:
                out, _error = reader.communicate("", timeout=60)
                self.reports.append(json.loads(out))
            except subprocess.TimeoutExpired:
                self.failures.append(f"a reader hangs ({_where(reader.pid)})")
                reader.kill()
                reader.communicate()
            except ValueError:
                self.failures.append(f"a reader ended with {reader.returncode}")

    def _steer(self) -> None:
        chance = random.Random(self.seed)
        changed_at: dict[str, float] = {}
        while not self._ended.wait(chance.uniform(0, 2 * self._pause)):
            what = chance.choice(("change", "change", "evict", "evict", "add", "evict all"))
            name = chance.choice(self.bed.names)
            try:
                if what == "change":
                    name = chance.choice(self.bed.names[-CHANGING_FILES:])
                    if time.monotonic() - changed_at.get(name, 0.0) < GRACE_SECONDS + 1:
                        continue
                    self.bed.change(name)
                    changed_at[name] = time.monotonic()
                elif what == "add":
                    self.bed.add()
                else:
                    left = self.bed.evict(name if what == "evict" else "")
                    self.done["files evicted"] += left
            except OSError as error:
                self.failures.append(f"{what} of {name}: {error!r}")
                return
            self.done[what] += 1

    @property
    def stall(self) -> float:
        """The longest time, in seconds, that this machine kept an idle process waiting."""
        return max((r["stall"] for r in self.reports if r["kind"] == "pulse"), default=0.0)

    @property
    def restart_milliseconds(self) -> list[float]:
        """How long the mount was without a server, each time, as its log says."""
        log = log_path(self.bed.place.settings, self.bed.top).read_text(errors="replace")
        return [float(found) for found in re.findall(r"took over after ([\d.]+) ms", log)]

    def await_deeds(self, times: int) -> None:
        """Goes on until the source and the cache changed so often, and a new file came."""

        def enough() -> bool:
            evictions = self.done["evict"] + self.done["evict all"]
            changed = min(self.done["change"], evictions) >= times
            return changed and self.done["add"] > 0 and self.done["files evicted"] >= times

        assert until(lambda: bool(self.failures) or enough(), 120), self.done

    def text(self) -> str:
        """What was done and how long it took."""
        lines = [f"seed {self.seed}; source: {dict(self.done)}; stalls {self.stall:.3f} s"]
        lines += [f"{report['kind']}: {report['counts']}" for report in self.reports]
        if absences := self.restart_milliseconds:
            middle, longest = statistics.median(absences), max(absences)
            lines.append(
                f"{len(absences)} restarts took {middle:.1f} ms (median), {longest} (most)"
            )
        return "\n".join([*lines, describe(r["latencies"] for r in self.reports)])

    def check(self, bound: float) -> None:
        """No problem, every kind did its work, and nothing took longer than `bound` (seconds).

        Where the machine itself kept processes waiting, each of those on the way may add that.
        """
        print(self.text())
        problems = [p for report in self.reports for p in report["problems"]]
        assert not self.failures + problems, "\n".join([*self.failures, *problems, self.text()])
        assert all(r["counts"] for r in self.reports if r["kind"] != "pulse"), self.text()
        limit = limit_on(bound, self.stall)
        for operation, (seconds, name) in self.worst.items():
            assert seconds < limit, f"{operation} of {name}: {seconds} s\n{self.text()}"

    @property
    def worst(self) -> dict[str, tuple[float, str]]:
        """The longest operation of each kind: seconds, and of which file."""
        return worst(report["latencies"] for report in self.reports)


def limit_on(bound: float, stall: float) -> float:
    """What no operation may take on a machine that kept idle processes waiting so long."""
    return bound if stall < QUIET_STALL_SECONDS else bound + HOPS * stall


def _where(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stack").read_text().replace("\n", " ")
    except OSError:
        return "?"
