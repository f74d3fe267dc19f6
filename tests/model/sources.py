"""The real sources of the model test, changed by somebody else: a directory, a prefix of a bucket.

Each keeps its `model` in step with what it does.
"""

from __future__ import annotations

import itertools
import os
import shutil
import time
from collections import deque
from pathlib import Path
from typing import Protocol

import obstore

from fluidpy.storage.under_storage import MountSource
from fluidpy.testing.servers.seaweedfs import SeaweedServer
from tests.model.reference import Content, SourceModel, ancestors, lies_in, new_content

SETTLED_SECONDS = 2.1
"""After this long a file of a directory counts as settled."""
READY = 12
TICK_SECONDS = 0.011
"""Longer than a tick of any kernel's clock: two writes within one cannot be told apart."""


class RealSource(Protocol):
    """A source and its model."""

    model: SourceModel

    def source(self) -> MountSource: ...

    def put(self, path: str, content: Content) -> None: ...

    def remove(self, path: str) -> None: ...

    def rename(self, old: str, new: str) -> None: ...


class AgedFolders:
    """Folders written some seconds ago, so that their files have versions: renamed into a source,
    as a data set is often published."""

    def __init__(self, base: Path, sizes: tuple[int, ...]) -> None:
        base.mkdir()
        self._base = base
        self._sizes = sizes
        self._ready: deque[tuple[Path, dict[str, Content], float]] = deque()
        self._numbers = itertools.count()
        for _ in range(READY):
            self._make()

    def take(self) -> tuple[Path, dict[str, Content]]:
        """The oldest, and another is made; waits until its files are old enough."""
        folder, contents, ready_at = self._ready.popleft()
        time.sleep(max(0.0, ready_at - time.monotonic()))
        self._make()
        return folder, contents

    def _make(self) -> None:
        number = next(self._numbers)
        folder = self._base / str(number)
        contents = {
            name: new_content(self._sizes[number * step % len(self._sizes)])
            for name, step in (("a", 1), ("b", 3), ("c/a", 5))
        }
        (folder / "c").mkdir(parents=True)
        for name, content in contents.items():
            (folder / name).write_bytes(content.data)
        self._ready.append((folder, contents, time.monotonic() + SETTLED_SECONDS))


class DirectorySource:
    """A directory of this machine, as a NAS shows it."""

    def __init__(self, directory: Path, aged: AgedFolders) -> None:
        directory.mkdir(parents=True)
        self.directory = directory
        self.model = SourceModel(keeps_folders=True)
        self._aged = aged

    def source(self) -> MountSource:
        return MountSource(f"local://{self.directory}", self.directory.name)

    def put(self, path: str, content: Content) -> None:
        time.sleep(TICK_SECONDS)
        at = self._make_way(path)
        if at.is_file() and content.serial % 2:
            at.write_bytes(content.data)  # in its place
        else:
            self._delete(path)
            new = self.directory.with_suffix(".new")
            new.write_bytes(content.data)
            new.rename(at)
        self.model.put(path, content)

    def publish(self, path: str) -> None:
        """A folder that was written elsewhere takes the place of what is at `path`."""
        folder, contents = self._aged.take()
        at = self._make_way(path)
        self._delete(path)
        folder.rename(at)
        self.model.remove(path)
        for name, content in contents.items():
            self.model.put(f"{path}/{name}", content)

    def remove(self, path: str) -> None:
        self._delete(path)
        self.model.remove(path)

    def rename(self, old: str, new: str) -> None:
        if not os.path.lexists(self.directory / old) or lies_in(old, new) or lies_in(new, old):
            return
        at = self._make_way(new)
        self._delete(new)
        (self.directory / old).rename(at)
        self.model.rename(old, new)

    def _make_way(self, path: str) -> Path:
        for folder in ancestors(path):
            if (self.directory / folder).is_file():
                (self.directory / folder).unlink()
        at = self.directory / path
        at.parent.mkdir(parents=True, exist_ok=True)
        return at

    def _delete(self, path: str) -> None:
        at = self.directory / path
        if at.is_dir():
            shutil.rmtree(at)
        elif os.path.lexists(at):  # not so below a file, where unlink would be an error
            at.unlink()


class BucketSource:
    """A prefix of a bucket of a real S3 server."""

    def __init__(self, server: SeaweedServer, bucket: str, prefix: str) -> None:
        self._server, self._bucket, self._prefix = server, bucket, prefix
        self._store = server.store(bucket)
        self.model = SourceModel(keeps_folders=False)

    def source(self) -> MountSource:
        return self._server.source(self._bucket, self._prefix)

    def put(self, path: str, content: Content) -> None:
        for folder in ancestors(path):
            if folder in self.model.files:
                self._delete(folder)
        for key in list(self.model.files):
            if lies_in(key, path) and key != path:
                self._delete(key)
        obstore.put(self._store, f"{self._prefix}/{path}", content.data)
        self.model.put(path, content)

    def remove(self, path: str) -> None:
        for key in [key for key in self.model.files if lies_in(key, path)]:
            self._delete(key)

    def rename(self, old: str, new: str) -> None:
        """Copies and deletes: an object store has no rename."""
        if lies_in(old, new) or lies_in(new, old):
            return
        moved = {key: c for key, c in self.model.files.items() if lies_in(key, old)}
        if not moved:
            return
        self.remove(new)
        for key, content in moved.items():
            self.put(new + key[len(old) :], Content(new_content(0).serial, content.data))
        self.remove(old)

    def _delete(self, key: str) -> None:
        obstore.delete(self._store, f"{self._prefix}/{key}")
        self.model.remove(key)
        # SeaweedFS keeps folders that became empty; an object store has none.
        for folder in reversed(ancestors(key)):
            if not any(lies_in(other, folder) for other in self.model.files):
                self._server._request("DELETE", f"/{self._bucket}/{self._prefix}/{folder}/")
