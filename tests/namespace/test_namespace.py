from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from fluidpy.errors import (
    NotADirectoryInDatasetError,
    PathNotFoundError,
    SourceConfigurationError,
    SourceUnavailableError,
)
from fluidpy.namespace import listing_flights
from fluidpy.namespace.catalog_merge import CatalogMerge
from fluidpy.namespace.catalog_rows import Changes
from fluidpy.namespace.definition import DatasetDefinition, MountDefinition
from fluidpy.namespace.metadata_load import MetadataProgress
from fluidpy.namespace.namespace import Namespace
from fluidpy.settings import Settings, load_settings
from fluidpy.storage.under_storage import (
    Kind,
    ListPage,
    MountSource,
    ObjectInfo,
    OmittedKey,
    UnderStorage,
)
from tests.namespace.catalog_view import check, tree
from tests.namespace.fake_storage import FakeStorage, file

DOWN = SourceUnavailableError("the source does not answer")


class Setting:
    """A Namespace over fake sources by mount path, and a clock that stands still."""

    def __init__(self, directory: Path) -> None:
        environ = {"HOME": str(directory), "FLUIDPY_CONFIG": str(directory / "none")}
        self.settings: Settings = load_settings(environ)
        self.sources: dict[str, FakeStorage] = {}
        self.now = 1_800_000_000.0
        self.changes: list[Changes] = []
        self.open: list[Namespace] = []
        self.opener: Callable[[MountSource, Settings], UnderStorage] = self.open_storage

    async def start(self, *paths: str, **fields: Any) -> Namespace:
        made = [
            MountDefinition(path, path, MountSource(f"fake://{path}")) for path in paths or ("/",)
        ]
        for mount in made:
            self.sources.setdefault(mount.path, FakeStorage(source_id=mount.source.url))
        definition = replace(DatasetDefinition("d", "default", tuple(made)), **fields)
        namespace = Namespace(definition, self.settings, self.opener, lambda: self.now)
        namespace.on_change.append(self.changes.append)
        await namespace.start()
        self.open.append(namespace)
        return namespace

    def open_storage(self, source: MountSource, settings: Settings) -> UnderStorage:
        return self.sources[source.url.removeprefix("fake://")]

    @property
    def source(self) -> FakeStorage:
        return self.sources.setdefault("/", FakeStorage(source_id="fake:///"))


@pytest.fixture
async def setting(tmp_path: Path) -> AsyncIterator[Setting]:
    setting = Setting(tmp_path)
    yield setting
    for namespace in setting.open:
        await namespace.close()
        check(namespace.catalog_path)
    assert all(source.closed for source in setting.sources.values())


async def test_folders_are_listed_on_the_way_and_once(setting: Setting) -> None:
    setting.source.put(file("a/b/c"), file("a/x"))
    namespace = await setting.start()
    entry = await namespace.resolve("/a/b/c")
    assert (entry.name, entry.kind, entry.size, entry.version) == (b"c", Kind.FILE, 10, b"1")
    assert setting.source.requests == ["list ", "list a", "list a/b"]
    await namespace.resolve("a/x")
    await namespace.lookup(entry.parent, b"c")
    assert len(setting.source.requests) == 3
    with pytest.raises(PathNotFoundError, match="/a/none does not exist"):
        await namespace.resolve("a/none")
    with pytest.raises(NotADirectoryInDatasetError, match="/a/x is not a folder"):
        await namespace.resolve("a/x/y")
    with pytest.raises(NotADirectoryInDatasetError, match="/a/x is not a folder"):
        await namespace.ensure_listed((await namespace.resolve("a/x")).id)


async def test_many_ask_and_one_lists_and_who_leaves_does_not_stop_it(setting: Setting) -> None:
    setting.source.put(file("a"))
    namespace = await setting.start()
    waiting = [asyncio.create_task(namespace.lookup(1, b"a")) for _ in range(20)]
    await asyncio.sleep(0)
    for task in waiting[::2]:
        task.cancel()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert sum(isinstance(result, asyncio.CancelledError) for result in results) == 10
    assert {result.name for result in results if not isinstance(result, BaseException)} == {b"a"}
    assert setting.source.requests == ["list "]


