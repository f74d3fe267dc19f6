"""`kill -9` of the FUSE server, and upgrades of it, under readers of every kind.

Meanwhile files are evicted, get new versions, and new ones come. No reader may notice, but by
latency below a bound; afterwards all is as it was. `storm_results.py` says how to keep what the
long ones measured.
"""

from __future__ import annotations

import itertools
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from fluidpy.client.start import worker_environment
from tests.chaos.bed import QUIET_STALL_SECONDS, Bed, Load, new_bed
from tests.chaos.read_modes import every_mode, options_of
from tests.chaos.storm_results import keep, result_of
from tests.model.place import until

WORST_SECONDS = 1.0
"""No operation of a reader takes longer, whatever is killed, on a machine that is not busy."""
BUSY_SECONDS = 15.0
"""The same on any machine: far below the deadlines that would end it."""
RESTART_SECONDS = 0.1
"""Half of all restarts and upgrades leave the mount without a server for less; it is 10 to 40 ms
where two cores are busy with all this."""
LONGEST_PAUSE_SECONDS = 0.4
"""Between two kills."""
SETTLE_SECONDS = 60.0
"""How soon after a storm the newest versions are seen: names in the kernel, a busy machine."""

LATE = re.compile(r"^anon_inode:\[pidfd\]$|\.sqlite(-wal|-shm)?$")
MOST_LATE = 2
"""Closed later than others: pidfds when the interpreter collects them, databases when SQLite does
(closing one fd would end the locks of another)."""
IDLE_SECONDS = 40.0
"""How long closed files may be kept for the next open, and more."""


