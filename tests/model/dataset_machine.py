"""Random operations on a Dataset of four mounts, each step compared with the reference.

What is checked, and when:

* `fluid://`: exact at the first visit after a folder's time to live, which is next to nothing here.
* the mount: exact within `MOUNT_SECONDS` after that (the kernel holds a name for up to 1 s).
  Until then it shows what is there or what was there before, and whole versions only.
* a file that is open: the bytes of one version, or an error once that version left the source.
"""

from __future__ import annotations

import errno
import itertools
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from fluidpy.cache.tier import TierDefinition
from fluidpy.cli.attachment import ask
from fluidpy.namespace.definition import DatasetDefinition, MountDefinition
from fluidpy.testing.servers.seaweedfs import SeaweedServer
from tests.model.faces import Face, MountFace, OpenFile, Shown, UrlFace
from tests.model.place import BLOCK_BYTES, KIB, Place, until
from tests.model.reference import Content, Tree, expected, lies_in, new_content, paths_of
from tests.model.sources import AgedFolders, BucketSource, DirectorySource, RealSource

TTL_SECONDS = 0.02
MOUNT_SECONDS = 30.0
"""1 s for names in the kernel, the rest for a busy machine."""
QUOTA_BYTES = 1536 * KIB
"""Small: files leave often, and those over 192 KiB are kept in segments."""
SIZES = (0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 2 * BLOCK_BYTES + 77, 200 * KIB)
GONE = (errno.ESTALE, errno.ENOENT, errno.ENOTDIR, errno.EISDIR)

MOUNTS = ("", "c", "c/a", "b/a")
"""A directory at the root, a bucket beside its folders, a directory in the bucket, and a prefix of
the bucket below a folder that the first may or may not have, or have as a file."""

source_numbers = st.integers(0, len(MOUNTS) - 1)
paths = st.sampled_from([*paths_of("abc", 2), "a/b/c", "c/a/b", "b/a/c"])
sizes = st.sampled_from(SIZES)
faces = st.sampled_from(["mount", "url"])
offsets = st.sampled_from([0, 1, 4095, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 5])


@dataclass
class Handle:
    """A file that was opened; `candidates` are the versions it may be of."""

    path: str
    file: OpenFile
    candidates: list[Content]
    through: str


@dataclass
class Surroundings:
    """What all examples share."""

    place: Place
    server: SeaweedServer
    bucket: str
    aged: AgedFolders
    numbers: itertools.count[int]


