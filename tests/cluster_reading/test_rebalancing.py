"""Workers come and go: what they own now moves to them, and the source gives none of it again."""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from fluidpy.client.session import DatasetSession
from fluidpy.cluster.membership import Member
from fluidpy.cluster.placement import pieces_of
from tests.cluster_reading.bed import BLOCK, GIB, Pool, PoolWorker
from tests.cluster_reading.conftest import MakePool
from tests.cluster_reading.proxies import proxy_before

MIB = 1024 * 1024

pytestmark = pytest.mark.timeout(180)  # for machines that are busy with other tests


def contents(seed: int = 0) -> dict[str, bytes]:
    chance = random.Random(seed)
    sizes = [chance.randrange(1, 3 * BLOCK) for _ in range(60)] + [3 * MIB + 5, 0]
    return {f"d{n % 3}/{n}": chance.randbytes(size) for n, size in enumerate(sizes)}


def await_settled(pool: Pool, seconds: float = 90.0) -> dict[str, dict[str, int]]:
    """What each worker tells once all have moved what this generation wants."""
    limit = time.monotonic() + seconds
    while True:
        told = {name: worker.status()["rebalance"] for name, worker in pool.workers.items()}
        if all(one["done"] and one["generation"] == pool.generation for one in told.values()):
            return told
        assert time.monotonic() < limit, told
        time.sleep(0.02)


def change(pool: Pool, *names: str) -> None:
    """The next generation with these members, while data moves from those of before."""
    pool.previous = pool.members
    pool.publish(*names)


def settle(pool: Pool, *names: str) -> None:
    pool.previous = ()
    pool.publish(*names)


def total(files: dict[str, bytes]) -> int:
    return sum(map(len, files.values()))


def test_a_worker_that_comes_is_filled_by_the_others(make_pool: MakePool) -> None:
    files = contents()
    pool = make_pool(files, "ab")
    for name in pool.workers:
        pool.check(name, files)
    pool.server.bytes.clear()
    pool.add("e")
    change(pool)
    told = await_settled(pool)
    owned = sum(len(data) for path, data in files.items() if "e" in pool.owners(path))
    assert told["e"]["moved_bytes"] == owned > 0
    assert all(told[name]["moved_bytes"] == 0 for name in "ab")
    settle(pool)
    await_settled(pool)
    for name in pool.workers:
        pool.check(name, files)
    assert sum(pool.server.bytes.values()) == 0


def test_a_drained_worker_hands_over_before_it_goes(make_pool: MakePool) -> None:
    files = contents(1)
    pool = make_pool(files, "abd")
    pool.check("a", files)
    owned = sum(len(data) for path, data in files.items() if "d" in pool.owners(path))
    pool.server.bytes.clear()
    pool.draining = ("d",)
    change(pool, "a", "b")
    told = await_settled(pool)
    moved = sum(one["moved_bytes"] for one in told.values())
    assert 0 < moved <= owned  # `a` had copies of some of it
    assert sum(one["left_objects"] for one in told.values()) == 0
    pool.workers.pop("d").close()
    settle(pool)
    for name in pool.workers:
        pool.check(name, files)
    assert sum(pool.server.bytes.values()) == 0


def load_all(pool: Pool) -> None:
    """Each worker has what it owns, and nothing else."""
    for worker in pool.workers.values():
        answer = worker.ask(worker.main, "load", deadline=60.0, owned=True)
        assert answer["failures"] == []
    pool.server.bytes.clear()


@pytest.mark.slow
def test_readers_notice_nothing_of_a_worker_that_comes_and_one_that_goes(
    make_pool: MakePool,
) -> None:
    files = contents(2)
    pool = make_pool(files, "abc")
    load_all(pool)
    ending = threading.Event()

    def read_on(number: int, session: DatasetSession) -> int:
        chance, reads = random.Random(number), 0
        while not ending.is_set():
            path = chance.choice(sorted(files))
            assert session.read(path) == files[path]
            reads += 1
        return reads

    sessions = [pool.workers[name].session(pool.definition) for name in "abab"]
    with ThreadPoolExecutor(len(sessions)) as threads:
        reading = threads.map(read_on, range(4), sessions)
        try:
            pool.add("d")
            change(pool)
            await_settled(pool)
            settle(pool)
            pool.draining = ("c",)
            change(pool, "a", "b", "d")
            await_settled(pool)
            settle(pool, "a", "b", "d")
            pool.workers.pop("c").close()
        finally:
            ending.set()
        assert min(reading) > 0
    pool.check("abd", files)
    assert sum(pool.server.bytes.values()) == 0