@contextmanager
def storm(
    read_mode: str,
    seed: int,
    *,
    events: int = 10,
    ttl: float = 300.0,
    bound: float = BUSY_SECONDS,
    keep_as: str = "",
) -> Iterator[tuple[Bed, random.Random]]:
    """A mounted bed under load; after the block everything is checked.

    No operation of a reader may take longer than `bound`. The load goes on until a tenth as many
    changes and evictions happened as there are `events` (kills or upgrades), and the mount must
    read as `read_mode` says before it and after.
    """
    print(f"seed {seed}, read mode {read_mode}")
    with new_bed(ttl=ttl, **options_of(read_mode)) as bed:
        assert bed.wrong_files() == []
        before = bed.settled(new_server=True)
        chance = random.Random(seed)
        check_mode(bed, read_mode, chance)
        with Load(bed, seed) as load:
            yield bed, chance
            load.await_deeds(max(1, events // 10))
        load.check(bound)
        check_mode(bed, read_mode, chance)
        check_after(bed, before)
        if keep_as:
            result = result_of(load, events)
            keep(keep_as, read_mode, result)
            quiet = load.stall < QUIET_STALL_SECONDS
            assert result["without_a_server"]["median"] < RESTART_SECONDS or not quiet, load.text()
        bed.place.unmount()
        bed.session.connection.close()
        bed.place.end_worker()
        assert bed.place.processes() == {}
        assert not list(bed.place.settings.mounts_dir.glob("*.json"))


def check_mode(bed: Bed, read_mode: str, chance: random.Random) -> None:
    """The mount reads as it was asked to; without evictions, or no file may be in the cache."""
    assert bed.record.read_mode == read_mode
    if read_mode == "passthrough":
        # A busy machine needs longer.
        patience = itertools.chain((0.1, 0.2, 0.3, 0.5), itertools.repeat(1.0))
        assert until(lambda: bed.passes_through(chance, next(patience))), (
            "no file is passed through"
        )


def check_after(bed: Bed, before: dict[str, Counter[str]]) -> None:
    """All files are right, and nothing is held that was not before."""
    wrong: list[str] = []

    def right() -> bool:
        wrong[:] = bed.wrong_files()
        return not wrong

    assert until(right, SETTLE_SECONDS), wrong
    bed.settled()
    more: dict[str, Counter[str]] = {}

    def as_before() -> bool:
        bed.evict("")  # what was still being fetched may have come since
        more.clear()
        for name, counts in bed.fds().items():
            more[name] = counts - before.get(name, Counter())
            for late in [path for path in more[name] if LATE.search(path)]:
                if more[name][late] <= MOST_LATE:
                    del more[name][late]
        return not any(more.values())

    assert until(as_before, IDLE_SECONDS), f"more is open than before: {more}"


def kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def servers(bed: Bed) -> set[int]:
    """All servers of the mount, those that do not serve included; the holder's other child may be
    a worker that one of them started."""
    return set(bed.place.children_of(bed.record.holder_pid)) - set(bed.place.processes(".worker"))


def kill_servers(bed: Bed, chance: random.Random, times: int) -> None:
    """Each kill hits a server that serves, at a random moment; each fortieth its successor, too.

    What is killed before it serves counts as a failure, so that there must be few of those.
    """
    restarts = bed.record.restarts
    for number in range(times):
        time.sleep(chance.uniform(0.0, LONGEST_PAUSE_SECONDS))  # the moment is drawn at random
        victim = bed.record.server_pid
        kill(victim)
        if number % 40 == 10:
            time.sleep(chance.uniform(0.0, 0.02))
            for pid in bed.place.processes(".fuse.server"):
                kill(pid)
        assert until(lambda v=victim: bed.record.server_pid != v), "no server follows"  # type: ignore[misc]  # binds the loop's value
    assert bed.record.restarts - restarts >= times


@pytest.mark.timeout(400)
@every_mode(modes=("no-open",))
def test_readers_while_files_are_evicted_and_change(read_mode: str) -> None:
    with storm(read_mode, seed=1795552662):
        time.sleep(10)  # the load is what is tested


@pytest.mark.timeout(600)
@every_mode(soak=True)
def test_readers_while_files_are_evicted_and_change_for_long(read_mode: str) -> None:
    seed = int(time.time())
    with storm(read_mode, seed, events=500, bound=WORST_SECONDS, keep_as="evictions"):
        time.sleep(120)  # the load is what is tested


@pytest.mark.timeout(400)
@every_mode(quick="no-open")
def test_kill_9_of_the_server(read_mode: str) -> None:
    with storm(read_mode, seed=1, events=20) as (bed, chance):
        kill_servers(bed, chance, 20)


@pytest.mark.timeout(900)
@every_mode(soak=True)
def test_kill_9_of_the_server_200_times(read_mode: str) -> None:
    seed, bound = int(time.time()), WORST_SECONDS
    with storm(read_mode, seed, events=200, ttl=2.0, bound=bound, keep_as="kills") as (bed, chance):
        kill_servers(bed, chance, 200)


def upgrade(bed: Bed) -> None:
    """`fluidpy mount --upgrade DIR`, by a process of its own."""
    before = bed.record.server_pid
    run = subprocess.run(
        [sys.executable, "-m", "fluidpy", "mount", "--upgrade", os.fspath(bed.top)],
        env=worker_environment(bed.place.settings),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert bed.record.server_pid != before


def upgrade_often(bed: Bed, times: int) -> None:
    restarts = bed.record.restarts
    for _ in range(times):
        upgrade(bed)
    assert bed.record.restarts == restarts, "an upgrade is no restart"


@pytest.mark.timeout(400)
@every_mode(modes=("no-open", "passthrough"))
def test_upgrades_of_the_server(read_mode: str) -> None:
    with storm(read_mode, seed=2) as (bed, _chance):
        upgrade_often(bed, 5)


@pytest.mark.timeout(600)
@every_mode(soak=True)
def test_20_upgrades_of_the_server(read_mode: str) -> None:
    seed, bound = int(time.time()), WORST_SECONDS
    with storm(read_mode, seed, events=20, bound=bound, keep_as="upgrades") as (bed, _chance):
        upgrade_often(bed, 20)


@pytest.mark.timeout(400)
@every_mode()
def test_worker_and_all_servers_killed_at_once(read_mode: str) -> None:
    """Nobody is left but the holder, and what follows finds locks of those who are ending."""
    with storm(read_mode, seed=3) as (bed, chance):
        for _ in range(6):
            bed.sync("")  # there is a worker again
            time.sleep(chance.uniform(0.0, 0.5))  # the moment is drawn at random
            for pid in [*bed.place.processes(".worker"), *servers(bed)]:
                kill(pid)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_an_upgrade_that_is_killed(bed: Bed) -> None:
    """Old and new server and all spares die in the middle of it; the mount goes on."""
    chance = random.Random(7)
    with Load(bed, seed=7) as load:
        for _ in range(4):
            command = [sys.executable, "-m", "fluidpy", "mount", "--upgrade", os.fspath(bed.top)]
            with subprocess.Popen(
                command, env=worker_environment(bed.place.settings), stderr=subprocess.PIPE
            ) as run:
                time.sleep(chance.uniform(0.1, 0.8))
                for pid in servers(bed):
                    kill(pid)
                run.communicate(timeout=60)
        load.await_deeds(1)
    load.check(BUSY_SECONDS)
    assert until(lambda: bed.wrong_files() == [], SETTLE_SECONDS)


@pytest.fixture
def bed() -> Iterator[Bed]:
    with new_bed() as made:
        yield made