class DatasetMachine(RuleBasedStateMachine):
    """One example: a new Dataset, its mount, and the sources below it."""

    surroundings: Surroundings

    def __init__(self) -> None:
        super().__init__()
        place = self.surroundings.place
        number = next(self.surroundings.numbers)
        base = place.base / f"sources{number}"
        bucket = self.surroundings.bucket
        first = DirectorySource(base / "outer", self.surroundings.aged)
        nested = DirectorySource(base / "nested", self.surroundings.aged)
        outer = BucketSource(self.surroundings.server, bucket, f"{number}/outer")
        inner = BucketSource(self.surroundings.server, bucket, f"{number}/inner")
        self.sources: list[RealSource] = [first, outer, nested, inner]
        mounts = zip(MOUNTS, self.sources, strict=True)
        self.definition = DatasetDefinition(
            name=f"model{number}",
            namespace="default",
            mounts=tuple(
                MountDefinition(f"m{index}", f"/{path}", source.source())
                for index, (path, source) in enumerate(mounts)
            ),
            tiers=(TierDefinition(str(place.base / "tier"), QUOTA_BYTES),),
            metadata_ttl_seconds=TTL_SECONDS,
        )
        self.place = place
        self.session = place.session(self.definition)
        self.url = UrlFace(self.session)
        self.mount = MountFace(place.mount_point)
        self.handles: list[Handle] = []
        self.before: list[Tree] = []
        """Trees that the mount may still show, besides the present one."""
        self.inodes: dict[str, tuple[int, int]] = {}
        place.mount(self.definition)

    # -- what is there ---------------------------------------------------------------------------

    def tree(self) -> Tree:
        return expected(
            [(path, source.model) for path, source in zip(MOUNTS, self.sources, strict=True)]
        )

    def change(self, work: Callable[[], None]) -> None:
        """Somebody changes a source: what was there before may be seen through the mount."""
        self.before.append(self.tree())
        work()

    def face(self, name: str) -> Face:
        return self.mount if name == "mount" else self.url

    def possible(self, name: str, path: str) -> list[Content | str | None]:
        """What may be seen at a path: contents, None for a folder, `absent`."""
        trees = [self.tree(), *(self.before if name == "mount" else ())]
        if name == "url":
            time.sleep(TTL_SECONDS)
        return [tree.get(path, "absent") if path else None for tree in trees]

    # -- somebody changes the sources ------------------------------------------------------------

    @initialize(
        files=st.lists(st.tuples(source_numbers, paths, sizes), max_size=6),
        published=st.sampled_from(["", "a", "b"]),
    )
    def begin(self, files: list[tuple[int, str, int]], published: str) -> None:
        for number, path, size in files:
            self.change(lambda n=number, p=path, s=size: self.sources[n].put(p, new_content(s)))  # type: ignore[misc]
        if published:
            self.publish(0, published)

    @rule(number=source_numbers, path=paths, size=sizes)
    def put(self, number: int, path: str, size: int) -> None:
        self.change(lambda: self.sources[number].put(path, new_content(size)))

    @rule(which=st.integers(0, 20), size=st.none() | sizes)
    def overwrite(self, which: int, size: int | None) -> None:
        """A file that is there gets other bytes: of the same length, often."""
        files = [
            (number, path)
            for number, source in enumerate(self.sources)
            for path in sorted(source.model.files)
        ]
        if files:
            number, path = files[which % len(files)]
            source = self.sources[number]
            length = len(source.model.files[path].data) if size is None else size
            self.change(lambda: source.put(path, new_content(length)))

    @rule(number=source_numbers, path=paths)
    def remove(self, number: int, path: str) -> None:
        self.change(lambda: self.sources[number].remove(path))

    @rule(number=source_numbers, old=paths, new=paths)
    def rename(self, number: int, old: str, new: str) -> None:
        self.change(lambda: self.sources[number].rename(old, new))

    @rule(number=st.sampled_from([0, 2]), path=st.sampled_from(["a", "b", "c", "a/b"]))
    def publish(self, number: int, path: str) -> None:
        source = self.sources[number]
        assert isinstance(source, DirectorySource)
        self.change(lambda: source.publish(path))

    # -- a user reads ----------------------------------------------------------------------------

    @rule(path=paths, through=faces)
    def stat(self, path: str, through: str) -> None:
        possible = self.possible(through, path)
        try:
            seen = self.face(through).stat(path)
        except OSError as error:
            accept(error, "absent" in possible, path, through)
            return
        sizes = [len(c.data) for c in possible if isinstance(c, Content)]
        assert (seen.is_folder and None in possible) or seen.size in sizes, (path, seen)

    @rule(path=st.just("") | paths, through=faces)
    def list_folder(self, path: str, through: str) -> None:
        possible = self.possible(through, path)
        try:
            names = self.face(through).names(path)
        except OSError as error:
            accept(error, any(one is not None for one in possible), path, through)
            return
        assert None in possible, f"{path} through {through} is no folder"
        if through == "url" or not self.before:
            assert names == _names(self.tree(), path)

    @rule(path=paths, start=offsets, length=offsets, through=faces)
    def read_range(self, path: str, start: int, length: int, through: str) -> None:
        possible = self.possible(through, path)
        try:
            data = self.face(through).read(path, start, start + length)
        except OSError as error:
            steady = isinstance(possible[0], Content) and set(possible) == {possible[0]}
            accept(error, not steady, path, through)
            return
        contents = [c for c in possible if isinstance(c, Content)]
        assert data in [c.data[start : start + length] for c in contents], (path, through)

    @rule(path=paths, through=faces)
    def open_for_later(self, path: str, through: str) -> None:
        contents = [c for c in self.possible(through, path) if isinstance(c, Content)]
        if not contents or len(self.handles) >= 6:
            return
        try:
            file = self.face(through).open(path)
        except OSError as error:
            accept(error, bool(self.before), path, through)
            return
        self.handles.append(Handle(path, file, contents, through))

    @rule(which=st.integers(0, 5), start=offsets, length=offsets)
    def read_open_file(self, which: int, start: int, length: int) -> None:
        if not self.handles:
            return
        handle = self.handles[which % len(self.handles)]
        try:
            got = handle.file.read(start, start + length)
        except OSError as error:
            left = self.tree().get(handle.path) not in handle.candidates or bool(self.before)
            accept(error, left, handle.path, handle.through)
            return
        fits = [c for c in handle.candidates if c.data[start : start + length] == got]
        assert fits, f"{handle.path} through {handle.through}: bytes of no version"
        handle.candidates = fits

    @rule()
    def close_file(self) -> None:
        if self.handles:
            self.handles.pop(0).file.close()

    # -- a user steers ---------------------------------------------------------------------------

    @rule(path=st.just("") | paths)
    def refresh(self, path: str) -> None:
        present = path == "" or path in self.tree()
        try:
            self.session.entry(path, refresh=True)
        except OSError as error:
            accept(error, not present, path, "refresh")
        else:
            assert present, f"{path} was refreshed and is not there"

    @rule()
    def load_metadata(self) -> None:
        done = self.steer("load", paths=["/"], metadata_only=True)
        assert done["failed"] == 0, done
        files = [content for content in self.tree().values() if content is not None]
        assert (done["files"], done["bytes"]) == (len(files), sum(len(c.data) for c in files))

    @rule(path=st.just("") | paths)
    def load(self, path: str) -> None:
        tree = self.tree()
        done = self.steer("load", paths=[path])
        files = [c for p, c in tree.items() if c is not None and lies_in(p, path)]
        if path and path not in tree:
            assert done["failed"] == 1, done
            return
        # Files that are pinned, or open a moment ago, may leave no room in so small a tier.
        for _, message in done["failures"]:
            assert "the cache has no room" in message, done
        assert done["done_files"] + done["failed"] == len(files), done

    @rule(path=paths, on=st.booleans())
    def pin(self, path: str, on: bool) -> None:
        self.steer_path("pin", path, on=on)

    @rule(path=st.just("") | paths)
    def evict(self, path: str) -> None:
        self.steer_path("evict", path)

    def steer(self, operation: str, **fields: Any) -> dict[str, Any]:
        time.sleep(TTL_SECONDS)
        return ask(self.session, operation, deadline=60.0, **fields)

    def steer_path(self, operation: str, path: str, **fields: Any) -> None:
        present = path == "" or path in self.tree()
        try:
            self.steer(operation, path=path, **fields)
        except OSError as error:
            accept(error, not present, path, operation)
        else:
            assert present, f"{operation} of {path}, which is not there"

    @rule(number=st.sampled_from([signal.SIGTERM, signal.SIGKILL]))
    def restart_worker(self, number: signal.Signals) -> None:
        self.place.end_worker(number)

    @rule()
    def remount(self) -> None:
        for handle in [h for h in self.handles if h.through == "mount"]:
            self.handles.remove(handle)
            handle.file.close()
        self.place.unmount()
        self.place.mount(self.definition)

    # -- all of it -------------------------------------------------------------------------------

    @rule()
    def compare(self) -> None:
        tree = self.tree()
        wanted = {path: None if c is None else c.data for path, c in tree.items()}
        time.sleep(TTL_SECONDS)
        assert_same(self.url.tree(), wanted, "fluid://")
        shown: list[Shown] = []

        def mount_shows_it() -> bool:
            try:
                shown[:] = [self.mount.tree()]
            except OSError as error:
                accept(error, True, "/", "mount")
                shown[:] = [{str(error): None}]
            return shown[0] == wanted

        if not until(mount_shows_it, MOUNT_SECONDS):
            assert_same(shown[0], wanted, "the mount")
        self.before.clear()
        self.check_inodes(tree)

    def check_inodes(self, tree: Tree) -> None:
        """A file that did not change keeps its inode number; both faces say the same."""
        inodes: dict[str, tuple[int, int]] = {}
        for path, content in tree.items():
            ino = self.mount.stat(path).ino
            assert ino == self.url.stat(path).ino, path
            serial = 0 if content is None else content.serial
            known = self.inodes.get(path)
            assert known is None or known[0] != serial or known[1] == ino or serial == 0, path
            inodes[path] = (serial, ino)
        assert len({ino for _, ino in inodes.values()}) == len(inodes), inodes
        self.inodes = inodes

    def teardown(self) -> None:
        try:
            self.compare()
        finally:
            for handle in self.handles:
                handle.file.close()
            self.session.connection.close()
            self.place.unmount()


def accept(error: OSError, may_be_gone: bool, path: str, through: str) -> None:
    """An error is right only where the path may be gone or another version."""
    if error.errno not in GONE or not may_be_gone:
        raise AssertionError(f"{path} through {through}: {error!r}") from error


def _names(tree: Tree, folder: str) -> set[str]:
    prefix = f"{folder}/" if folder else ""
    return {
        path[len(prefix) :]
        for path in tree
        if path.startswith(prefix) and "/" not in path[len(prefix) :]
    }


def assert_same(shown: Shown, wanted: Shown, face: str) -> None:
    """Says what differs, without the bytes."""
    differing = {
        path: (_brief(shown, path), _brief(wanted, path))
        for path in sorted(shown.keys() | wanted.keys())
        if _brief(shown, path) != _brief(wanted, path) or shown.get(path) != wanted.get(path)
    }
    assert not differing, f"{face} shows (first) instead of (second): {differing}"


def _brief(shown: Shown, path: str) -> str:
    if path not in shown:
        return "nothing"
    data = shown[path]
    return "a folder" if data is None else f"{len(data)} bytes {data[:8].hex()}"
