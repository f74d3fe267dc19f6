"""What every scenario needs: a source, Datasets on it, workers and mounts that start cold."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import obstore

from benchmarks.single.processes import find_processes
from benchmarks.single.surroundings import fresh_file_system, link
from fluidpy.aligned_memory import page_aligned
from fluidpy.testing.servers.seaweedfs import SeaweedServer, seaweedfs

CHUNK = 1024 * 1024
MIB = 1024 * 1024


@dataclass
class Bench:
    """A running source and a directory for everything else; `smoke` asks for tiny sizes."""

    directory: Path
    server: SeaweedServer
    pairs: int
    smoke: bool
    own_file_system: bool
    buckets: set[str] = field(default_factory=set)

    def talk(self, text: str) -> None:
        """Progress for a person."""
        print(text, file=sys.stderr, flush=True)

    def bucket(self, name: str) -> str:
        """A bucket of that name, made on first use."""
        if name not in self.buckets:
            self.server.make_bucket(name)
            self.buckets.add(name)
        return name

    def put_large(self, bucket: str, key: str, size: int) -> None:
        """One object of `size` random bytes."""
        obstore.put(self.server.store(self.bucket(bucket)), key, os.urandom(size))

    def dataset_file(self, name: str, bucket: str, prefix: str = "") -> Path:
        """A YAML with a Dataset on the bucket and its Secret."""
        url = f"s3://{bucket}/{prefix}".rstrip("/")
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": f"{name}-key"},
            "stringData": self.server.secrets(),
        }
        dataset = {
            "apiVersion": "data.fluid.io/v1alpha1",
            "kind": "Dataset",
            "metadata": {"name": name},
            "spec": {
                "mounts": [
                    {
                        "mountPoint": url,
                        "name": name,
                        "path": "/",
                        "options": self.server.options(),
                        "encryptOptions": [
                            {
                                "name": option,
                                "valueFrom": {
                                    "secretKeyRef": {"name": f"{name}-key", "key": option}
                                },
                            }
                            for option in self.server.secrets()
                        ],
                    }
                ]
            },
        }
        path = self.directory / f"{name}.yaml"
        # JSON is YAML too, and needs no library here.
        path.write_text(f"---\n{json.dumps(secret)}\n---\n{json.dumps(dataset)}\n")
        path.chmod(0o600)
        return path

    @contextlib.contextmanager
    def machine(self) -> Iterator[Machine]:
        """A machine that has never seen the data: own cache, own worker; all gone afterwards."""
        home = Path(tempfile.mkdtemp(prefix="machine-", dir=self.directory / "machines"))
        machine = Machine(home)
        try:
            yield machine
        finally:
            machine.end()
            shutil.rmtree(home, ignore_errors=True)

    @contextlib.contextmanager
    def behind_link(self) -> Iterator[Bench | None]:
        """The same with a second source behind a link of 4 Gbit/s; None without root."""
        with link() as found:
            if found is None:
                yield None
                return
            place = self.directory / "weed-behind-link"
            with seaweedfs(place, address=found.address, run_by=found.run_by) as server:
                yield Bench(self.directory, server, self.pairs, self.smoke, self.own_file_system)


@dataclass
class Machine:
    """Directories of one cold start, and the command line run in them."""

    home: Path

    @property
    def environment(self) -> dict[str, str]:
        """The process environment that leads to this machine's worker."""
        return {
            **os.environ,
            "FLUIDPY_CACHE_DIR": str(self.home / "cache"),
            "FLUIDPY_RUNTIME_DIR": str(self.home / "run"),
        }

    def fluidpy(self, *arguments: str, timeout: float = 900) -> str:
        """Runs the command line; its standard output. Raises RuntimeError with what it said."""
        done = subprocess.run(
            [sys.executable, "-m", "fluidpy", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"fluidpy {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    @contextlib.contextmanager
    def mounted(self, file: Path, *options: str) -> Iterator[Path]:
        """The Dataset of `file` as a directory; `options` are those of `fluidpy mount`."""
        directory = self.home / "mnt"
        directory.mkdir(exist_ok=True)
        self.fluidpy("mount", *options, "-f", str(file), str(directory))
        try:
            yield directory
        finally:
            self.fluidpy("umount", str(directory))

    @contextlib.contextmanager
    def as_this_process(self) -> Iterator[None]:
        """Lets `fluid://` in this process use this machine's worker."""
        from fluidpy.client.connection import close_connections

        kept = dict(os.environ)
        os.environ.update(self.environment)
        try:
            yield
        finally:
            close_connections()
            os.environ.clear()
            os.environ.update(kept)

    def status(self) -> dict[str, Any]:
        """What `fluidpy status -o json` says."""
        found: dict[str, Any] = json.loads(self.fluidpy("status", "-o", "json"))
        return found

    def processes(self) -> list[tuple[str, int]]:
        """Role and pid of each process that runs for this machine just now."""
        return list(find_processes(self.home / "run"))

    def end(self) -> None:
        """Ends the worker and waits until it is gone."""
        worker = self.status().get("worker")
        if not worker:
            return
        found = int(worker["pid"])
        with contextlib.suppress(ProcessLookupError):
            os.kill(found, signal.SIGTERM)
        limit = time.monotonic() + 30
        while _runs(found):
            if time.monotonic() > limit:
                raise RuntimeError(f"worker {found} does not end")
            time.sleep(0.05)


@contextlib.contextmanager
def bench(pairs: int, smoke: bool, *, source_arguments: Sequence[str] = ()) -> Iterator[Bench]:
    """A fresh source and directory; both gone afterwards. `source_arguments` go to SeaweedFS."""
    with tempfile.TemporaryDirectory(prefix="fluidpy-bench-") as name:
        directory = Path(name)
        (directory / "machines").mkdir()
        with (
            fresh_file_system(directory / "machines") as own,
            seaweedfs(directory / "weed", more_arguments=source_arguments) as server,
        ):
            yield Bench(directory, server, pairs, smoke, own)


def _runs(pid: int) -> bool:
    """Whether the process is there and not just waiting to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def read_file(path: Path | str) -> int:
    """Reads a file in 1 MiB calls into one buffer, as a loader would; the bytes read."""
    with open(path, "rb", buffering=0) as stream:
        return read_stream(stream)


def read_stream(stream: Any) -> int:
    """Reads an open file in 1 MiB calls into one buffer; the bytes read."""
    total = 0
    buffer = page_aligned(CHUNK)
    while count := stream.readinto(buffer):
        total += count
    return total
