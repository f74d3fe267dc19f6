from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

from fluidpy.namespace.catalog import CatalogReader
from fluidpy.namespace.catalog_writer import CatalogWriter
from fluidpy.storage.under_storage import Kind, ObjectInfo
from tests.namespace.catalog_view import check, tree
from tests.namespace.listing_child import FOLDERS, listing

KILLS = 32


def _versions(infos: list[ObjectInfo]) -> dict[str, bytes]:
    return {info.path.rpartition("/")[2]: info.version for info in infos}


def _kill_after(path: Path, start: int, seconds: float) -> dict[int, int]:
    """Kills a writing process that long after its first change; the last step begun by folder."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.namespace.listing_child", str(path), str(start)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as child:
        assert child.stdout is not None
        first = child.stdout.readline()
        time.sleep(seconds)
        child.kill()
        lines = [first, *child.stdout.read().splitlines()]
    pairs = [line.split() for line in lines if len(line.split()) == 2]
    return {int(folder): int(step) for folder, step in pairs}


def test_a_killed_writer_leaves_each_folder_as_it_was_or_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "d.sqlite"
    chance = random.Random(7)
    start = 1
    held: dict[int, dict[str, bytes]] = {folder: {} for folder in range(FOLDERS)}
    rows: dict[int, tuple[str, bytes]] = {}
    while start <= 2 * KILLS:  # on a busy machine a life has one step only
        begun = _kill_after(path, start, chance.random() * 0.08)
        reader = CatalogReader(path)
        live = tree(reader, page=100)
        for folder, step in begun.items():
            files = {
                entry.name.decode(): entry.version
                for name, entry in live.items()
                if name.startswith(f"lists/f{folder}/")
            }
            old = _versions(listing(folder, step - 1)) if step > start else held[folder]
            assert files in (old, _versions(listing(folder, step)))
            held[folder] = files
        start = max(begun.values()) + 1
        for name, entry in live.items():
            seen = rows.setdefault(entry.id, (name, entry.version))
            assert seen == (name, entry.version)  # no row id is used twice, over all lives
            if entry.kind is Kind.DIRECTORY and name.startswith("walks/w"):
                below = [other for other in live if other.startswith(name + "/")]
                assert reader.listing(entry.id) is None or below
        reader.close()
        writer = CatalogWriter(path)
        assert not writer.rebuilt
        writer.close()
        check(path)
