"""The stores of this machine: one for each distinct set of tier directories.

Datasets that declare the same directories share a store; a directory in two different sets is
refused, since two stores would count and evict the same files.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeAlias

from fluidpy.cache.index_schema import indexed_bytes
from fluidpy.cache.store import BlockStore
from fluidpy.cache.tier import TierDefinition, default_tier
from fluidpy.errors import CacheDirectoryError, CacheError, FluidpyError, ValidationError
from fluidpy.namespace.definition import DatasetDefinition
from fluidpy.settings import Settings

_log = logging.getLogger(__name__)

BOOT_ID_FILE: Final = Path("/proc/sys/kernel/random/boot_id")
"""Changes at each boot (random(4)): what an unclean stop may have left unwritten."""

MEMORY_DIRECTORY: Final = Path("/dev/shm")
"""Where a Dataset that must stay off disks is kept when it names no tier."""

OpenStore: TypeAlias = Callable[[Sequence[TierDefinition], int, str], BlockStore]


def open_block_store(tiers: Sequence[TierDefinition], block_bytes: int, token: str) -> BlockStore:
    """A BlockStore over tiers; raises as `BlockStore.open` does."""
    return BlockStore.open(tiers, block_bytes=block_bytes, clean_token=token)


class Stores:
    """Opens stores when a Dataset first needs them, and closes all at the end."""

    def __init__(self, settings: Settings, open_store: OpenStore = open_block_store) -> None:
        """Opens nothing yet."""
        self._settings = settings
        self._open_store = open_store
        self._by_directories: dict[tuple[str, ...], BlockStore] = {}
        self._declared: dict[tuple[str, ...], dict[str, tuple[TierDefinition, ...]]] = {}
        """The tiers that Datasets declare, by directories and key: each says how large they are."""
        self._default: dict[Path, tuple[BlockStore, str]] = {}
        """Default tiers that are open: store and medium by directory."""
        self._sharing = 1

    def __iter__(self) -> Iterator[BlockStore]:
        """All open stores."""
        return iter(list(self._by_directories.values()))

    @property
    def dirty(self) -> int:
        """Index changes of all stores that wait for `flush`."""
        return sum(store.dirty for store in self._by_directories.values())

    def default_tier_for(self, definition: DatasetDefinition) -> TierDefinition | None:
        """The default tier that a Dataset would open; None where that is open, or another declared.

        Slow where workers share a disk, as it sums up what each keeps: call it in a thread.
        """
        if definition.tiers or self._open_default(definition) is not None:
            return None
        return self._default_tier(definition)

    def _open_default(self, definition: DatasetDefinition) -> BlockStore | None:
        found = self._default.get(self._default_place(definition)[0])
        return None if found is None else found[0]

    def store_for(
        self, definition: DatasetDefinition, default: TierDefinition | None = None
    ) -> BlockStore:
        """The store of a Dataset; `default` is what `default_tier_for` gave a moment ago.

        Raises CacheDirectoryError when a directory cannot be used or belongs to another set,
        ValidationError when a Dataset that must stay off disks names a disk tier.
        """
        declared = self._own(definition.tiers)
        if not declared and (store := self._open_default(definition)) is not None:
            return store
        tiers = declared or (default or self._default_tier(definition),)
        if not definition.keep_on_disk:
            _refuse_disks(definition, tiers)
        directories = _directories(tiers)
        if (store := self._by_directories.get(directories)) is not None:
            return store
        for known in self._by_directories:
            if shared := set(known) & set(directories):
                if set(self._declared.get(known, ("",))) <= {definition.key}:
                    raise CacheDirectoryError(
                        f"Dataset {definition.key}: other cache directories take effect when its "
                        "worker starts again; until then who reads it goes on, and others wait",
                        cure="Start it again: fluidpy down, then fluidpy up.",
                    )
                raise CacheDirectoryError(
                    f"Dataset {definition.key}: cache directory {sorted(shared)[0]} is in use by"
                    f" another set of tiers ({', '.join(known)})",
                    cure="Give all Datasets that share a directory the same tieredstore.",
                )
        store = self._open_store(tiers, self._settings.block_bytes, _clean_token())
        self._by_directories[directories] = store
        if not declared:
            self._default[Path(tiers[0].directory)] = store, tiers[0].medium
        return store

    def size_for(self, definition: DatasetDefinition) -> None:
        """Lets the open store of a Dataset hold what that declares now.

        It grows at once, and shrinks as upkeep evicts. Where several Datasets share it, the largest
        of their quotas counts.
        """
        left = self._undeclare(definition.key)
        if tiers := self._own(definition.tiers):
            directories = _directories(tiers)
            self._declared.setdefault(directories, {})[definition.key] = tiers
            left.discard(directories)
            self._size(directories)
        for each in left:
            self._size(each)

    def forget(self, key: str) -> None:
        """What the Dataset `namespace/name` declared counts no longer: it is closed."""
        for directories in self._undeclare(key):
            self._size(directories)

    def _undeclare(self, key: str) -> set[tuple[str, ...]]:
        """The directories that it had declared."""
        return {d for d, declared in self._declared.items() if declared.pop(key, None)}

    def _size(self, directories: tuple[str, ...]) -> None:
        """A store that nobody declares any more stays as it is."""
        if not (declared := self._declared[directories]):
            return
        store = self._by_directories[directories]
        largest = [max(each, key=_quota_of) for each in zip(*declared.values(), strict=True)]
        if [tier.definition for tier in store.table.tiers] != largest:
            store.room.redefine(largest)

    def share_among(self, workers: int) -> None:
        """This worker's default tiers are one of so many on this machine, all of the same size.

        What is open grows or shrinks accordingly, from now on; where the free space cannot be told,
        it keeps its size.
        """
        if workers == self._sharing:
            return
        self._sharing = workers
        for directory, (store, medium) in list(self._default.items()):
            kept = store.usage()[-1].kept
            try:
                quota_bytes = self._shared_tier(directory, medium, kept).quota_bytes
            except (OSError, FluidpyError) as error:
                _log.error("cache directory %s keeps its size: %s", directory, error)
                continue
            store.room.resize(quota_bytes)

    def flush(self) -> None:
        """Writes queued index rows of all stores. Raises CacheError when one could not be written;
        its rows stay queued.
        """
        failed: CacheError | None = None
        for store in self._by_directories.values():
            try:
                store.flush()
            except CacheError as error:
                failed = failed or error
        if failed is not None:
            raise failed

    def close(self) -> None:
        """Closes all stores, marking a clean stop of those whose index could be written."""
        stores, self._by_directories = self._by_directories, {}
        self._declared.clear()
        self._default.clear()
        for store in stores.values():
            try:
                store.close()
            except CacheError as error:  # what it lost is fetched again
                _log.error("a store did not close cleanly: %s", error)

    def _own(self, tiers: Sequence[TierDefinition]) -> tuple[TierDefinition, ...]:
        """The tiers of this worker: several of one pool share a machine, and none its directory."""
        name = self._settings.member_name
        if not name:
            return tuple(tiers)
        return tuple(replace(tier, directory=_beside(tier.directory, name)) for tier in tiers)

    def _default_place(self, definition: DatasetDefinition) -> tuple[Path, str]:
        """Directory and medium of the default tier."""
        if definition.keep_on_disk:
            return self._settings.cache_dir / "store", "SSD"
        directory = MEMORY_DIRECTORY / f"fluidpy-{os.getuid()}" / "store"
        return Path(_beside(str(directory), self._settings.member_name)), "MEM"

    def _default_tier(self, definition: DatasetDefinition) -> TierDefinition:
        directory, medium = self._default_place(definition)
        kept = indexed_bytes(directory / "index.sqlite")
        return self._shared_tier(directory, medium, kept)

    def _shared_tier(self, directory: Path, medium: str, kept: int) -> TierDefinition:
        share = self._settings.default_quota_share / self._sharing
        if self._settings.member_name:
            kept += _kept_beside(directory)
        return default_tier(directory, share, kept_bytes=kept, medium=medium)


def _directories(tiers: Sequence[TierDefinition]) -> tuple[str, ...]:
    return tuple(os.path.realpath(tier.directory) for tier in tiers)


def _quota_of(tier: TierDefinition) -> int:
    return tier.quota_bytes


def _beside(directory: str, name: str) -> str:
    """The store's directory in a folder of that name, beside those of the pool's other workers."""
    place = Path(directory)
    return str(place.parent / name / place.name)


def _kept_beside(directory: Path) -> int:
    """Bytes on disk of the stores that the pool's other workers have beside this one.

    They share the free space as it was before any of them kept something. As far as their indexes
    are written; nothing of theirs is changed, and what cannot be read counts as nothing.
    """
    workers = directory.parent.parent
    kept = 0
    try:
        device = (directory if directory.exists() else workers).stat().st_dev
        for other in workers.iterdir():
            index = other / directory.name / "index.sqlite"
            if other != directory.parent and _lies_on(index, device):
                kept += indexed_bytes(index)
    except OSError:  # no worker was here yet
        return kept
    return kept


def _lies_on(file: Path, device: int) -> bool:
    try:
        return file.stat().st_dev == device
    except OSError:  # none there, or going
        return False


def _refuse_disks(definition: DatasetDefinition, tiers: Sequence[TierDefinition]) -> None:
    if disks := [tier.directory for tier in tiers if tier.medium != "MEM"]:
        raise ValidationError(
            f"Dataset {definition.key} is memory-only and has the disk tier {disks[0]}",
            cure="Give it MEM tiers, or take the annotation fluidpy.io/cache away.",
        )


def _clean_token() -> str:
    return BOOT_ID_FILE.read_text(encoding="ascii").strip()
