"""A process that reads a mount until its standard input ends, and checks every byte.

`python -m tests.chaos.reader KIND MOUNT LEDGER SEED`; prints a report as JSON. A process
of its own, since a page fault of a mapped file holds the interpreter that serves the source.
"""

from __future__ import annotations

import json
import mmap
import os
import random
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.chaos.latency import Latencies, Pulse
from tests.chaos.versioned_content import (
    CELL_BYTES,
    CHANGING_FILES,
    Ledger,
    content,
    full_cells,
    shared_names,
    size_of,
    version_in,
)

GRACE_SECONDS = 6.0
"""How long after a metadata sync a mount may still show what was there before."""
MOST_PROBLEMS = 20
HELD_FILES = 8
HELD_SECONDS = 1.5
PAUSE_SECONDS = 0.002
"""Between operations, so that the readers leave the machine some room."""
NEW_FOLDER = "new"


class SeenError(AssertionError):
    """Something that a reader must not see."""


class OpenFile:
    """A file that is open, and the version it was found to be of."""

    def __init__(self, reader: Reader, name: str) -> None:
        self.reader, self.name = reader, name
        self.version: int | None = None
        self.opened_at = time.monotonic()
        with reader.latencies.measure("open", name):
            self.fd = os.open(reader.top / name, os.O_RDONLY)
        self.size = os.fstat(self.fd).st_size

    def read(self, start: int, length: int) -> None:
        """Reads a range whose start is a cell's, and checks it. A stale handle may say so."""
        try:
            with self.reader.latencies.measure("read", self.name):
                data = os.pread(self.fd, length, start)
                while len(data) < min(length, self.size - start):
                    piece = os.pread(self.fd, length - len(data), start + len(data))
                    if not piece:
                        break
                    data += piece
        except OSError as error:
            self.reader.stale(self, error)
            return
        self.check(data, start, length)

    def check(self, data: bytes, start: int, length: int) -> None:
        found = version_in(data)
        if found is None:
            raise SeenError(f"{self.name} at {start}: {len(data)} bytes of no file: {data[:32]!r}")
        if self.version is None:
            self.reader.check_version(self, found)
            self.version = found
        if found != self.version:
            raise SeenError(f"{self.name} at {start}: version {found} after {self.version}")
        if self.size != size_of(self.name, found):
            raise SeenError(f"{self.name}: {self.size} bytes is not the size of version {found}")
        wanted = content(self.name, found)[start : start + length]
        if data != wanted:
            raise SeenError(
                f"{self.name}, version {found}, at {start}: {_difference(data, wanted)}"
            )

    def close(self) -> None:
        with self.reader.latencies.measure("close", self.name):
            os.close(self.fd)


def _difference(data: bytes, wanted: bytes) -> str:
    """Where bytes begin to be wrong, and whether they are the zeros of a hole."""
    if len(data) != len(wanted):
        return f"{len(data)} bytes instead of {len(wanted)}"
    first = next(i for i, (a, b) in enumerate(zip(data, wanted, strict=True)) if a != b)
    zeros = len(data) - first - len(data[first:].lstrip(b"\0"))
    return f"of {len(data)} bytes those from {first} are wrong, {zeros} of them zeros"


