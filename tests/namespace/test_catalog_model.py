from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fluidpy.namespace.catalog import CatalogReader, Entry
from fluidpy.namespace.catalog_merge import CatalogMerge
from fluidpy.namespace.catalog_writer import CatalogWriter
from fluidpy.namespace.definition import DatasetDefinition, MountDefinition
from fluidpy.storage.under_storage import Kind, ListPage, MountSource, ObjectInfo
from tests.namespace.catalog_view import check, tree
from tests.namespace.fake_storage import file

NAMES = st.sampled_from(["a", "b", "a-", "ab", "c"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)


def shown(keys: dict[str, int]) -> dict[str, int | None]:
    """What a file system shows of these keys: None for a folder, which wins over a file."""
    result: dict[str, int | None] = {}
    for key, version in keys.items():
        parts = key.split("/")
        for depth in range(1, len(parts)):
            result["/".join(parts[:depth])] = None
        if key not in result:
            result[key] = version
    for key in keys:  # a folder may have come after the file of its name
        if any(other.startswith(key + "/") for other in keys):
            result[key] = None
    return result


class CatalogMachine(RuleBasedStateMachine):
    """A source that changes, listed and walked in all ways, against a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory(prefix="catalog-")
        self.path = Path(self.directory.name) / "c.sqlite"
        self.now = 1_800_000_000.0
        self.writer = CatalogWriter(self.path, lambda: self.now)
        mount = MountDefinition("m", "/", MountSource("s3://bucket"))
        self.writer.compose(DatasetDefinition("d", "default", (mount,)))
        self.reader = CatalogReader(self.path)
        self.keys: dict[str, int] = {}
        self.ids: dict[int, tuple[str, bytes]] = {}
        self.inodes: dict[int, str] = {}
        self.version = 0

    def teardown(self) -> None:
        self.reader.close()
        self.writer.close()
        check(self.path)
        self.directory.cleanup()

    @rule(path=PATHS)
    def put(self, path: str) -> None:
        self.version += 1
        self.keys[path] = self.version

    @rule(path=PATHS)
    def delete(self, path: str) -> None:
        for key in [key for key in self.keys if key == path or key.startswith(path + "/")]:
            del self.keys[key]

    @rule(path=PATHS, folder=st.booleans())
    def turn(self, path: str, folder: bool) -> None:
        """What is at `path` becomes a folder with a file in it, or a file."""
        self.walk_all(2, 0)
        self.delete(path)
        self.put(f"{path}/c" if folder else path)

    def _after(self, change: Callable[[], None], scope: str | None) -> None:
        """Runs a listing; compares what it had to bring, and that nothing else was touched."""
        before = tree(self.reader)
        generation = self.reader.generation()
        change()
        after = tree(self.reader)
        assert (after == before) or self.reader.generation() > generation
        if after == before:
            assert self.reader.generation() == generation
        for path, entry in after.items():
            old = before.get(path)
            if old is not None and old.kind == entry.kind:
                assert old.ino == entry.ino
                if old.version == entry.version:
                    assert old.id == entry.id
        self._remember(after)
        expected = shown(self.keys)
        if scope is None:
            assert {
                p: None if e.kind == 2 else int(e.version) for p, e in after.items()
            } == expected

    def _remember(self, entries: dict[str, Entry]) -> None:
        for path, entry in entries.items():
            assert self.ids.setdefault(entry.id, (path, entry.version)) == (path, entry.version)
            assert self.inodes.setdefault(entry.ino, path) == path
            assert self.reader.path_of(entry.id) == path.encode()

    def _listing(self, folder: str) -> list[ObjectInfo]:
        prefix = folder + "/" if folder else ""
        found = []
        for key in sorted(self.keys):
            if not key.startswith(prefix):
                continue
            name, slash, _ = key[len(prefix) :].partition("/")
            info = file(key, self.keys[key])
            found.append(ObjectInfo(prefix + name, Kind.DIRECTORY) if slash else info)
        return list(dict.fromkeys(found))

    def _walk(self, folder: str, page: int, order: int) -> list[ListPage]:
        prefix = folder + "/" if folder else ""
        keys = [key for key in self.keys if key.startswith(prefix)]
        keys.sort(key=lambda key: key if order == 0 else (hash((key, order)), key)[1][::-order])
        infos = [file(key, self.keys[key]) for key in keys]
        return [ListPage(infos[i : i + page], []) for i in range(0, len(infos), page)]

    @rule(data=st.data())
    def list_folder(self, data: st.DataObject) -> None:
        live = tree(self.reader)
        folders = {"": 1} | {p: e.id for p, e in live.items() if e.kind is Kind.DIRECTORY}
        folder = data.draw(st.sampled_from(sorted(folders)))
        listing = self._listing(folder)
        self._after(
            lambda: self._apply(folders[folder], listing, data.draw(st.booleans()), folder), folder
        )
        prefix = folder + "/" if folder else ""
        kinds: dict[str, Kind] = {}
        for info in listing:
            kinds[info.path] = max(kinds.get(info.path, Kind.FILE), info.kind)
        direct = {
            path: entry.kind
            for path, entry in tree(self.reader).items()
            if path.startswith(prefix) and "/" not in path[len(prefix) :]
        }
        assert direct == kinds

    def _apply(self, directory: int, listing: list[ObjectInfo], whole: bool, folder: str) -> None:
        if whole:
            self.writer.apply_listing(directory, 0, listing, self.now, {})
            return
        merge = CatalogMerge(self.writer, directory, 0, folder, recursive=False)
        for start in range(0, len(listing), 2):
            merge.add(ListPage(listing[start : start + 2], []))
        merge.finish(self.now)

    @rule(page=st.integers(1, 4), order=st.sampled_from([0, 1, -1]))
    def walk_all(self, page: int, order: int) -> None:
        def change() -> None:
            merge = CatalogMerge(self.writer, 1, 0, "", recursive=True)
            for one in self._walk("", page, order):
                merge.add(one)
            merge.finish(self.now)
            hidden = sum(self.keys[key] != shown(self.keys)[key] for key in self.keys)
            assert sum(merge.omitted.values()) == hidden
            assert merge.files == len(self.keys) - hidden

        self._after(change, None)
        for path, entry in tree(self.reader).items():
            if entry.kind is Kind.DIRECTORY:
                assert self.reader.listing(entry.id) is not None, path
        assert self.reader.totals() == (
            sum(v is not None for v in shown(self.keys).values()),
            10 * sum(v is not None for v in shown(self.keys).values()),
        )

    @precondition(lambda self: self.keys)
    @rule(page=st.integers(1, 3), pages=st.integers(0, 2))
    def walk_cut_off(self, page: int, pages: int) -> None:
        before = tree(self.reader)

        def change() -> None:
            merge = CatalogMerge(self.writer, 1, 0, "", recursive=True)
            for one in self._walk("", page, 0)[:pages]:
                merge.add(one)

        self._after(change, "")
        for path, entry in before.items():
            if path in shown(self.keys) and entry.kind is Kind.DIRECTORY:
                assert path in tree(self.reader)  # nothing is removed by half a walk

    @rule(seconds=st.sampled_from([1.0, 90_000.0]))
    def purge(self, seconds: float) -> None:
        self.now += seconds
        self._after(self._purge, "")

    def _purge(self) -> None:
        assert self.writer.purge() >= 0

    @rule()
    def reopen(self) -> None:
        self.reader.close()
        self.writer.close()
        self.writer = CatalogWriter(self.path, lambda: self.now)
        mount = MountDefinition("m", "/", MountSource("s3://bucket"))
        assert not self.writer.compose(DatasetDefinition("d", "default", (mount,))).any()
        self.reader = CatalogReader(self.path)

    @invariant()
    def ids_grow(self) -> None:
        assert all(entry_id < self.writer.next_id for entry_id in self.ids)


CatalogMachine.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestCatalog = CatalogMachine.TestCase
