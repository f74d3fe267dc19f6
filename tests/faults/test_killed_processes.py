"""`kill -9` of worker, FUSE server and loader at random moments of fills and evictions.

After each: right bytes or a clear errno, nothing left running or mounted, the account right.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from fluidpy.client.locate import Locator
from fluidpy.fuse.mounting import list_mounts
from fluidpy.namespace.definition import DatasetDefinition
from fluidpy.storage.under_storage import MountSource
from fluidpy.testing.servers.fault_proxy import FaultProxy
from fluidpy.testing.servers.seaweedfs import SeaweedServer
from tests.faults.bed import CLEAR_ERRNOS, Bed, Outcome, attempt, contents, new_bed
from tests.faults.loader import Loader
from tests.faults.turnover import Turnover
from tests.model.place import BLOCK_BYTES, KIB, Place, await_end, until

FILES = 36
MOUNT_FILES = 12
"""Those read by the mount: it holds what it read for 10 s, and that does not leave the cache."""
QUOTA_BYTES = 3 * 1024 * KIB
"""Two thirds of the files: filling one evicts another that the mount does not hold."""

READERS = 64
LATENCY_SECONDS = 0.1
"""Of each request to the source, so that fills take long enough to be met under way."""

MODULES = {"worker": ".worker", "server": ".fuse.server", "holder": ".fuse.holder"}

ERRNOS: dict[str, Collection[int]] = {
    "worker": (),
    "server": (),
    "holder": (*CLEAR_ERRNOS, errno.ENOTCONN, errno.ECONNABORTED, errno.ENODEV),
    "loader": (),
}
"""Who is killed, and what readers of the mount may get then."""

PROCESSES = (".worker", ".fuse.server", ".fuse.holder", ".fuse.spare", ".fuse.template")
"""What runs beside a mount, one of each."""

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


def loaded_files(bed: Bed) -> int:
    """Files that loads have fetched, as the worker counts them."""
    return int(bed.ask("status")["counters"]["loaded_files"])


def read_anew(bed: Bed, path: str) -> bytes:
    """A file through the mount, without the pages that the kernel has of it."""
    fd = os.open(bed.place.mount_point / path, os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)
    return bed.read("mount", path)


@contextmanager
def reading(
    bed: Bed, chance: random.Random, errnos: Collection[int] = CLEAR_ERRNOS
) -> Iterator[list[Future[None]]]:
    """Two threads read by the mount and two by `fluid://`, in random order, until the block ends.

    `errnos` are those that readers of the mount may get; others get the bytes.
    """
    ended = threading.Event()
    files = sorted(bed.files)
    orders = [chance.sample(files[:MOUNT_FILES], MOUNT_FILES) for _ in range(2)]
    url_orders = [chance.sample(files, len(files)) for _ in range(2)]

    def read(order: list[str], through: Callable[[str], Outcome]) -> None:
        for path in itertools.cycle(order):
            outcome = through(path)
            assert outcome.data in (None, bed.files[path]), f"wrong bytes of {path}"
            if ended.is_set():
                return

    def by_mount(path: str) -> Outcome:
        return bed.judge(attempt(lambda: read_anew(bed, path)), f"{path} by mount", errnos)

    def by_url(path: str) -> Outcome:
        return bed.attempt("url", path, ())

    with ThreadPoolExecutor() as pool:
        futures = [pool.submit(read, order, by_mount) for order in orders]
        futures += [pool.submit(read, order, by_url) for order in url_orders]
        try:
            yield futures
        finally:
            ended.set()
    for future in futures:
        future.result()


def kill(pids: Iterable[int]) -> int:
    """How many of the processes were there to be killed."""
    killed = 0
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            killed += 1
    return killed


def mount_again(bed: Bed) -> None:
    """The mount of a killed holder is taken down by its server, and the Dataset mounted anew."""
    assert until(lambda: not bed.place.mounted), "the mount of a killed holder stays"
    assert until(lambda: not bed.place.processes(".fuse")), bed.place.processes()
    bed.place.mount(bed.definition)


def one_kill(
    bed: Bed, victim: str, chance: random.Random, loader: Loader, turnover: Turnover
) -> None:
    """One process is killed while the mount is read and a load runs, and files come and go."""
    bed.proxy.latency_seconds = LATENCY_SECONDS
    turnover.begin()
    with loader.running(), reading(bed, chance, ERRNOS[victim]):
        await_turnover(bed, turnover)
        time.sleep(chance.uniform(0.0, 0.3))  # the moment is what is drawn at random
        turnover.look()
        if victim == "loader":
            loader.kill()
        else:
            assert kill(bed.place.processes(MODULES[victim])) == 1, bed.place.processes()
        bed.proxy.latency_seconds = 0.0


def await_turnover(bed: Bed, turnover: Turnover) -> None:
    """Until the load has fetched a file, one came into the cache and another left it."""
    fills, evictions, loaded = turnover.fills, turnover.evictions, loaded_files(bed)

    def turned() -> bool:
        turnover.look()
        moved = turnover.fills > fills and turnover.evictions > evictions
        return moved and loaded_files(bed) > loaded

    assert until(turned), (turnover, loaded, loaded_files(bed))


def check_all(bed: Bed) -> None:
    files = sorted(bed.files)
    bed.check(*files[:MOUNT_FILES])
    bed.check(*files[MOUNT_FILES:], faces=("url",))


def check_after(bed: Bed, victim: str) -> None:
    if victim == "holder":
        mount_again(bed)
    check_all(bed)
    bed.check_accounting()
    assert until(lambda: all(len(bed.place.processes(part)) == 1 for part in PROCESSES)), (
        bed.place.processes()
    )


def kill_often(bed: Bed, times: int, seed: int) -> None:
    """Kills each of the four as often; before each, a file at least was filled and one evicted."""
    chance = random.Random(seed)
    victims = [list(ERRNOS)[number % len(ERRNOS)] for number in range(times)]
    chance.shuffle(victims)
    bed.place.mount(bed.definition)
    check_all(bed)  # from here on the tier is full
    bed.check_accounting()
    file, paths = bed.place.base / "faults.yaml", sorted(bed.files)[MOUNT_FILES:]
    loader = Loader(bed.place.settings, file, paths)
    turnover = Turnover(bed.tier)
    with closing(loader):
        for victim in victims:
            one_kill(bed, victim, chance, loader, turnover)
            check_after(bed, victim)
    print(f"{times} kills (seed {seed}) in {turnover.fills} fills, {turnover.evictions} evictions")
    assert turnover.fills >= times, turnover
    assert turnover.evictions >= times, turnover
    bed.place.unmount()
    bed.session.connection.close()
    bed.check_accounting(in_use=False)
    bed.session.connection.close()
    bed.place.end_worker()
    assert bed.place.processes() == {}
    assert not list(bed.place.settings.mounts_dir.glob("*.json"))


def test_kill_9_at_random_moments(bed: Bed) -> None:
    kill_often(bed, 4, seed=1)


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
            kills += kill(pids)
            for pid in pids:
                await_end(pid)
            if kills > 1:
                killed.set()
            time.sleep(0.3)  # a new one gets some work done
        for reader in readers:
            reader.result(timeout=100)
    assert kills > 1
    assert not failures, failures
    bed.check()
    bed.check_accounting()


def test_readers_of_a_killed_server_go_on(bed: Bed) -> None:
    record = bed.place.mount(bed.definition)
    with reading(bed, random.Random(2)) as readers:
        assert until(lambda: any(Path(bed.tier).glob("objects/*/*")))
        assert kill([record.server_pid])
        assert until(lambda: list_mounts(bed.place.settings)[0].restarts == 1)
        assert not any(reader.done() for reader in readers)
    bed.check()