class Reader:
    """What one process does and sees."""

    def __init__(self, top: Path, ledger: Path, seed: int) -> None:
        self.top = top
        self.names = shared_names()
        self.ledger = Ledger(ledger, self.names)
        self.latencies = Latencies()
        self.seed = seed
        self.ended = threading.Event()
        self.problems: list[str] = []
        self.counts: dict[str, int] = {}
        self.seen: dict[str, int] = {}

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    def stale(self, file: OpenFile, error: OSError) -> None:
        """ESTALE of a version that is no longer there is right; all other errors are not."""
        changed = file.name in self.ledger and (
            self.ledger.changed_since(file.name, file.opened_at, GRACE_SECONDS)
            if file.version is None
            else self.ledger.newest(file.name) > file.version
        )
        if error.errno != 116 or not changed:
            raise SeenError(f"read of {file.name}, version {file.version}: {error!r}") from error
        self.count("stale")

    def check_version(self, file: OpenFile, found: int) -> None:
        """An open sees a version that the source has, not an older one than was settled."""
        if file.name not in self.ledger:
            newest = oldest = 1
        else:
            newest = self.ledger.newest(file.name)
            oldest = self.ledger.oldest_for_an_open(file.name, file.opened_at, GRACE_SECONDS)
        if not oldest <= found <= newest:
            raise SeenError(
                f"{file.name}: an open sees version {found}, and {oldest} to {newest} may be seen"
            )
        if found > 1:
            self.count("newer_versions")

    # -- kinds -----------------------------------------------------------------------------------

    def files(self, chance: random.Random) -> None:
        """Opens, reads and closes at random; some files are held a while and read again."""
        held: list[OpenFile] = []
        while not self.ended.is_set():
            if held and (chance.random() < 0.3 or len(held) >= HELD_FILES):
                file = held[chance.randrange(len(held))]
                self.some_cells(file, chance)
                if time.monotonic() - file.opened_at > HELD_SECONDS or len(held) >= HELD_FILES:
                    held.remove(file)
                    file.close()
                continue
            file = OpenFile(self, chance.choice(self.names))
            if chance.random() < 0.5:  # else its pages would be in the kernel for ever
                os.posix_fadvise(file.fd, 0, 0, os.POSIX_FADV_DONTNEED)
            if chance.random() < 0.5:
                file.read(0, file.size + CELL_BYTES)
            else:
                self.some_cells(file, chance)
            self.count("opened")
            if chance.random() < 0.3:
                held.append(file)
            else:
                file.close()
            time.sleep(PAUSE_SECONDS)
        for file in held:
            file.close()

    def some_cells(self, file: OpenFile, chance: random.Random) -> None:
        cells = full_cells(file.size)
        for _ in range(3):
            start = chance.randrange(cells) * CELL_BYTES
            file.read(start, chance.choice((64, CELL_BYTES, 5 * CELL_BYTES, 131_072)))

    def mapped(self, chance: random.Random) -> None:
        """Maps files that do not change (a page of a version that is gone is a SIGBUS)."""
        while not self.ended.is_set():
            file = OpenFile(self, chance.choice(self.names[:-CHANGING_FILES]))
            os.posix_fadvise(file.fd, 0, 0, os.POSIX_FADV_DONTNEED)
            with mmap.mmap(file.fd, 0, prot=mmap.PROT_READ) as view:
                for _ in range(6):
                    start = chance.randrange(full_cells(file.size)) * CELL_BYTES
                    with self.latencies.measure("page", file.name):
                        data = view[start : start + CELL_BYTES]
                    file.check(data, start, CELL_BYTES)
            file.close()
            self.count("mapped")
            time.sleep(PAUSE_SECONDS)

    def cold(self, _chance: random.Random) -> None:
        """Reads each new file once, soon after it is there."""
        known: set[str] = set()
        while not self.ended.wait(0.02):
            with self.latencies.measure("list", NEW_FOLDER):
                names = set(os.listdir(self.top / NEW_FOLDER)) - known
            for name in sorted(names):
                file = OpenFile(self, f"{NEW_FOLDER}/{name}")
                for start in range(0, file.size, 16 * CELL_BYTES):
                    file.read(start, 16 * CELL_BYTES)
                file.close()
                known.add(name)
                self.count("cold")

    def tar(self, _chance: random.Random) -> None:
        """`tar` of the whole tree; each member is timed as it comes, and then all are checked."""
        command = ["tar", "--create", "--file=-", "--blocking-factor=64", "."]
        while not self.ended.is_set():
            members: dict[str, bytes] = {}
            with tempfile.TemporaryFile("w+") as said:
                with subprocess.Popen(
                    command, cwd=self.top, stdout=subprocess.PIPE, stderr=said
                ) as run:
                    assert run.stdout is not None
                    with tarfile.open(fileobj=run.stdout, mode="r|") as archive:
                        begin = time.monotonic()
                        for member in archive:
                            if (file := archive.extractfile(member)) is not None:
                                members[member.name.removeprefix("./")] = file.read()
                            now = time.monotonic()
                            self.latencies.add("member", member.name, now - begin)
                            begin = now
                    run.stdout.read()
                said.seek(0)
                self.check_archive(members, run.returncode, said.readlines())
            self.count("tars")

    def check_archive(self, members: dict[str, bytes], status: int, errors: list[str]) -> None:
        """Only of files that change may `tar` say that they did, or that they are stale."""
        told = set()
        for line in errors:
            name = line.partition("./")[2].partition(":")[0]
            right = name in self.names[-CHANGING_FILES:] and any(
                part in line for part in ("changed as we read", "shrank", "Stale file handle")
            )
            if not right and "Exiting with failure status" not in line and name:
                raise SeenError(f"tar: {line.strip()}")
            told.add(name)
        if status and not told:
            raise SeenError(f"tar ended with {status}: {errors}")
        for name in self.names:
            data = members.get(name)
            if data is None:
                raise SeenError(f"tar left out {name}")
            version = version_in(data)
            if name not in told and (version is None or data != content(name, version)):
                raise SeenError(f"tar has wrong bytes of {name}, version {version}")

    # -- life ------------------------------------------------------------------------------------

    def run(self, kind: str) -> dict[str, Any]:
        works: dict[str, tuple[Callable[[random.Random], None], int]] = {
            "files": (self.files, 4),
            "mapped": (self.mapped, 2),
            "cold": (self.cold, 1),
            "tar": (self.tar, 1),
            "pulse": (self.tar, 0),  # only says how busy the machine is
        }
        work, count = works[kind]
        threads = [
            threading.Thread(target=self.guarded, args=(work, random.Random(self.seed + number)))
            for number in range(count)
        ]
        with Pulse() as pulse:
            for thread in threads:
                thread.start()
            print("ready", flush=True)
            sys.stdin.read()
            self.ended.set()
            for thread in threads:
                thread.join()
        return {
            "kind": kind,
            "problems": self.problems[:MOST_PROBLEMS],
            "counts": self.counts,
            "latencies": self.latencies.report(),
            "stall": pulse.longest,
        }

    def guarded(self, work: Callable[[random.Random], None], chance: random.Random) -> None:
        """Does the work until the end; a problem is noted and the work begun again."""
        while not self.ended.is_set() and len(self.problems) < MOST_PROBLEMS:
            try:
                work(chance)
            except SeenError as problem:
                self.problems.append(f"at {time.monotonic():.3f}: {problem}")
            except OSError:
                self.problems.append(f"at {time.monotonic():.3f}: {traceback.format_exc(limit=-4)}")


def main() -> None:
    """Reads as told."""
    kind, top, ledger, seed = sys.argv[1:]
    print(json.dumps(Reader(Path(top), Path(ledger), int(seed)).run(kind)), flush=True)


if __name__ == "__main__":
    main()
