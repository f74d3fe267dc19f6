# ruff: noqa: D102  # names of tests say what they check
"""What every under storage must do, as tests to inherit.

    class TestMyStorage(StorageSuite):
        @pytest.fixture
        async def storage(self, server): ...          # the driver under test, opened
        @pytest.fixture
        def seed(self, server) -> Seed: ...           # writes to the source, not by the driver

`seed` takes files as a mapping of paths to bytes, replaces files that are there, and returns when
the source shows them. A class sets the flags below to what its source can do. Needs pytest and
pytest-asyncio (`asyncio_mode = "auto"`, or mark the class).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import ClassVar

import pytest

from fluidpy.errors import SourceChangedError, SourceError, SourceNotFoundError
from fluidpy.storage.under_storage import (
    Kind,
    ObjectInfo,
    OmittedKey,
    UnderStorage,
)
from fluidpy.testing.sample_tree import TREE, children

__all__ = ["TREE", "Seed", "StorageSuite", "listed", "walked"]

Seed = Callable[[Mapping[str, bytes]], None]


async def listed(storage: UnderStorage, path: str) -> tuple[list[ObjectInfo], list[OmittedKey]]:
    """All pages of a folder as one."""
    entries: list[ObjectInfo] = []
    omitted: list[OmittedKey] = []
    async for page in storage.list(path):
        entries += page.entries
        omitted += page.omitted
    return entries, omitted


async def walked(storage: UnderStorage, path: str) -> list[ObjectInfo]:
    """All pages of a tree as one."""
    return [entry async for page in storage.walk(path) for entry in page.entries]


class StorageSuite:
    """Tests of the promises in `UnderStorage`."""

    versions: ClassVar[bool] = True
    """The source can tell versions apart."""
    empty_prefix_is_a_folder: ClassVar[bool] = False
    """A folder that is not there lists as empty, as in object stores."""
    tree: ClassVar[Mapping[str, bytes]] = TREE
    """The files to start from; a source that cannot hold some leaves them out."""

    @pytest.fixture(autouse=True)
    def _seeded(self, seed: Seed) -> None:
        seed(self.tree)

    async def test_lists_the_children_of_a_folder_once(self, storage: UnderStorage) -> None:
        for folder in ("", "train", "names"):
            entries, omitted = await listed(storage, folder)
            assert omitted == []
            assert sorted(e.path for e in entries) == children(self.tree, folder)

    async def test_says_which_children_are_folders(self, storage: UnderStorage) -> None:
        entries, _ = await listed(storage, "")
        kinds = {entry.path: entry.kind for entry in entries}
        assert kinds["train"] is Kind.DIRECTORY
        assert kinds["top.bin"] is Kind.FILE

    async def test_walks_all_files_below(self, storage: UnderStorage) -> None:
        for folder in ("", "train"):
            files = [e for e in await walked(storage, folder) if e.kind is Kind.FILE]
            below = {
                p: d for p, d in self.tree.items() if p.startswith(f"{folder}/" * bool(folder))
            }
            assert {e.path: e.size for e in files} == {p: len(d) for p, d in below.items()}
            assert len(files) == len(below)

    async def test_stat_agrees_with_the_listing(self, storage: UnderStorage) -> None:
        for entry in await walked(storage, ""):
            assert await storage.stat(entry.path) == entry

    async def test_stat_knows_folders_and_the_root(self, storage: UnderStorage) -> None:
        for path in ("", "train", "train/deep"):
            assert (await storage.stat(path)).kind is Kind.DIRECTORY

    async def test_reads_every_file(self, storage: UnderStorage) -> None:
        for entry in await walked(storage, ""):
            if entry.kind is Kind.FILE:
                data = await storage.read(entry.path, 0, entry.size, entry.version)
                assert bytes(data) == self.tree[entry.path]

    async def test_reads_exactly_the_range(self, storage: UnderStorage) -> None:
        content = self.tree["top.bin"]
        info = await storage.stat("top.bin")
        for start, end in [(0, 1), (1, 1), (255, 258), (1000, 2048), (2047, 2048)]:
            data = await storage.read("top.bin", start, end, info.version)
            assert bytes(data) == content[start:end]

    async def test_reads_many_ranges_at_once(self, storage: UnderStorage) -> None:
        content = self.tree["top.bin"]
        info = await storage.stat("top.bin")
        ranges = [(n, n + 100) for n in range(0, 1900, 50)]
        parts = await asyncio.gather(
            *(storage.read("top.bin", start, end, info.version) for start, end in ranges)
        )
        assert [bytes(part) for part in parts] == [content[s:e] for s, e in ranges]

    async def test_a_range_past_the_end_is_an_error(self, storage: UnderStorage) -> None:
        info = await storage.stat("train/0001.jpg")
        for start, end in [(2990, 3001), (4000, 4010)]:
            with pytest.raises(SourceError):
                await storage.read("train/0001.jpg", start, end, info.version)

    async def test_what_is_not_there_is_not_found(self, storage: UnderStorage) -> None:
        with pytest.raises(SourceNotFoundError):
            await storage.stat("no/such/file")
        with pytest.raises(SourceNotFoundError):
            await storage.read("no-such-file", 0, 1, b"")
        if self.empty_prefix_is_a_folder:
            assert await listed(storage, "no-such-folder") == ([], [])
        else:
            with pytest.raises(SourceNotFoundError):
                await listed(storage, "no-such-folder")

    async def test_a_version_is_short_and_stays(self, storage: UnderStorage) -> None:
        first, second = await storage.stat("top.bin"), await storage.stat("top.bin")
        assert first.version == second.version
        assert bool(first.version) == self.versions
        assert len(first.version) <= 64

    async def test_an_old_version_is_never_read(self, storage: UnderStorage, seed: Seed) -> None:
        if not self.versions:
            return
        old = await storage.stat("train/0001.jpg")
        seed({"train/0001.jpg": b"NEW" * 1000})
        with pytest.raises(SourceChangedError):
            await storage.read("train/0001.jpg", 0, old.size, old.version)
        new = await storage.stat("train/0001.jpg")
        assert new.version != old.version
        data = await storage.read("train/0001.jpg", 0, 3, new.version)
        assert bytes(data) == b"NEW"

    async def test_no_version_reads_what_is_there(self, storage: UnderStorage, seed: Seed) -> None:
        seed({"train/0002.jpg": b"other"})
        assert bytes(await storage.read("train/0002.jpg", 0, 5, b"")) == b"other"

    async def test_added_and_removed_files_are_noticed(
        self, storage: UnderStorage, seed: Seed
    ) -> None:
        await listed(storage, "train")
        seed({"train/0003.jpg": b"three"})
        entries, _ = await listed(storage, "train")
        assert "train/0003.jpg" in {entry.path for entry in entries}
        assert (await storage.stat("train/0003.jpg")).size == 5

    async def test_a_listing_may_be_left_early(self, storage: UnderStorage) -> None:
        async for _ in storage.walk(""):
            break
        assert (await storage.stat("top.bin")).size == len(self.tree["top.bin"])

    async def test_a_cancelled_read_harms_no_other(self, storage: UnderStorage) -> None:
        info = await storage.stat("top.bin")
        cancelled = asyncio.ensure_future(storage.read("top.bin", 0, 100, info.version))
        kept = asyncio.ensure_future(storage.read("top.bin", 0, 100, info.version))
        await asyncio.sleep(0)
        cancelled.cancel()
        assert bytes(await kept) == self.tree["top.bin"][:100]

    def test_names_source_and_identity(self, storage: UnderStorage) -> None:
        assert isinstance(storage, UnderStorage)
        assert storage.source_id
        assert len(storage.identity) == 16
