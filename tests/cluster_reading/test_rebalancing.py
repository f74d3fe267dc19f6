"""Workers come and go: what they own now moves to them, and the source gives none of it again."""

from __future__ import annotations

import random
import time

from tests.cluster_reading.bed import BLOCK, Pool
from tests.cluster_reading.conftest import MakePool

MIB = 1024 * 1024


def contents(seed: int = 0) -> dict[str, bytes]:
    chance = random.Random(seed)
    sizes = [chance.randrange(1, 3 * BLOCK) for _ in range(60)] + [3 * MIB + 5, 0]
    return {f"d{n % 3}/{n}": chance.randbytes(size) for n, size in enumerate(sizes)}


def await_settled(pool: Pool, seconds: float = 30.0) -> dict[str, dict[str, int]]:
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
    pool = make_pool(files)
    for name in pool.workers:
        pool.check(name, files)
    pool.server.bytes.clear()
    pool.add("e")
    change(pool)
    told = await_settled(pool)
    owned = sum(len(data) for path, data in files.items() if "e" in pool.owners(path))
    assert told["e"]["moved_bytes"] == owned > 0
    assert all(told[name]["moved_bytes"] == 0 for name in "abcd")
    settle(pool)
    await_settled(pool)
    for name in pool.workers:
        pool.check(name, files)
    assert sum(pool.server.bytes.values()) == 0


def test_a_drained_worker_hands_over_before_it_goes(make_pool: MakePool) -> None:
    files = contents(1)
    pool = make_pool(files)
    pool.check("a", files)
    owned = sum(len(data) for path, data in files.items() if "d" in pool.owners(path))
    pool.server.bytes.clear()
    pool.draining = ("d",)
    change(pool, "a", "b", "c")
    told = await_settled(pool)
    moved = sum(one["moved_bytes"] for one in told.values())
    assert 0 < moved <= owned  # `a` had copies of some of it
    assert sum(one["left_objects"] for one in told.values()) == 0
    pool.workers.pop("d").close()
    settle(pool)
    for name in pool.workers:
        pool.check(name, files)
    assert sum(pool.server.bytes.values()) == 0
