"""What a pool holds together: shares of a load, tiers that add up, members that come and go."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from tests.cluster_reading.bed import BLOCK, Pool, PoolWorker
from tests.cluster_reading.conftest import MakePool

MIB = 1024 * 1024


def some_files(count: int, size: int, seed: int = 0) -> dict[str, bytes]:
    chance = random.Random(seed)
    return {f"d{n % 3}/{n:03}": chance.randbytes(size + n) for n in range(count)}


def load(worker: PoolWorker, **fields: Any) -> dict[str, Any]:
    return worker.ask(worker.main, "load", deadline=60.0, **fields)


def test_workers_that_load_what_they_own_load_all(make_pool: MakePool) -> None:
    files = {**some_files(60, BLOCK), "large": random.Random(9).randbytes(130 * MIB + 7), "no": b""}
    pool = make_pool(files, "abc", block_bytes=MIB)
    size = sum(map(len, files.values()))
    answers = [load(worker, owned=True) for worker in pool.workers.values()]
    assert sum(answer["files"] for answer in answers) == len(files)
    assert sum(answer["done_files"] for answer in answers) == len(files)
    assert sum(answer["bytes"] for answer in answers) == size
    assert sum(answer["done_bytes"] for answer in answers) == size
    assert min(answer["done_bytes"] for answer in answers) > 0
    assert [answer["failures"] for answer in answers] == [[], [], []]
    assert pool.server.bytes.total() == size
    pool.check("abc", files)
    assert pool.server.bytes.total() == size
    again = [load(worker, owned=True) for worker in pool.workers.values()]
    assert [answer["done_bytes"] for answer in again] == [each["done_bytes"] for each in answers]


def test_replicas_are_loaded_from_the_source_once(make_pool: MakePool) -> None:
    files = some_files(40, BLOCK)
    pool = make_pool(files, "abc", replicas=2)
    size = sum(map(len, files.values()))
    answers = [load(worker, owned=True) for worker in pool.workers.values()]
    assert sum(answer["done_bytes"] for answer in answers) == 2 * size
    assert pool.server.bytes.total() == size
    pool.workers["b"].kill()
    pool.check("ac", files)
    assert pool.server.bytes.total() == size


def test_a_load_by_one_worker_fills_the_pool(make_pool: MakePool) -> None:
    files = some_files(300, BLOCK // 2)
    pool = make_pool(files, "ab")
    size = sum(map(len, files.values()))
    answer = load(pool.workers["a"])
    assert (answer["done_files"], answer["failures"]) == (len(files), [])
    owners = {path: pool.owners(path) for path in files}
    pool.workers["a"].kill()
    pool.check("b", [path for path in files if "b" in owners[path]])
    assert pool.server.bytes.total() == size


def test_tiers_add_up(make_pool: MakePool) -> None:
    files = some_files(90, 2 * BLOCK)
    size = sum(map(len, files.values()))
    pool = make_pool(files, "abc", quota_bytes=size * 3 // 5)
    for _ in range(3):
        for name in pool.workers:
            pool.check(name, random.Random(name).sample(sorted(files), len(files)))
    assert pool.server.bytes.total() == size


def test_new_members_fill_from_those_before_them(make_pool: MakePool) -> None:
    files = some_files(60, 2 * BLOCK)
    size = sum(map(len, files.values()))
    pool = make_pool(files, "abc")
    pool.check("abc", files)
    pool.previous = ("a", "b", "c")
    pool.add("d")
    pool.publish()
    pool.check("d", files)
    pool.check("abc", files)
    assert pool.server.bytes.total() == size
    assert pool.workers["d"].counters["bytes_from_former_owner"] > 0


def test_a_draining_member_is_read_until_others_have_what_it_had(make_pool: MakePool) -> None:
    files = some_files(60, 2 * BLOCK)
    size = sum(map(len, files.values()))
    pool = make_pool(files, "abc")
    for worker in pool.workers.values():
        load(worker, owned=True)
    pool.previous, pool.draining = ("a", "b", "c"), ("c",)
    pool.publish()
    pool.check("ab", files)
    assert pool.server.bytes.total() == size
    pool.previous, pool.draining = (), ()
    pool.publish("a", "b")
    pool.workers["c"].kill()
    pool.check("ab", files)
    assert pool.server.bytes.total() == size


def test_workers_with_different_tiers_serve_one_definition(make_pool: MakePool) -> None:
    files = some_files(10, BLOCK)
    pool: Pool = make_pool(files, "ab", quota_bytes=64 * MIB)
    digests = {worker.status()["datasets"][0]["digest"] for worker in pool.workers.values()}
    assert len(digests) == 2
    pool.check("ab", files)
    assert pool.server.bytes.total() == sum(map(len, files.values()))
    assert replace(pool.definition, tiers=()).bytes_digest() == pool.definition.bytes_digest()
