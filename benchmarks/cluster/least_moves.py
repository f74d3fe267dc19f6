"""How many bytes have to move when the members of a pool become others: what changes its owner."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from benchmarks.cluster.bed import KEY, WorkerPool
from fluidpy.cluster.membership import Membership
from fluidpy.cluster.placement import Placement, pieces_of, unit_of
from fluidpy.namespace.catalog import CatalogReader, Entry
from fluidpy.namespace.object_keys import KeySource, ObjectKeys


def bytes_that_move(pool: WorkerPool, before: Membership, after: Membership) -> int:
    """Bytes of the data set that others own by `after`, each once for each owner that it gets.

    For a placement that moves no more than it must, that is the share of whoever comes or goes.
    """
    old, new = Placement(before, KEY), Placement(after, KEY)
    moved = 0
    for key, size in _objects(pool):
        for start, end in pieces_of(0, size):
            unit = unit_of(key, start, size)
            coming = {each.name for each in new.owners(unit)}
            moved += (end - start) * len(coming - {each.name for each in old.owners(unit)})
    return moved


def _objects(pool: WorkerPool) -> list[tuple[bytes, int]]:
    """Key and size of each, by the catalog of the first worker."""
    attachment = next(iter(pool.workers.values())).session.attachment()
    with closing(CatalogReader(Path(attachment.catalog))) as reader:
        keys = ObjectKeys(reader, [KeySource.from_wire(each) for each in attachment.sources])
        found: list[tuple[bytes, int]] = []
        after = 0
        while page := reader.files(after):
            found += [_object(keys, entry) for entry in page]
            after = page[-1].id
        return found


def _object(keys: ObjectKeys, entry: Entry) -> tuple[bytes, int]:
    key = keys.key_of(entry)
    if key is None:
        raise RuntimeError(f"no mount has {entry.name!r}")
    return key, entry.size
