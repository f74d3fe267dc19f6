"""While no owner of some bytes answers, one other worker fetches them for all."""

from __future__ import annotations

import contextlib
import random
import sqlite3
import time

from hypothesis import given
from hypothesis import strategies as st

from fluidpy.cluster.membership import Member
from fluidpy.worker.peer_routes import stand_in, stands_in
from tests.cluster_reading.bed import BLOCK, PoolWorker
from tests.cluster_reading.conftest import MakePool

NAMES = "abcde"
MEMBERS = [Member(name, f"127.0.0.1:{ord(name)}", "m", 1) for name in NAMES]
some_names = st.sets(st.sampled_from(NAMES))


@given(st.permutations(MEMBERS), st.integers(1, 3), some_names)
def test_all_that_see_the_same_choose_the_same(
    ranked: list[Member], replicas: int, well: set[str]
) -> None:
    owners = ranked[:replicas]
    asked: dict[str, str] = {}
    for name in well:  # each is well as it sees it
        step = stand_in(ranked, owners, name, well.__contains__)
        asked[name] = name if step is None else step.member.name
    if any(owner.name in well for owner in owners):
        assert asked == {name: name for name in well}
    else:
        assert len(set(asked.values())) <= 1
        own = {name for name in well if stands_in(ranked, owners, name, well.__contains__)}
        assert own == set(asked.values())
        assert set(asked.values()) <= well


@given(st.permutations(MEMBERS), some_names)
def test_nobody_who_leaves_stands_in(ranked: list[Member], draining: set[str]) -> None:
    members = [
        Member(each.name, each.address, "m", 1, draining=each.name in draining) for each in ranked
    ]
    step = stand_in(members, members[:1], "nobody", lambda name: name != members[0].name)
    staying = [each for each in members[1:] if not each.draining]
    assert (step.member if step is not None else None) == (staying[0] if staying else None)


def test_what_a_dead_worker_owned_is_fetched_once_for_all(make_pool: MakePool) -> None:
    files = {f"d/{n:02}": random.Random(n).randbytes(3 * BLOCK + n) for n in range(40)}
    files["large"] = random.Random(40).randbytes(40 * BLOCK)
    pool = make_pool(files, "abc")
    lost = pool.owned("c", "abc", files)
    pool.workers.pop("c").end()
    pool.check("ab", lost)
    size = sum(len(files[path]) for path in lost)  # twice that, if each asked the source itself
    assert size <= sum(pool.server.bytes.values()) <= 1.25 * size
    assert pool.counted("bytes_from_replica") > 0
    own = [size for name in "ab" for size in await_sizes_that_are_no_copies(pool.workers[name])]
    # What was read before the owner's end was noticed is a copy; so is what is read of another.
    assert len({len(files[path]) for path in lost} & set(own)) >= len(lost) // 2


def await_sizes_that_are_no_copies(worker: PoolWorker) -> list[int]:
    """The sizes of objects that the worker's index does not have as copies, once it is written."""
    index = worker.settings.cache_dir / "store" / "index.sqlite"
    seen: list[int] = []
    while True:
        time.sleep(0.2)  # it is written 20 times a second
        with contextlib.closing(sqlite3.connect(f"file:{index}?mode=ro", uri=True)) as reading:
            rows = reading.execute("SELECT size FROM file WHERE last_use >= 0 ORDER BY size")
            found = [int(size) for (size,) in rows]
        if found and found == seen:
            return found
        seen = found