@pytest.mark.slow
def test_a_worker_killed_while_it_takes_over_goes_on_where_it_was(make_pool: MakePool) -> None:
    size = 2 * BLOCK
    files = {f"d/{n}": random.Random(n).randbytes(size) for n in range(150)}
    pool = make_pool(files, "ab")
    load_all(pool)
    pool.add("e")
    newcomer = pool.workers["e"]
    owned = len(pool.owned("e", "abe", files))
    with (
        proxy_before(pool.workers["a"].address) as before_a,
        proxy_before(pool.workers["b"].address) as before_b,
    ):
        before_a.bytes_per_second = before_b.bytes_per_second = 2 * size  # objects a second
        pool.previous = pool.members
        pool.publish(addresses={"a": before_a.address, "b": before_b.address})
        noted = await_noted(newcomer, 4)
        newcomer.kill()
        before_a.bytes_per_second = before_b.bytes_per_second = None
        assert newcomer.read("d/0") == files["d/0"]
        told = await_settled(pool)["e"]
    assert 0 < told["moved_bytes"] <= (owned - noted) * size
    settle(pool)
    pool.check("e", files)
    assert sum(pool.server.bytes.values()) == 0


def await_noted(worker: PoolWorker, least: int) -> int:
    """How many objects a worker's index knows, once they are so many."""
    (index,) = worker.settings.cache_dir.rglob("index.sqlite")
    limit = time.monotonic() + 90
    with closing(sqlite3.connect(f"file:{index}?mode=ro", uri=True)) as reading:
        while True:
            (noted,) = reading.execute("SELECT count(*) FROM file WHERE complete").fetchone()
            if noted >= least:
                return int(noted)
            assert time.monotonic() < limit, worker.status()
            time.sleep(0.02)


@pytest.mark.slow
def test_replicas_move_once_and_stay_two(make_pool: MakePool) -> None:
    files = contents(3)
    pool = make_pool(files, "abc", replicas=2)
    load_all(pool)
    pool.add("d")
    change(pool)
    told = await_settled(pool)
    owned = sum(len(data) for path, data in files.items() if "d" in pool.owners(path))
    assert {name: one["moved_bytes"] for name, one in told.items()} == {
        "a": 0,
        "b": 0,
        "c": 0,
        "d": owned,
    }
    settle(pool)
    first = {path: pool.owners(path)[0] for path in files}
    pool.workers["d"].kill()
    pool.check("abc", [path for path, name in first.items() if name == "d"])
    assert sum(pool.server.bytes.values()) == 0


@pytest.mark.slow
def test_more_replicas_are_copied_from_those_that_have_the_bytes(make_pool: MakePool) -> None:
    files = contents(5)
    pool = make_pool(files, "abc")
    load_all(pool)
    pool.replicas, pool.previous_replicas = 2, 1
    change(pool)
    told = await_settled(pool)
    assert sum(one["moved_bytes"] for one in told.values()) == total(files)
    pool.previous_replicas = 0
    settle(pool)
    pool.workers.pop("b").end()
    pool.check("ac", files)
    assert sum(pool.server.bytes.values()) == 0


@pytest.mark.slow
def test_a_move_keeps_to_its_pace_and_readers_do_not_wait_for_it(make_pool: MakePool) -> None:
    files = candidates("d", 60)
    pool = make_pool(files, "ab", move_bytes_per_second=8 * BLOCK)
    load_all(pool)
    pool.add("c")
    began = time.monotonic()
    change(pool)
    pool.check("c", files)
    told = await_settled(pool)["c"]
    assert told["moved_bytes"] <= 8 * BLOCK * (time.monotonic() - began) + BLOCK
    assert sum(pool.server.bytes.values()) == 0


def candidates(folder: str, count: int) -> dict[str, bytes]:
    """Files of one block; who owns which of them is for the test to look up."""
    return {f"{folder}/{n:03}": random.Random(n).randbytes(BLOCK) for n in range(count)}


def load(pool: Pool, name: str, paths: list[str]) -> None:
    worker = pool.workers[name]
    answer = worker.ask(worker.main, "load", deadline=60.0, owned=True, paths=paths)
    assert (answer["failures"], answer["done_files"]) == ([], len(paths))


@pytest.mark.slow
def test_a_tier_that_is_full_of_its_own_takes_nothing_over(make_pool: MakePool) -> None:
    files = candidates("d", 120)
    pool = make_pool(files, "ab", quota_bytes=40 * BLOCK)
    mine = pool.owned("a", "ab", files)[:34]  # 85 %: less than what begins an eviction
    theirs = pool.owned("b", "ab", files)[:12]
    load(pool, "a", mine)
    load(pool, "b", theirs)
    pool.server.bytes.clear()
    pool.draining = ("b",)
    change(pool, "a")
    told = await_settled(pool)["a"]
    assert (told["moved_objects"], told["left_objects"]) == (6, 6)
    pool.check("a", mine)
    assert sum(pool.server.bytes.values()) == 0


