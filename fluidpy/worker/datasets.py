"""All Datasets that a worker has open.

A Dataset is known by its key. Attaching it again with the same definition gives the same one; a
changed definition replaces namespace and store for what is opened from then on, while handles that
are open finish with the sources they were opened with. Nobody attached means that it is closed
when others need the place.

A mount whose worker left the pool brings its tree along (`taken_trees`): that is the same Dataset
once more, with a catalog of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from fluidpy.errors import DatasetNotFoundError, FluidpyError
from fluidpy.namespace.namespace import Namespace
from fluidpy.worker.attached_dataset import AttachedDataset, PeersFor
from fluidpy.worker.definition_changes import refuse_change
from fluidpy.worker.followed_changes import FollowedChanges
from fluidpy.worker.stores import Stores
from fluidpy.worker.taken_trees import remove_unused, take_over

if TYPE_CHECKING:
    from pathlib import Path

    from fluidpy.cache.store import BlockStore
    from fluidpy.namespace.catalog_rows import Changes
    from fluidpy.namespace.definition import DatasetDefinition
    from fluidpy.settings import Settings
    from fluidpy.storage.under_storage import MountSource, UnderStorage

_log = logging.getLogger(__name__)

UNATTACHED_KEPT: Final = 8
"""Datasets kept open although nobody is attached: the next short-lived process finds them ready."""

MOUNTS_ARE_BACK_SECONDS: Final = 600.0
"""After its start a worker keeps all copies of catalogs for so long: mounts come back to them."""

OpenStorage: TypeAlias = "Callable[[MountSource, Settings], UnderStorage]"

_Result = TypeVar("_Result")


class Datasets:
    """All Datasets of this worker."""

    def __init__(
        self,
        settings: Settings,
        stores: Stores,
        open_storage: OpenStorage,
        peers_for: PeersFor | None = None,
    ) -> None:
        """Opens nothing yet; `peers_for` knows the other workers of a pool."""
        self._peers_for = peers_for
        self._settings = settings
        self._stores = stores
        self._open_storage = open_storage
        self._by_key: dict[str, AttachedDataset] = {}
        self._by_id: dict[int, AttachedDataset] = {}
        self._followed: dict[int, FollowedChanges] = {}
        self._lost: dict[str, AttachedDataset] = {}
        """By place, those whose definition was changed in vain, and that of before failed, too."""
        self._locks: dict[str, asyncio.Lock] = {}
        self._next = 1
        self._since = time.monotonic()

    def __iter__(self) -> Iterator[AttachedDataset]:
        """All open Datasets, each once."""
        return iter([each for each in self._by_key.values() if each.tree is None])

    @property
    def with_trees(self) -> list[AttachedDataset]:
        """All open Datasets, and those of mounts that brought their trees along."""
        return list(self._by_key.values())

    def users_of(self, key: str) -> set[object]:
        """Who is attached to the Dataset `namespace/name`, or to a tree of it."""
        found = (each.users for each in self._known() if each.definition.key == key)
        return set().union(*found)

    def get(self, number: int) -> AttachedDataset:
        """The Dataset of that id. Raises DatasetNotFoundError."""
        dataset = self._by_id.get(number)
        if dataset is None:
            raise DatasetNotFoundError(
                f"the worker has no Dataset with the number {number}", cure="Attach it again."
            )
        return dataset

    def named(self, key: str) -> AttachedDataset:
        """The Dataset `namespace/name`, if it is in use. Raises DatasetNotFoundError."""
        dataset = self._by_key.get(key)
        if dataset is None or not dataset.users:
            raise DatasetNotFoundError(
                f"Dataset {key} is not in use on this machine",
                cure="Mount it first, or give its YAML file.",
            )
        return dataset

    async def attach(
        self, definition: DatasetDefinition, user: object, *, manage: bool = False
    ) -> AttachedDataset:
        """The Dataset of a definition, opened or brought up to date, with `user` attached.

        Whoever attaches to `manage` it, the control plane, says what its definition is, also while
        it is mounted; nobody else changes it then. Raises ValidationError, CacheError,
        SourceConfigurationError as namespace and store do; a Dataset that was open then stays as
        it was.
        """
        async with self._locks.setdefault(definition.key, asyncio.Lock()):
            dataset = self._by_key.get(definition.key, self._lost.get(definition.key))
            if dataset is None:
                await self._make_room()
                dataset = await _to_its_end(self._open(definition))
            elif self._differs(dataset, definition):
                if not manage and dataset.digest != definition.digest():
                    refuse_change(dataset, user)
                await _to_its_end(self._replace(dataset, definition))
            for tree in self._trees_of(definition.key):
                if self._differs(tree, definition):
                    await _to_its_end(self._replace(tree, definition))
            dataset.users.add(user)
            if manage:
                dataset.managers.add(user)
            return dataset

    async def attach_tree(self, key: str, catalog: Path, user: object) -> AttachedDataset:
        """The Dataset `namespace/name` with the rows of that catalog, `user` attached.

        The catalog is this worker's, or was another's, which has ended; then a copy is used from
        now on. What is open here goes on although nobody else uses it any more: as long as it is
        open, no other worker can take it over. Raises DatasetNotFoundError, CacheError.
        """
        async with self._locks.setdefault(key, asyncio.Lock()):
            tree = self._open_with(key, catalog) or await self._taken(self.named(key), catalog)
            tree.users.add(user)
            return tree

    def _open_with(self, key: str, catalog: Path) -> AttachedDataset | None:
        for each in self._by_key.values():
            if each.definition.key == key and each.namespace.catalog_path == catalog:
                return each
        return None

    async def _taken(self, own: AttachedDataset, catalog: Path) -> AttachedDataset:
        directory = own.namespace.catalog_path.parent
        copy = await asyncio.to_thread(take_over, catalog, own.definition.key, directory)
        if str(copy) not in self._by_key:
            await _to_its_end(self._open_tree(own, copy))
            if time.monotonic() - self._since > MOUNTS_ARE_BACK_SECONDS:
                key = own.definition.key
                await _to_its_end(asyncio.to_thread(remove_unused, key, directory, time.time()))
        return self._by_key[str(copy)]

    def _trees_of(self, key: str) -> list[AttachedDataset]:
        return [
            each for each in self._known() if each.tree is not None and each.definition.key == key
        ]

    def _known(self) -> list[AttachedDataset]:
        return [*self._by_key.values(), *self._lost.values()]

    def _differs(self, dataset: AttachedDataset, definition: DatasetDefinition) -> bool:
        return dataset.place in self._lost or dataset.digest != definition.digest()

    def detach(self, user: object, key: str | None = None) -> None:
        """The user is gone from all Datasets, or from the one named `namespace/name`."""
        for dataset in self._known():
            if key in (None, dataset.definition.key):
                dataset.users.discard(user)
                dataset.managers.discard(user)
                dataset.listeners.pop(user, None)
        self._lost = {place: dataset for place, dataset in self._lost.items() if dataset.users}

    async def close(self) -> None:
        """Closes all Datasets."""
        for dataset in self.with_trees:
            await self._close(dataset)

    async def _open_tree(self, own: AttachedDataset, tree: Path) -> AttachedDataset:
        """Counts as the Dataset itself: what its mounts read is read of that."""
        dataset = await self._open(own.definition, tree)
        dataset.counters = own.counters
        self._followed[dataset.id] = FollowedChanges(dataset)
        return dataset

    def _follow(self, own: AttachedDataset, changes: Changes) -> None:
        """A mount that brought its tree along hears of what its worker found in the own one."""
        for tree in self._trees_of(own.definition.key):
            if (followed := self._followed.get(tree.id)) and tree.place in self._by_key:
                followed.add(own, changes)

    async def _open(
        self, definition: DatasetDefinition, tree: Path | None = None
    ) -> AttachedDataset:
        store = await self._store_for(definition)
        namespace = await self._started(definition, tree)
        dataset = AttachedDataset(
            self._next,
            definition,
            namespace,
            store,
            self._settings.read_ahead_bytes,
            self._peers_for,
            tree,
        )
        self._next += 1
        if tree is None:
            dataset.on_change = self._follow
        self._stores.size_for(definition)
        self._enter(dataset)
        _log.info("Dataset %s: opened", dataset.place)
        return dataset

    async def _store_for(self, definition: DatasetDefinition) -> BlockStore:
        default = await asyncio.to_thread(self._stores.default_tier_for, definition)
        return self._stores.store_for(definition, default)

    async def _replace(self, dataset: AttachedDataset, definition: DatasetDefinition) -> None:
        """One namespace at a time may have the catalog, so the old one ends first."""
        store = await self._store_for(definition)
        old = dataset.definition
        await _end(dataset)
        try:
            namespace = await self._started(definition, dataset.tree)
        except Exception:  # storages of others may raise anything
            await self._go_on(dataset, old)
            raise
        self._stores.size_for(definition)
        dataset.adopt(definition, namespace, store)
        self._enter(dataset)
        dataset.tell(namespace.composed)
        _log.info("Dataset %s: its definition changed", definition.key)

    async def _go_on(self, dataset: AttachedDataset, definition: DatasetDefinition) -> None:
        """With a namespace as before. Where none starts nothing is served until somebody attaches
        the Dataset again.
        """
        try:
            namespace = await self._started(definition, dataset.tree)
        except Exception as error:  # noqa: BLE001 - storages of others may raise anything
            _log.error("Dataset %s: its former definition fails, too: %s", dataset.place, error)
            self._forget(dataset)
            self._lost[dataset.place] = dataset
        else:
            dataset.adopt(definition, namespace, dataset.store)
            self._enter(dataset)

    async def _started(self, definition: DatasetDefinition, tree: Path | None) -> Namespace:
        namespace = Namespace(
            definition, self._settings, open_storage=self._open_storage, catalog_path=tree
        )
        await namespace.start()
        return namespace

    async def _make_room(self) -> None:
        idle = [dataset for dataset in self._by_key.values() if not dataset.users]
        for dataset in idle[: max(0, len(idle) - UNATTACHED_KEPT + 1)]:
            lock = self._locks[dataset.definition.key]
            ended = self._by_id.get(dataset.id) is not dataset
            if not (ended or dataset.users or lock.locked()):  # else it is used or gone meanwhile
                async with lock:  # who wants it now waits, for one at a time may have its catalog
                    await _to_its_end(self._close(dataset))

    async def _close(self, dataset: AttachedDataset) -> None:
        self._forget(dataset)
        self._followed.pop(dataset.id, None)
        if all(each.definition.key != dataset.definition.key for each in self._known()):
            self._stores.forget(dataset.definition.key)
        dataset.end_background()
        await dataset.namespace.close()

    def _enter(self, dataset: AttachedDataset) -> None:
        self._lost.pop(dataset.place, None)
        self._by_key[dataset.place] = self._by_id[dataset.id] = dataset

    def _forget(self, dataset: AttachedDataset) -> None:
        self._by_key.pop(dataset.place, None)
        self._by_id.pop(dataset.id, None)


async def _end(dataset: AttachedDataset) -> None:
    """Ends what it does with its namespace; one that ends badly, as on a full disk, is ended."""
    dataset.end_background()
    try:
        await dataset.namespace.close()
    except FluidpyError as error:
        _log.error("Dataset %s: its catalog did not close cleanly: %s", dataset.place, error)


async def _to_its_end(work: Coroutine[Any, Any, _Result]) -> _Result:
    """What came of some work. If this is cancelled it ends only after the work, which goes on:
    between two namespaces a Dataset has none.
    """
    task = asyncio.get_running_loop().create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # nobody is left to be told
        raise
