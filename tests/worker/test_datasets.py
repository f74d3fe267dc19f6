"""What becomes of open Datasets when another is opened, or a definition changed, and that fails."""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from fluidpy.cache.tier import TierDefinition
from fluidpy.errors import CacheFullError, DatasetNotFoundError
from fluidpy.namespace.catalog_rows import Changes
from fluidpy.namespace.definition import DatasetDefinition, MountDefinition
from fluidpy.settings import Settings
from fluidpy.storage.factory import open_storage
from fluidpy.storage.under_storage import MountSource, UnderStorage
from fluidpy.worker import datasets as module
from fluidpy.worker import followed_changes
from fluidpy.worker.attached_dataset import AttachedDataset
from fluidpy.worker.datasets import Datasets
from fluidpy.worker.stores import Stores


class Bed:
    """The Datasets of a worker, over one folder; its storages fail while `failing` is set."""

    def __init__(self, directory: Path, source: Path | None = None) -> None:
        self._source = source or directory / "nas"
        self._source.mkdir(exist_ok=True)
        (self._source / "file").write_bytes(b"x")
        settings = Settings(directory / "cache", directory / "run", block_bytes=4096)
        self.stores = Stores(settings)
        self.failing: set[str] = set()
        """Names of mounts."""
        self.datasets = Datasets(settings, self.stores, self._open)

    def definition(self, name: str, mount: str = "m") -> DatasetDefinition:
        source = MountSource(f"local://{self._source}", mount)
        return DatasetDefinition(name, "default", (MountDefinition(mount, "/", source),))

    def _open(self, source: MountSource, settings: Settings) -> UnderStorage:
        if source.label in self.failing:
            raise RuntimeError("a storage of another author")
        return open_storage(source, settings)


@pytest.fixture
async def bed(tmp_path: Path) -> AsyncIterator[Bed]:
    bed = Bed(tmp_path)
    yield bed
    await bed.datasets.close()
    bed.stores.close()


async def test_a_new_definition_whose_storage_raises_anything_leaves_the_old_one(bed: Bed) -> None:
    dataset = await bed.datasets.attach(bed.definition("data"), "user")
    bed.failing = {"other"}
    with pytest.raises(RuntimeError):
        await bed.datasets.attach(bed.definition("data", "other"), "user")
    assert await dataset.resolve("file")
    assert bed.datasets.named("default/data") is dataset


async def test_a_dataset_that_neither_definition_serves_is_opened_again_later(bed: Bed) -> None:
    dataset = await bed.datasets.attach(bed.definition("data"), "user")
    bed.failing = {"m", "other"}
    with pytest.raises(RuntimeError):
        await bed.datasets.attach(bed.definition("data", "other"), "user")
    assert not bed.datasets.with_trees, "nobody is led to a closed catalog"
    with pytest.raises(DatasetNotFoundError):
        bed.datasets.get(dataset.id)
    bed.failing.clear()
    await bed.datasets.attach(bed.definition("data"), "another user")
    again = bed.datasets.get(dataset.id)
    assert await again.resolve("file"), "who was attached goes on"
    assert again.users == {"user", "another user"}