@pytest.mark.slow
def test_what_was_handed_over_makes_room_for_what_is_owned(make_pool: MakePool) -> None:
    files = {**candidates("d", 200), **candidates("e", 200)}
    pool = make_pool(files, "ab", quota_bytes=40 * BLOCK)
    before, after = pool.owned("a", "ab", files), pool.owned("a", "abc", files)
    staying = [path for path in before if path in after and path < "e"][:5]
    going = [path for path in before if path not in after][:20]
    load(pool, "a", staying)  # first: so these were used longest ago
    load(pool, "a", going)
    pool.add("c")
    change(pool)
    assert await_settled(pool)["c"]["moved_objects"] == len(going)
    settle(pool)
    await_noted_as_copies(pool.workers["a"], len(going))
    coming = [path for path in after if path >= "e"][:25]
    load(pool, "a", coming)
    pool.server.bytes.clear()
    pool.check("a", staying + coming)
    pool.check("c", going)
    assert sum(pool.server.bytes.values()) == 0


def await_noted_as_copies(worker: PoolWorker, count: int) -> None:
    """Until the worker's index has so many objects as copies."""
    limit = time.monotonic() + 90
    (index,) = worker.directory.rglob("index.sqlite")
    with closing(sqlite3.connect(f"file:{index}?mode=ro", uri=True)) as reading:
        while True:
            (noted,) = reading.execute("SELECT count(*) FROM file WHERE last_use < 0").fetchone()
            if noted >= count:
                return
            assert time.monotonic() < limit, (noted, worker.status())
            time.sleep(0.02)


def without_c(pool: Pool) -> int:
    """The worker `c` ends for good while its data should move; how many bytes are lost with it."""
    lost = sum(len(data) for path, data in pool.files.items() if pool.owners(path) == ("c",))
    gone = pool.workers.pop("c")
    gone.end()
    pool.dead = (Member("c", gone.address, "m", GIB),)
    change(pool, "a", "b")
    return lost


@pytest.mark.slow
def test_a_former_owner_that_is_gone_holds_no_reader_up(make_pool: MakePool) -> None:
    files = contents(4)
    pool = make_pool(files, "abc")
    load_all(pool)
    lost = without_c(pool)
    pool.check("ab", files)
    assert lost <= sum(pool.server.bytes.values()) <= 1.25 * lost
    pool.dead = ()
    settle(pool)
    told = await_settled(pool)
    assert sum(one["source_bytes"] for one in told.values()) <= lost


@pytest.mark.soak
def test_what_a_former_owner_that_is_gone_had_is_left_at_last(make_pool: MakePool) -> None:
    pool = make_pool(contents(4), "abc")
    load_all(pool)
    without_c(pool)
    told = await_settled(pool)
    assert sum(one["left_objects"] for one in told.values()) > 0
    assert sum(pool.server.bytes.values()) == 0


@pytest.mark.slow
def test_pieces_of_large_objects_move_by_themselves(make_pool: MakePool) -> None:
    files = {"large": random.Random(9).randbytes(MIB) * 130 + b"the end"}
    pool = make_pool(files, "ab", block_bytes=MIB)
    load_all(pool)
    pool.add("c", "d")
    change(pool)
    told = await_settled(pool)
    moving = sum(
        end - start
        for start, end in pieces_of(0, len(files["large"]))
        if set(pool.owners("large", start=start)) & {"c", "d"}
    )
    assert told["c"]["moved_bytes"] + told["d"]["moved_bytes"] == moving
    settle(pool)
    pool.check("cd", files)
    assert sum(pool.server.bytes.values()) == 0


@pytest.mark.slow
def test_who_waits_for_what_is_on_its_way_gets_it_from_the_source_at_last(
    make_pool: MakePool,
) -> None:
    files = {f"d/{n}": random.Random(n).randbytes(20 * BLOCK) for n in range(30)}
    pool = make_pool(files, "ab")
    load_all(pool)
    pool.add("e")
    with proxy_before(pool.workers["a"].address) as stalling:
        stalling.stall_after = 4096  # what `a` has it still tells
        pool.previous = pool.members
        pool.publish(addresses={"a": stalling.address, "b": stalling.address})
        moving = [path for path in files if pool.owners(path) == ("e",)]
        with ThreadPoolExecutor(len(moving)) as threads:
            sessions = [pool.workers["e"].session(pool.definition) for _ in moving]
            read = list(threads.map(lambda session, path: session.read(path), sessions, moving))
        assert read == [files[path] for path in moving]
        told = await_settled(pool)["e"]
    assert dict(pool.server.bytes) == dict.fromkeys(moving, 20 * BLOCK)
    assert told["source_bytes"] <= total({path: files[path] for path in moving})
