"""Workers that die, stall, lie or disagree: readers get the right bytes, in time."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from fluidpy.cluster.membership import Membership
from tests.cluster_network.raw_http import TcpProxy
from tests.cluster_reading.bed import BLOCK, DATASET, Pool
from tests.cluster_reading.conftest import MakePool
from tests.cluster_reading.proxies import proxy_before

MIB = 1024 * 1024


def some_files(count: int = 24, size: int = 3 * BLOCK, seed: int = 0) -> dict[str, bytes]:
    chance = random.Random(seed)
    return {f"d/{n:02}": chance.randbytes(size + n) for n in range(count)}


def owned_by(pool: Pool, name: str) -> list[str]:
    return [path for path in pool.files if pool.owners(path)[0] == name]


@pytest.fixture
def with_proxy(make_pool: MakePool) -> Iterator[tuple[Pool, TcpProxy]]:
    """Workers `a` and `b`; `a` reaches `b` through a proxy that the test may spoil."""
    pool = make_pool(some_files(), "ab", source_deadline_seconds=20.0)
    pool.check("b", owned_by(pool, "b"))
    with proxy_before(pool.workers["b"].address) as proxy:
        pool.publish(addresses={"b": proxy.address})
        pool.server.bytes.clear()
        yield pool, proxy


def test_an_owner_killed_while_it_is_read_costs_no_byte(make_pool: MakePool) -> None:
    # So many that one of two workers cannot own all of them by chance.
    files = {f"f{n}": random.Random(n).randbytes(8 * MIB + n) for n in range(24)}
    pool = make_pool(files, "ab")
    paths = owned_by(pool, "b")
    reader, killed = pool.workers["a"].main, False
    for path in paths:
        data = files[path]
        for start in range(0, len(data), MIB):
            if start == 5 * MIB and not killed:
                pool.workers["b"].kill()
                killed = True
            assert reader.read(path, start, start + MIB) == data[start : start + MIB]
    counters = pool.workers["a"].counters
    assert counters["bytes_from_owner"] > 0
    assert counters["bytes_from_source"] > 0
    assert counters["peers_failed"] > 0


def test_without_any_other_worker_the_source_is_read(make_pool: MakePool) -> None:
    pool = make_pool(some_files(), "abc")
    pool.workers["b"].kill()
    pool.workers["c"].kill()
    pool.check("a", pool.files)
    assert pool.workers["a"].counters["peers_slow"] == 0  # refused at once, none was waited for
    assert pool.server.bytes.total() == sum(map(len, pool.files.values()))


def test_an_owner_with_another_definition_is_not_read(make_pool: MakePool) -> None:
    pool = make_pool(some_files(), "ab")
    other = pool.workers["b"]
    (mount,) = pool.definition.mounts
    source = replace(mount.source, options={**mount.source.options, "max_requests": "7"})
    other.main.close()
    session = other.session(replace(pool.definition, mounts=(replace(mount, source=source),)))
    session.attachment()
    pool.check("a", pool.files)
    counters = pool.workers["a"].counters
    assert counters["bytes_from_owner"] == 0
    assert counters["peers_failed"] > 0
    assert "another definition" in pool.workers["a"].log()


def test_an_owner_that_stalls_is_given_up_and_then_left_out(
    with_proxy: tuple[Pool, TcpProxy],
) -> None:
    pool, proxy = with_proxy
    proxy.stall_after = 100
    first, *others = owned_by(pool, "b")
    pool.check("a", [first])  # in vain it would be waited for until the deadline, and then fail
    assert pool.workers["a"].counters["peers_slow"] > 0
    pool.check("a", others[:4])
    assert pool.workers["a"].counters["peers_left_out"] > 0


def test_an_owner_whose_bytes_are_spoilt_on_the_way_is_not_believed(
    with_proxy: tuple[Pool, TcpProxy],
) -> None:
    pool, proxy = with_proxy
    proxy.change = lambda at, data: data if at < 2000 else bytes(each ^ 1 for each in data)
    paths = owned_by(pool, "b")
    pool.check("a", paths)
    assert pool.workers["a"].counters["peers_failed"] > 0
    assert pool.server.bytes.total() > 0


def test_an_owner_that_is_cut_off_in_the_middle_costs_no_byte(
    with_proxy: tuple[Pool, TcpProxy],
) -> None:
    pool, proxy = with_proxy
    proxy.cut_after = 70000
    pool.check("a", owned_by(pool, "b"))


def test_a_slow_owner_is_helped_by_a_replica(make_pool: MakePool) -> None:
    pool = make_pool(some_files(72), "abc", replicas=2)
    # Only a few: there is a budget of second requests.
    paths = [path for path in pool.files if pool.owners(path) == ("b", "c")][:3]
    pool.check("bc", paths)
    with proxy_before(pool.workers["b"].address) as b, proxy_before(pool.workers["c"].address) as c:
        pool.publish(addresses={"b": b.address, "c": c.address})
        pool.server.bytes.clear()
        b.bytes_per_second = 20_000  # so an object takes 10 s, and is given up after 5
        pool.check("a", paths)
    counters = pool.workers["a"].counters
    assert counters["hedges_won"] > 0
    assert counters["peers_slow"] == 0  # nobody was waited for until he was given up
    assert counters["bytes_from_replica"] > 0
    assert pool.server.bytes.total() == 0


def test_a_membership_file_that_is_damaged_changes_nothing(make_pool: MakePool) -> None:
    pool = make_pool(some_files(), "ab")
    membership = pool.file.read_bytes()
    pool.file.write_bytes(membership[: len(membership) // 2])
    worker = pool.workers["a"]
    until = time.monotonic() + 60
    while "the pool stays as it was" not in worker.log():
        assert time.monotonic() < until
    pool.check("a", pool.files)
    assert worker.counters["bytes_from_owner"] > 0
    pool.file.unlink()
    pool.check("b", pool.files)
    assert pool.server.bytes.total() == sum(map(len, pool.files.values()))


def test_the_token_is_in_no_log(make_pool: MakePool) -> None:
    pool = make_pool(some_files(), "ab")
    known: Membership = pool.publish()
    assert known.datasets[DATASET].token not in pool.workers["a"].log()
