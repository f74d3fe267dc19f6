"""Trees that mounts bring along: a mount goes on by another worker when its own leaves the pool.

The kernel names files by rows of the catalog that the mount was served by, and no other catalog has
the same rows. So the other worker serves such a mount by a copy of that catalog: beside its own,
with the same sources and the same store. Ids go on in the copy where they were, so that one names
the same version of the same path for as long as the mount is there.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final

from fluidpy.errors import CacheError
from fluidpy.namespace.catalog_schema import connect_reader

FOLDER: Final = "taken"
"""Where the copies lie, beside the worker's own catalogs."""

PAGES_A_STEP: Final = 4096
"""Pages (4 KiB) that are copied at once; other threads run in between."""

UNUSED_SECONDS: Final = 24 * 3600.0
"""How long a copy that nobody has open is kept after it was last written."""


def take_over(catalog: Path, key: str, directory: Path) -> Path:
    """A copy of the catalog of the Dataset `key`, in a folder of `directory`. Blocks.

    One that lies there already is the copy. The same catalog, unchanged since, gives the same copy:
    several mounts of one worker share it. Raises CacheError when it cannot be copied, also while
    the worker that it was of has it open still.
    """
    folder = directory / FOLDER
    if catalog.parent == folder and catalog.exists():
        return catalog
    dataset = key.replace("/", ".", 1)
    if not catalog.name.startswith(f"{dataset}."):
        raise CacheError(
            f"{catalog} is no catalog of the Dataset {key}", cure="Mount the Dataset again."
        )
    try:
        with _alone(catalog):
            return _copied(catalog, folder, dataset)
    except (OSError, sqlite3.Error) as error:
        raise CacheError(
            f"catalog {catalog} cannot be taken over: {error}", cure="Mount the Dataset again."
        ) from error


def remove_unused(key: str, directory: Path, now: float) -> int:
    """Removes copies of catalogs of the Dataset `key` that were not used for a day, and what copies
    that were cut off left; how many. Blocks; nobody may take one over or open one meanwhile.

    `now` is epoch seconds. What cannot be removed stays.
    """
    name = re.compile(re.escape(key.replace("/", ".", 1)) + r"\.[0-9a-f]{16}\.sqlite(\.new)?")
    removed = 0
    for file in list((directory / FOLDER).iterdir()):
        if (found := name.fullmatch(file.name)) is None:
            continue
        with suppress(OSError, CacheError):
            if found[1]:
                file.unlink()
                removed += 1
            elif now - _last_written(file) > UNUSED_SECONDS:
                with _alone(file):
                    _remove(file)
                removed += 1
    return removed


def _last_written(catalog: Path) -> float:
    return max(file.stat().st_mtime for file in (catalog, Path(f"{catalog}-wal")) if file.exists())


def _remove(catalog: Path) -> None:
    for suffix in ("-wal", "-shm", ".aside", "", ".lock"):
        Path(f"{catalog}{suffix}").unlink(missing_ok=True)


@contextmanager
def _alone(catalog: Path) -> Iterator[None]:
    """As long as nobody else writes the catalog. Raises OSError, CacheError."""
    lock = os.open(f"{catalog}.lock", os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise CacheError(
            f"catalog {catalog} is in use by the worker that it was of",
            cure="It is tried again; that worker ends in a moment.",
        ) from None
    finally:
        os.close(lock)


def _copied(catalog: Path, folder: Path, dataset: str) -> Path:
    """The copy is there as a whole or not at all: it is renamed to its place."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with closing(connect_reader(catalog)) as source:
        copy = folder / f"{dataset}.{_state(catalog, source)}.sqlite"
        if copy.exists():
            return copy
        unfinished = folder / f"{copy.name}.new"
        unfinished.unlink(missing_ok=True)
        os.close(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        with closing(sqlite3.connect(unfinished)) as target:
            source.backup(target, pages=PAGES_A_STEP)
        unfinished.rename(copy)
    return copy


def _state(catalog: Path, source: sqlite3.Connection) -> str:
    """Names the catalog in its present state: ids are given once, so what has given no other id
    since has the same rows."""
    number = source.execute("SELECT value FROM meta WHERE name='next_id'").fetchone()
    text = f"{catalog}\0{catalog.stat().st_ino}\0{number}"
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()
