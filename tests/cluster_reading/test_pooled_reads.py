"""Workers that read for each other: each byte leaves the source once, and all bytes are right."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

from tests.cluster_reading.bed import BLOCK
from tests.cluster_reading.conftest import MakePool

MIB = 1024 * 1024


def contents(seed: int = 0) -> dict[str, bytes]:
    chance = random.Random(seed)
    sizes = [chance.randrange(1, 3 * BLOCK) for _ in range(30)] + [3 * MIB + 5, 20 * MIB + 1, 0]
    return {f"d{n % 3}/{n}": chance.randbytes(size) for n, size in enumerate(sizes)}


def test_every_object_leaves_the_source_once_for_all_workers(make_pool: MakePool) -> None:
    files = contents()
    pool = make_pool(files)

    def read_all(name: str) -> None:
        order = random.Random(name)
        pool.check(name, order.sample(sorted(files), len(files)))

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(read_all, pool.workers))
    for name in pool.workers:
        read_all(name)
    fetched = {path: pool.server.bytes[path] for path in files}
    assert fetched == {path: len(data) for path, data in files.items()}
    assert pool.counted("bytes_from_owner") > 2 * sum(map(len, files.values()))
    assert pool.counted("peers_failed") == pool.counted("peers_slow") == 0
