"""`kill -9` of worker, FUSE server and loader at random moments of fills and evictions.

After each: right bytes or a clear errno, nothing left running or mounted, the account right.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from fluidpy.client.locate import Locator
from fluidpy.client.start import worker_environment
from fluidpy.fuse.mounting import list_mounts
from fluidpy.namespace.definition import DatasetDefinition
from fluidpy.storage.under_storage import MountSource
from fluidpy.testing.servers.fault_proxy import FaultProxy
from fluidpy.testing.servers.seaweedfs import SeaweedServer
from tests.faults.bed import Bed, contents, new_bed
from tests.model.place import BLOCK_BYTES, KIB, Place, await_end, until

FILES = 24
QUOTA_BYTES = 2 * 1024 * KIB
"""About half of the files: filling one evicts another."""

READERS = 64

YAML = """\
apiVersion: data.fluid.io/v1alpha1
kind: Dataset
metadata:
  name: faults
spec:
  mounts: [{mount}]
---
apiVersion: data.fluid.io/v1alpha1
kind: AlluxioRuntime
metadata:
  name: faults
spec:
  tieredstore: {{levels: [{{mediumtype: SSD, path: {path}, quota: {quota}}}]}}
"""


@pytest.fixture
def bed(seaweedfs_server: SeaweedServer, proxy: FaultProxy) -> Iterator[Bed]:
    files = contents(FILES, 2 * BLOCK_BYTES)
    with new_bed(seaweedfs_server, proxy, files, mounted=False, declare=declare) as made:
        yield made


def declare(place: Place, source: MountSource) -> DatasetDefinition:
    """The Dataset by a file, as the loader has it too."""
    options = {**source.options, **source.secrets}
    mount = {"name": "bucket", "path": "/", "mountPoint": source.url, "options": options}
    tier = {"path": place.base / "tier", "quota": f"{QUOTA_BYTES // KIB}Ki"}
    file = place.base / "faults.yaml"
    file.write_text(YAML.format(mount=json.dumps(mount), **tier))
    definition = Locator.from_options(os.fspath(file), None, {}).find("faults")
    assert isinstance(definition, DatasetDefinition)
    return definition


def start_loader(bed: Bed) -> subprocess.Popen[bytes]:
    """`fluidpy load` of the whole Dataset, in a process of its own."""
    file = bed.place.base / "faults.yaml"
    return subprocess.Popen(
        [sys.executable, "-m", "fluidpy", "load", "-f", os.fspath(file)],
        env=worker_environment(bed.place.settings),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@contextmanager
def reading(bed: Bed, threads: int, chance: random.Random) -> Iterator[list[Future[None]]]:
    """Threads that read files in random order through the mount, until the block ends."""
    ended = threading.Event()
    orders = [chance.sample(sorted(bed.files), len(bed.files)) for _ in range(threads)]

    def read(order: list[str]) -> None:
        while not ended.is_set():
            for path in order:
                outcome = bed.attempt("mount", path)
                assert outcome.data in (None, bed.files[path]), f"wrong bytes of {path}"
                if ended.is_set():
                    return

    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(read, order) for order in orders]
        try:
            yield futures
        finally:
            ended.set()
    for future in futures:
        future.result()


def kill(pids: Iterator[int] | list[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def mount_again(bed: Bed) -> None:
    """The mount of a killed holder is taken down by its server, and the Dataset mounted anew."""
    assert until(lambda: not bed.place.mounted), "the mount of a killed holder stays"
    assert until(lambda: not bed.place.processes(".fuse")), bed.place.processes()
    bed.place.mount(bed.definition)


def one_kill(bed: Bed, chance: random.Random) -> str:
    """Something is killed while the mount is read and a load runs; who it was."""
    victim = chance.choice(["worker", "server", "holder", "loader"])
    if not bed.place.mounted:
        mount_again(bed)
    loader = start_loader(bed)
    with reading(bed, 4, chance):
        time.sleep(chance.uniform(0.0, 0.6))  # the moment is what is drawn at random
        if victim == "loader":
            loader.kill()
        else:
            module = {"worker": ".worker", "server": ".fuse.server", "holder": ".fuse.holder"}
            kill(list(bed.place.processes(module[victim])))
    loader.kill()
    loader.wait(60)
    return victim


PROCESSES = (".worker", ".fuse.server", ".fuse.holder", ".fuse.spare", ".fuse.template")
"""What runs beside a mount, one of each."""


def check_after(bed: Bed, victim: str) -> None:
    if victim == "holder":
        mount_again(bed)
    bed.check()
    bed.check_accounting()
    assert until(lambda: all(len(bed.place.processes(part)) == 1 for part in PROCESSES)), (
        bed.place.processes()
    )


def kill_often(bed: Bed, times: int, seed: int) -> None:
    chance = random.Random(seed)
    bed.place.mount(bed.definition)
    for _ in range(times):
        victim = one_kill(bed, chance)
        check_after(bed, victim)
    bed.place.unmount()
    bed.session.connection.close()
    bed.check_accounting(in_use=False)
    bed.session.connection.close()
    bed.place.end_worker()
    assert bed.place.processes() == {}
    assert not list(bed.place.settings.mounts_dir.glob("*.json"))


def test_kill_9_at_random_moments(bed: Bed) -> None:
    kill_often(bed, 6, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_kill_9_at_more_random_moments(bed: Bed) -> None:
    kill_often(bed, 25, seed=2)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_kill_9_at_200_random_moments(bed: Bed) -> None:
    kill_often(bed, 200, seed=int(time.time()))


def test_64_readers_while_the_worker_is_killed(bed: Bed) -> None:
    """A killed worker costs a reader of the mount time, not an error."""
    bed.place.mount(bed.definition)
    failures: list[str] = []
    killed = threading.Event()

    def read(number: int) -> None:
        chance = random.Random(number)
        for turn, path in enumerate(itertools.cycle(chance.sample(sorted(bed.files), 6))):
            if turn >= 6 and killed.is_set():
                return
            outcome = bed.attempt("mount", path)
            assert outcome.data in (None, bed.files[path]), f"wrong bytes of {path}"
            if outcome.data is None:
                failures.append(outcome.message)

    with ThreadPoolExecutor(READERS) as pool:
        readers = [pool.submit(read, number) for number in range(READERS)]
        kills = 0
        while not all(reader.done() for reader in readers) and kills < 5:
            pids = list(bed.place.processes(".worker"))
            kill(pids)
            for pid in pids:
                await_end(pid)
            kills += bool(pids)
            if kills > 1:
                killed.set()
            time.sleep(0.3)  # a new one gets some work done
        for reader in readers:
            reader.result(timeout=100)
    assert not failures, failures
    bed.check()
    bed.check_accounting()


def test_readers_of_a_killed_server_go_on(bed: Bed) -> None:
    record = bed.place.mount(bed.definition)
    with reading(bed, 4, random.Random(2)) as readers:
        assert until(lambda: any(Path(bed.tier).glob("objects/*/*")))
        kill([record.server_pid])
        assert until(lambda: list_mounts(bed.place.settings)[0].restarts == 1)
        assert not any(reader.done() for reader in readers)
    bed.check()
