"""A process that writes listings until it is killed: `-m tests.namespace.listing_child FILE STEP`.

It prints a line before each change: what the folders hold then is the old or the new listing.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from fluidpy.namespace.catalog_merge import CatalogMerge
from fluidpy.namespace.catalog_writer import CatalogWriter
from fluidpy.namespace.definition import DatasetDefinition, MountDefinition
from fluidpy.storage.under_storage import Kind, ListPage, MountSource, ObjectInfo

FOLDERS = 4


def listing(folder: int, step: int) -> list[ObjectInfo]:
    """What a folder holds at a step: some files stay, some change, some come and go."""
    infos = []
    for number in range(40):
        if (number + step) % 7 == 0:
            continue
        version = step if number % 3 == 0 else 0
        path = f"f{folder}/file-{number:03d}"
        infos.append(ObjectInfo(path, Kind.FILE, 10, 10**18 + version, b"v%d" % version))
    return infos


def walked(step: int) -> list[ListPage]:
    infos = [
        ObjectInfo(f"w{step % 3}/d{n % 5}/file-{n:03d}", Kind.FILE, 1, 10**18, b"%d" % (step % 4))
        for n in range(120)
    ]
    return [ListPage(infos[start : start + 16], []) for start in range(0, len(infos), 16)]


def main(path: str, step: int) -> None:
    mounts = [
        MountDefinition("lists", "/lists", MountSource("s3://lists")),
        MountDefinition("walks", "/walks", MountSource("s3://walks")),
    ]
    with_walks = DatasetDefinition("d", "default", tuple(mounts))
    writer = CatalogWriter(Path(path))
    writer.compose(with_walks)
    top = writer.composition.tops[0]
    added = writer.apply_listing(
        top, 0, [ObjectInfo(f"f{i}", Kind.DIRECTORY) for i in range(FOLDERS)], time.time(), {}
    ).added
    assert len(added) in (0, FOLDERS)
    rows = writer.connection.execute(
        "SELECT id FROM entry WHERE parent=? AND retired_at IS NULL ORDER BY name", (top,)
    ).fetchall()
    while True:
        for folder, (row,) in enumerate(rows):
            print(f"{folder} {step}", flush=True)
            writer.apply_listing(row, 0, listing(folder, step), time.time(), {})
        merge = CatalogMerge(writer, writer.composition.tops[1], 1, "", recursive=True)
        for page in walked(step):
            merge.add(page)
        merge.finish(time.time())
        if step % 5 == 0:
            writer.compose(DatasetDefinition("d", "default", tuple(mounts[:1])))
            writer.compose(with_walks)
        step += 1


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