async def test_a_definition_changes_although_the_old_catalog_does_not_close_cleanly(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = await bed.datasets.attach(bed.definition("data"), "user")
    close = dataset.namespace.close

    async def fails() -> None:
        await close()
        raise CacheFullError("the disk is full", cure="Free some space.")

    monkeypatch.setattr(dataset.namespace, "close", fails)
    wanted = replace(bed.definition("data"), metadata_ttl_seconds=7.0)
    assert await bed.datasets.attach(wanted, "user") is dataset
    assert dataset.definition == wanted
    assert await dataset.resolve("file")


async def test_what_was_closed_and_opened_again_meanwhile_is_not_closed(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "UNATTACHED_KEPT", 0)
    first = await bed.datasets.attach(bed.definition("first"), "user")
    await bed.datasets.attach(bed.definition("second"), "user")
    bed.datasets.detach("user")
    begun, go_on, close = asyncio.Event(), asyncio.Event(), first.namespace.close

    async def slowly() -> None:
        begun.set()
        await go_on.wait()
        await close()

    monkeypatch.setattr(first.namespace, "close", slowly)
    attaching = asyncio.create_task(bed.datasets.attach(bed.definition("third"), "user"))
    await begun.wait()
    await bed.datasets.attach(bed.definition("fourth"), "user")
    second = await bed.datasets.attach(bed.definition("second"), "user")
    go_on.set()
    await attaching
    assert bed.datasets.named("default/second") is second
    assert await second.resolve("file")


async def test_what_a_closed_dataset_declared_counts_no_longer(
    bed: Bed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "UNATTACHED_KEPT", 0)

    def declares(name: str, quota_bytes: int) -> DatasetDefinition:
        tiers = (TierDefinition(str(tmp_path / "tier"), quota_bytes),)
        return replace(bed.definition(name), tiers=tiers)

    small = await bed.datasets.attach(declares("small", 1 << 20), "user")
    await bed.datasets.attach(declares("large", 4 << 20), "another user")
    assert small.store.usage()[0].quota_bytes == 4 << 20
    bed.datasets.detach("another user")
    await bed.datasets.attach(bed.definition("third"), "user")
    assert small.store.usage()[0].quota_bytes == 1 << 20


@pytest.mark.parametrize("most_rows", [1000, 0])
async def test_a_mount_with_a_tree_of_its_own_hears_of_what_a_load_found(
    bed: Bed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most_rows: int
) -> None:
    monkeypatch.setattr(followed_changes, "MOST_ROWS", most_rows)
    never = replace(bed.definition("data"), metadata_ttl_seconds=math.inf)
    (tmp_path / "nas" / "folder").mkdir()
    catalog = await catalog_of_another(never, tmp_path)
    own = await bed.datasets.attach(never, "load")
    await own.namespace.load_metadata("", lambda _: None)
    tree = await bed.datasets.attach_tree("default/data", catalog, "mount")
    told: asyncio.Queue[str] = asyncio.Queue()

    def listener(dataset: AttachedDataset, changes: Changes) -> None:
        for row in (*changes.added, *changes.removed, *(new for _, new in changes.changed)):
            told.put_nowait(dataset.namespace.reader.path_of(row).decode())

    tree.listeners["mount"] = listener
    (tmp_path / "nas" / "file").write_bytes(b"another version")
    (tmp_path / "nas" / "folder" / "new").write_bytes(b"new")
    await own.namespace.load_metadata("", lambda _: None)
    async with asyncio.timeout(60):
        assert {await told.get(), await told.get()} == {"file", "folder/new"}
    assert (await tree.resolve("file")).size == len(b"another version")
    assert (await tree.resolve("folder/new")).size == 3


async def catalog_of_another(definition: DatasetDefinition, directory: Path) -> Path:
    """The catalog of a worker that has ended."""
    (directory / "other").mkdir(exist_ok=True)
    other = Bed(directory / "other", directory / "nas")
    known = await other.datasets.attach(definition, "mount")
    await known.namespace.load_metadata("", lambda _: None)
    await other.datasets.close()
    other.stores.close()
    return known.namespace.catalog_path


async def test_copies_of_catalogs_that_nobody_uses_any_more_are_removed(
    bed: Bed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    definition = bed.definition("data")
    own = await bed.datasets.attach(definition, "user")
    taken: list[AttachedDataset] = []
    left = own.namespace.catalog_path.parent / "taken"

    async def take_another() -> AttachedDataset:
        catalog = await catalog_of_another(definition, tmp_path)
        catalog.rename(tmp_path / "default.data.sqlite")  # the next one is another
        Path(f"{catalog}.lock").rename(tmp_path / "default.data.sqlite.lock")
        tree = await bed.datasets.attach_tree(
            definition.key, tmp_path / "default.data.sqlite", "mount"
        )
        taken.append(tree)
        for file in left.iterdir():  # as if it were two days ago
            os.utime(file, (1, time.time() - 2 * 86400))
        return tree

    ended = await take_another()
    await ended.namespace.close()
    (left / "default.data.0123456789abcdef.sqlite.new").touch()
    of_another = left / "default.data.x.0123456789abcdef.sqlite.new"
    of_another.touch()
    used = await take_another()
    assert ended.tree is not None
    assert ended.tree.exists(), "its mount may come back to a worker just started"
    monkeypatch.setattr(module, "MOUNTS_ARE_BACK_SECONDS", 0.0)
    latest = await take_another()
    assert {file.name for file in left.glob("*.sqlite*") if file.suffix in (".sqlite", ".new")} == {
        *(tree.namespace.catalog_path.name for tree in (used, latest)),
        of_another.name,
    }
    assert not list(left.glob(f"{ended.tree.name}*"))
