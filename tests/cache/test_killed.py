"""A store whose process is killed at any moment serves right bytes afterwards, or none."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fluidpy.cache.store import BlockStore
from tests.cache.conftest import BLOCK, content_of, key_of, on_disk, reconcile, used
from tests.cache.filling_process import OBJECTS, size_of, tiers_of

ROOT = Path(__file__).parents[2]


def kill_while_filling(root: Path, seed: int, after: float) -> None:
    command = [sys.executable, "-m", "tests.cache.filling_process", str(root), str(seed)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(after)
        process.send_signal(signal.SIGKILL)
        assert process.wait(60) == -signal.SIGKILL


def check(root: Path) -> int:
    """Compares every byte that the store says it has; returns how many objects have some."""
    found = 0
    store = BlockStore.open(tiers_of(str(root)), block_bytes=BLOCK)
    try:
        for number in range(OBJECTS):
            item = store.get(key_of(number))
            if item is None:
                continue
            content = content_of(number, item.size)
            assert item.size == size_of(number)
            holes = item.missing(0, item.size)
            for start in range(0, item.size, BLOCK):
                if any(a <= start < b for a, b in holes):
                    continue
                with item.lease(start) as (fd, offset, length):
                    size = min(BLOCK, length)
                    assert os.pread(fd, size, offset) == content[start : start + size]
                    found += 1
        store.flush()
        reconcile(store)
        disk = on_disk(*(Path(tier.directory) for tier in tiers_of(str(root))))
        assert used(store) == disk
        assert all(tier.used <= tier.quota_bytes for tier in store.usage())
    finally:
        store.close()
    return found


def kill_often(root: Path, times: int) -> None:
    chance = random.Random(times)
    found = 0
    for seed in range(times):
        kill_while_filling(root, seed, chance.uniform(0, 0.06))
        found += check(root)
    assert found > times


def test_kill_9_at_random_moments(tmp_path: Path) -> None:
    kill_often(tmp_path, 8)


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_kill_9_at_many_random_moments(tmp_path: Path) -> None:
    kill_often(tmp_path, 100)