@pytest.mark.parametrize("step", ["add", "finish"])
async def test_what_a_broken_off_load_has_changed_is_told(
    setting: Setting, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    setting.source.put(file("changed"), file("gone"))
    namespace = await setting.start()
    await namespace.load_metadata("/", lambda _: None)
    del setting.source.files["gone"]
    setting.source.put(file("changed", 2))
    setting.changes.clear()
    in_thread, go_on = threading.Event(), threading.Event()
    merge = getattr(CatalogMerge, step)

    def merge_slowly(self: CatalogMerge, *arguments: Any) -> Any:
        in_thread.set()
        go_on.wait(30)
        return merge(self, *arguments)

    monkeypatch.setattr(CatalogMerge, step, merge_slowly)
    loading = asyncio.create_task(namespace.load_metadata("/", lambda _: None))
    await asyncio.to_thread(in_thread.wait, 30)
    loading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loading
    go_on.set()
    await namespace.purge()  # in the same thread, and so after it
    changed = [pair for changes in setting.changes for pair in changes.changed]
    removed = [row for changes in setting.changes for row in changes.removed]
    assert len(changed) == 1
    assert len(removed) == (step == "finish")


async def test_a_listing_of_the_future_is_not_fresh(setting: Setting) -> None:
    setting.source.put(file("a"))
    setting.now += 10 * 365 * 86_400.0  # the machine started with a wrong clock
    namespace = await setting.start(metadata_ttl_seconds=30.0)
    await namespace.resolve("a")
    setting.now -= 10 * 365 * 86_400.0
    setting.source.put(file("a", 2))
    assert (await namespace.resolve("a")).version == b"2"
    requests = len(setting.source.requests)
    assert (await namespace.resolve("a")).version == b"2"
    assert len(setting.source.requests) == requests


async def test_a_folder_that_failed_before_the_clock_was_set_back_is_tried_again(
    setting: Setting,
) -> None:
    setting.source.put(file("a"))
    namespace = await setting.start(metadata_ttl_seconds=30.0)
    await namespace.resolve("a")
    setting.now += 86_400.0
    setting.source.error, setting.source.error_after = DOWN, 0
    assert (await namespace.resolve("a")).version == b"1"
    setting.source.error = None
    setting.source.put(file("a", 2))
    setting.now -= 3_600.0
    assert (await namespace.resolve("a")).version == b"2"


async def test_a_visit_after_the_ttl_sees_what_changed_and_touches_nothing_else(
    setting: Setting,
) -> None:
    setting.source.put(file("same"), file("changed"), file("gone"))
    namespace = await setting.start(metadata_ttl_seconds=30.0)
    before = {name: await namespace.resolve(name) for name in ("same", "changed", "gone")}
    setting.changes.clear()
    del setting.source.files["gone"]
    setting.source.put(file("changed", 2), file("new"))
    setting.now += 29
    assert not (await namespace.ensure_listed(1)).any()
    setting.now += 2
    changes = await namespace.ensure_listed(1)
    after = tree(namespace.reader)
    assert after["same"] == before["same"]
    assert changes.changed == [(before["changed"].id, after["changed"].id)]
    assert after["changed"].ino == before["changed"].ino
    assert changes.removed == [before["gone"].id]
    assert changes.added == [after["new"].id]
    assert setting.changes == [changes]


@pytest.mark.parametrize(("ttl", "requests"), [(math.inf, 1), (None, 2)])
async def test_never_again_and_the_settings_ttl(
    setting: Setting, ttl: float | None, requests: int
) -> None:
    setting.source.put(file("a"))
    namespace = await setting.start(metadata_ttl_seconds=ttl)
    await namespace.resolve("a")
    setting.now += 301
    await namespace.resolve("a")
    assert len(setting.source.requests) == requests
    await namespace.ensure_listed(1, max_age=0.0)
    assert len(setting.source.requests) == requests + 1


async def test_a_source_that_is_down_leaves_what_was_known(
    setting: Setting, caplog: pytest.LogCaptureFixture
) -> None:
    setting.source.put(file("a"), file("d/x"))
    namespace = await setting.start()
    entry = await namespace.resolve("a")
    folder = await namespace.resolve("d")
    setting.source.error = DOWN
    setting.now += 1000
    assert await namespace.resolve("a") == entry
    assert namespace.listing_failures == 1
    assert "folder '' could not be listed and is served as it was" in caplog.text
    asked = len(setting.source.requests)
    await namespace.resolve("a")
    assert len(setting.source.requests) == asked  # not again at once
    with pytest.raises(SourceUnavailableError):
        await namespace.ensure_listed(folder.id)  # never listed: nothing to serve
    with pytest.raises(SourceUnavailableError):
        await namespace.refresh("a", False)
    setting.source.error = None
    setting.source.put(file("b"))
    setting.now += 20
    assert (await namespace.resolve("b")).live


async def test_a_folder_that_is_gone_leaves_its_parent_too(setting: Setting) -> None:
    setting.source.strict = True
    setting.source.put(file("d/x"), file("other"))
    namespace = await setting.start()
    entry = await namespace.resolve("d/x")
    del setting.source.files["d/x"]
    setting.now += 1000
    await namespace.ensure_listed(1)
    setting.source.put(file("d/x"))
    setting.now += 1000
    entry = await namespace.resolve("d/x")
    del setting.source.files["d/x"]
    setting.now += 200
    await namespace.ensure_listed(1, max_age=1000.0)
    setting.now += 200
    with pytest.raises(PathNotFoundError):
        await namespace.lookup(entry.parent, b"x")
    assert sorted(tree(namespace.reader)) == ["other"]


async def test_a_whole_source_that_is_missing_is_not_an_empty_one(setting: Setting) -> None:
    setting.source.strict = True
    setting.source.put(file("a"))
    namespace = await setting.start()
    await namespace.resolve("a")
    setting.source.files.clear()
    setting.now += 1000
    assert (await namespace.resolve("a")).live


async def test_many_mounts_make_one_tree(setting: Setting) -> None:
    setting.sources = {
        "/": FakeStorage({"in/hidden": file("in/hidden"), "top": file("top")}, strict=True),
        "/in": FakeStorage({"f": file("f")}, source_id="fake:///in"),
        "/x/y": FakeStorage({"g": file("g")}, source_id="fake:///x/y"),
    }
    namespace = await setting.start("/", "/in", "/x/y")
    report = await namespace.load_metadata("/", lambda progress: None)
    assert report.files == 3
    assert sorted(tree(namespace.reader)) == ["in", "in/f", "top", "x", "x/y", "x/y/g"]
    with pytest.raises(PathNotFoundError):
        await namespace.resolve("in/hidden")
    located = namespace.locate((await namespace.resolve("x/y/g")).id)
    assert (located.path, located.mount.path) == ("g", "/x/y")
    assert located.storage is setting.sources["/x/y"]
    await namespace.ensure_listed((await namespace.resolve("x")).id, max_age=0.0)
    keys = {namespace.object_key(entry) for entry in tree(namespace.reader).values() if entry.size}
    assert len(keys) == 3
    assert all(len(key) == 16 for key in keys)


@pytest.mark.parametrize("gently", [False, True])
async def test_loading_metadata_tells_progress_and_what_was_left_out(
    setting: Setting, gently: bool
) -> None:
    setting.source.put(*(file(f"d{n % 3}/f{n:04d}") for n in range(100)), file("d1"))
    setting.source.omitted = [OmittedKey("d2//x", "empty path part")]
    namespace = await setting.start()
    seen: list[MetadataProgress] = []
    report = await namespace.load_metadata("", seen.append, gently=gently)
    assert (report.files, report.bytes) == (100, 1000)
    assert report.omitted == {"a file that is also a folder": 1, "empty path part": 1}
    assert seen[-1].files == 100
    assert namespace.reader.totals() == (100, 1000)
    asked = len(setting.source.requests)
    await namespace.resolve("d1/f0001")
    assert len(setting.source.requests) == asked  # all folders are known
    setting.changes.clear()
    again = await namespace.load_metadata("d0", seen.append)
    assert again.files == 34
    assert not setting.changes


@dataclass
class GatedStorage(FakeStorage):
    """Its first walk waits after the first page until it is let go on; pages are counted."""

    def __post_init__(self) -> None:
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()
        self.pages: dict[int, int] = {}

    async def walk(self, path: str) -> AsyncIterator[ListPage]:
        number = len(self.pages)
        self.pages[number] = 0
        async for page in super().walk(path):
            self.pages[number] += 1
            yield page
            if number == 0 and self.pages[0] == 1:
                self.begun.set()
                await self.go_on.wait()


@pytest.mark.parametrize("asked", ["load", "refresh", "load of what is above"])
async def test_a_listing_that_is_asked_for_takes_the_place_of_a_gentle_one(
    setting: Setting, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    monkeypatch.setattr(listing_flights, "PAGE_ENTRIES", 3)
    source = setting.sources["/"] = GatedStorage(source_id="fake:///")
    source.put(*(file(f"d{n % 3}/f{n:04d}") for n in range(90)))
    namespace = await setting.start()
    part = "d1" if asked == "load of what is above" else ""
    gentle = asyncio.create_task(namespace.load_metadata(part, lambda _: None, gently=True))
    await source.begun.wait()
    if asked == "refresh":
        work = asyncio.create_task(namespace.refresh("", recursive=True))
    else:
        report = namespace.load_metadata("", lambda _: None)
        work = asyncio.create_task(report)  # type: ignore[arg-type]  # whatever it gives
    await asyncio.sleep(0)
    source.go_on.set()
    await work
    assert source.pages[0] <= 3, "the gentle one gave way at its next page"
    assert (await gentle).files == (30 if part else 90)
    assert namespace.reader.totals() == (90, 900)
    assert namespace.reader.is_whole()
    assert len(source.pages) == (3 if part else 2), "listed once more if need"


@pytest.mark.parametrize("cancelled", [False, True])
async def test_a_gentle_listing_stands_still_for_one_of_a_part_and_goes_on(
    setting: Setting, monkeypatch: pytest.MonkeyPatch, cancelled: bool
) -> None:
    monkeypatch.setattr(listing_flights, "PAGE_ENTRIES", 3)
    source = setting.sources["/"] = GatedStorage(source_id="fake:///")
    source.put(*(file(f"d{n % 3}/f{n:04d}") for n in range(90)))
    namespace = await setting.start()
    gentle = asyncio.create_task(namespace.load_metadata("", lambda _: None, gently=True))
    await source.begun.wait()
    source.put(file("d1/new"))
    pages_when_done: list[int] = []

    async def load(path: str) -> None:
        assert (await namespace.load_metadata(path, lambda _: None)).files
        pages_when_done.append(source.pages[0])
        if cancelled:
            gentle.cancel()

    parts = [asyncio.create_task(load(path)) for path in ("d1", "d2")]
    await asyncio.sleep(0)
    source.go_on.set()
    await asyncio.gather(*parts)
    assert max(pages_when_done) <= 3, "the gentle one stands still meanwhile"
    if cancelled:
        with pytest.raises(asyncio.CancelledError):
            await gentle
        await namespace.load_metadata("", lambda _: None)
    else:
        assert (await gentle).files in (90, 91)
        assert len(source.pages) == 3, "what it had listed is not listed again"
    assert namespace.reader.totals()[0] == 91
    assert namespace.reader.is_whole()


async def test_a_load_that_is_cut_off_removes_nothing_and_marks_nothing(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing_flights, "PAGE_ENTRIES", 2)
    setting.source.put(file("a/1"), file("b/1"), file("z/old"))
    namespace = await setting.start()
    await namespace.resolve("z/old")
    del setting.source.files["z/old"]
    setting.source.put(file("a/2"), file("c/1"))
    setting.source.error, setting.source.error_after = DOWN, 3
    with pytest.raises(SourceUnavailableError):
        await namespace.load_metadata("", lambda _: None)
    shown = tree(namespace.reader)
    assert {"a/1", "a/2", "z/old"} <= set(shown)
    assert namespace.reader.listing(shown["a"].id) is None
    setting.source.error = None
    report = await namespace.load_metadata("", lambda _: None)
    assert report.files == 4
    assert sorted(tree(namespace.reader)) == ["a", "a/1", "a/2", "b", "b/1", "c", "c/1"]


async def test_refresh_of_a_file_a_folder_and_all_below(setting: Setting) -> None:
    setting.source.put(file("d/a"), file("d/e/b"))
    namespace = await setting.start(metadata_ttl_seconds=math.inf)
    await namespace.resolve("d/e/b")
    setting.source.put(file("d/a", 2), file("d/e/b", 2), file("d/n"))
    changes = await namespace.refresh("/d/a", False)
    assert (len(changes.changed), len(changes.added)) == (1, 1)
    changes = await namespace.refresh("d", True)
    assert (len(changes.changed), len(changes.added)) == (1, 0)
    assert not (await namespace.refresh("", True)).any()
    setting.source.put(file("new/deep"))
    assert (await namespace.refresh("new", False)).added
    assert (await namespace.resolve("new/deep")).live


async def test_refresh_finds_what_is_new_on_the_way_too(setting: Setting) -> None:
    setting.source.put(file("a"))
    namespace = await setting.start(metadata_ttl_seconds=math.inf)
    await namespace.resolve("a")
    setting.source.put(file("new/and/deep"))
    await namespace.refresh("new/and/deep", False)
    assert (await namespace.resolve("new/and/deep")).live
    with pytest.raises(PathNotFoundError):
        await namespace.refresh("not/there/at/all", False)


async def test_a_very_long_folder_is_merged_in_pieces(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing_flights, "ONE_TRANSACTION", 10)
    monkeypatch.setattr(listing_flights, "PAGE_ENTRIES", 7)
    setting.source.put(*(file(f"{n:03d}") for n in range(100)), file("sub/x"))
    namespace = await setting.start()
    assert len((await namespace.ensure_listed(1)).added) == 101
    below = (await namespace.resolve("sub/x")).id
    del setting.source.files["050"]
    setting.source.put(file("051", 2))
    changes = await namespace.ensure_listed(1, max_age=0.0)
    assert (len(changes.removed), len(changes.changed), len(changes.added)) == (1, 1, 0)
    assert namespace.reader.get(below) is not None
    assert len(tree(namespace.reader)) == 101


async def test_symlinks_are_followed_inside_the_dataset(setting: Setting) -> None:
    def link(path: str, target: str) -> ObjectInfo:
        return ObjectInfo(path, Kind.SYMLINK, 1, 1, b"v", None, target)

    setting.source.put(
        file("real/f"),
        link("to", "real"),
        link("d/up", "../to"),
        link("loop", "loop"),
        link("out", "/etc"),
        link("f", "real/f"),
    )
    namespace = await setting.start()
    assert (await namespace.resolve("to/f")).name == b"f"
    assert (await namespace.resolve("d/up/f")).name == b"f"
    assert (await namespace.resolve("f")).kind is Kind.SYMLINK
    with pytest.raises(PathNotFoundError, match="loop of symlinks"):
        await namespace.resolve("loop/x")
    with pytest.raises(PathNotFoundError, match="points out of the Dataset"):
        await namespace.resolve("out/passwd")


async def test_what_is_known_survives_a_restart(setting: Setting) -> None:
    setting.source.put(file("a/b"))
    first = await setting.start()
    entry = await first.resolve("a/b")
    await first.close()
    second = await setting.start()
    assert await second.resolve("a/b") == entry
    assert setting.source.requests == ["list ", "list a"]


async def test_options_that_cannot_work_leave_nothing_open(setting: Setting) -> None:
    def refuse(source: MountSource, settings: Settings) -> UnderStorage:
        if source.url == "fake:///bad":
            raise SourceConfigurationError("bad option")
        return setting.sources[source.url.removeprefix("fake://")]

    setting.opener = refuse
    with pytest.raises(SourceConfigurationError):
        await setting.start("/good", "/bad")
    del setting.sources["/bad"]
    assert setting.sources["/good"].closed


def test_a_definition_crosses_the_wire_whole_and_its_digest_tells_secrets() -> None:
    source = MountSource("s3://b", "m", {"a": "1"}, {"key": "hidden"})
    made = DatasetDefinition(
        "d", "ns", (MountDefinition("m", "/", source),), metadata_ttl_seconds=math.inf, uid=5
    )
    again = DatasetDefinition.from_wire(made.to_wire())
    assert again == made
    assert again.digest() == made.digest()
    assert len(made.digest()) == 32
    assert "hidden" not in repr(made)
    other = replace(source, secrets={"key": "other"})
    rotated = replace(made, mounts=(MountDefinition("m", "/", other),))
    assert rotated.digest() != made.digest()
