"""`fluid://DATASET[.NAMESPACE]/PATH` for fsspec, and so for pandas, pyarrow, zarr and others.

Paths in results begin with the Dataset as it was written, like buckets of an object store. Options
(`storage_options`), all plain values:

* `file`: a YAML file or folder that declares the Dataset (else: see `fluidpy.client.locate`);
* `namespace`: the namespace of Datasets whose URL names none, `default` by default;
* `cache_dir`, `runtime_dir`: instead of the settings of those names.

The sync methods speak to the worker from the calling thread; they do not hop through fsspec's I/O
thread, and so work after a fork and inside a running loop. The async ones run them in threads.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any, ClassVar

from fsspec.asyn import AsyncFileSystem, get_loop, sync
from fsspec.callbacks import DEFAULT_CALLBACK
from fsspec.spec import AbstractFileSystem

from fluidpy.client.awaited import Awaited, ThreadPools
from fluidpy.client.bulk_read import Range, Result, read_many
from fluidpy.client.file import DatasetFile, ObjectReader
from fluidpy.client.protocol import RemoteEntry
from fluidpy.client.read_only import ReadOnly, read_only_error
from fluidpy.client.session import DIRECTORY, DatasetSession
from fluidpy.client.symlinks import SYMLINK
from fluidpy.client.versions import version_of
from fluidpy.errors import IsADirectoryInDatasetError, SourceChangedError


class FluidFileSystem(ReadOnly, Awaited, AsyncFileSystem):  # type: ignore[misc]  # fsspec has no types
    """Datasets, read-only, through this user's worker."""

    protocol: ClassVar[str] = "fluid"
    async_impl = True
    mirror_sync_methods = False  # the sync methods below, and fsspec's own over them, need no loop
    root_marker = ""

    def __init__(
        self,
        file: str | None = None,
        namespace: str | None = None,
        cache_dir: str | None = None,
        runtime_dir: str | None = None,
        asynchronous: bool = False,
        loop: asyncio.AbstractEventLoop | None = None,
        batch_size: int | None = None,
        **storage_options: Any,
    ) -> None:
        """Costs nothing; Datasets are looked up, and the worker is asked, on first use."""
        AbstractFileSystem.__init__(self, use_listings_cache=False, **storage_options)
        self.asynchronous = asynchronous
        self.batch_size = batch_size
        self.file = file
        self.namespace = namespace
        self._cache_dir = cache_dir
        self._runtime_dir = runtime_dir
        self._loop = loop
        self._pid = os.getpid()
        self._sessions: dict[str, DatasetSession] = {}
        self._pools = ThreadPools()
        self._lock = threading.Lock()

    # -- where things are ------------------------------------------------------------------------

    @property
    def fsid(self) -> str:
        """An id that other processes of this machine share."""
        return f"fluid-{self.file or ''}-{self.namespace or 'default'}"

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """fsspec's I/O loop, started on first use and anew after a fork; None if asynchronous."""
        self._renew_after_fork()
        if self._loop is None and not self.asynchronous:
            self._loop = get_loop()
        return self._loop

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if type(path) is str and path[:1] != "/" and path[-1:] != "/" and ":" not in path:
            return path  # plain already, as the paths of our own answers are
        if isinstance(path, list):
            return [cls._strip_protocol(one) for one in path]
        return super()._strip_protocol(path).lstrip("/")

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, Any]:
        """Nothing: the Dataset is part of the path, and options are never part of a URL."""
        return {}

    @classmethod
    def _parent(cls, path: str) -> str:
        return str(cls._strip_protocol(path)).rpartition("/")[0]

    def _renew_after_fork(self) -> None:
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._lock = threading.Lock()
            self._loop = None

    def _session(self, dataset: str) -> DatasetSession:
        session = self._sessions.get(dataset)
        if session is None:
            self._renew_after_fork()
            with self._lock:
                session = self._sessions.get(dataset)
                if session is None:
                    session = self._sessions[dataset] = self._new_session(dataset)
        return session

    def _new_session(self, dataset: str) -> DatasetSession:
        from fluidpy.client.locate import Locator

        locator = Locator.from_options(self.file, self.namespace, self._overrides())
        return DatasetSession(partial(locator.find, dataset), locator.settings)

    def _overrides(self) -> dict[str, str]:
        named = {"cache_dir": self._cache_dir, "runtime_dir": self._runtime_dir}
        return {name: os.fspath(value) for name, value in named.items() if value is not None}

    def _split(self, path: Any) -> tuple[DatasetSession, str]:
        """The session of the Dataset that a path begins with, and the path inside it."""
        dataset, _, inside = str(self._strip_protocol(path)).partition("/")
        if not dataset:
            raise IsADirectoryInDatasetError(
                "fluid:// names no Dataset", cure="Use fluid://DATASET/PATH."
            )
        return self._session(dataset), inside

    # -- metadata --------------------------------------------------------------------------------

    def info(self, path: str, refresh: bool = False, **_: Any) -> dict[str, Any]:
        """What lies at a path: `name`, `size` (bytes), `type`, `mtime` (epoch seconds), `version`.

        `refresh` asks the source. Raises PathNotFoundError, DatasetNotFoundError, SourceError.
        """
        name = str(self._strip_protocol(path))
        if not name:
            return _folder_info("")
        session, inside = self._split(name)
        return _info(name, session.entry(inside, refresh=refresh))

    def ls(self, path: str, detail: bool = True, refresh: bool = False, **_: Any) -> list[Any]:
        """What lies in a folder (the folder's entries) or at a file (itself). As `info`."""
        name = str(self._strip_protocol(path))
        listing = self._listing(name, refresh)
        return listing if detail else [info["name"] for info in listing]

    def _listing(self, name: str, refresh: bool) -> list[dict[str, Any]]:
        if not name:
            return self._datasets()
        session, inside = self._split(name)
        if refresh:
            session.entry(inside, refresh=True)
        try:
            entries = session.listdir(inside)
        except NotADirectoryError:
            return [self.info(name)]
        return [self._child(f"{name}/{os.fsdecode(entry.name)}", entry) for entry in entries]

    def _child(self, name: str, entry: RemoteEntry) -> dict[str, Any]:
        """A child as `info` tells of it; a symlink to nothing is of type `link`."""
        if entry.kind != SYMLINK:
            return _info(name, entry)
        try:
            return {**self.info(name), "islink": True}
        except (FileNotFoundError, NotADirectoryError):
            return {**_info(name, entry), "type": "link", "size": 0, "islink": True}

    def _datasets(self) -> list[dict[str, Any]]:
        from fluidpy.client.locate import Locator

        locator = Locator.from_options(self.file, self.namespace, self._overrides())
        return [_folder_info(name) for name in locator.names()]

    def walk(
        self,
        path: Any,
        maxdepth: int | None = None,
        topdown: bool = True,
        on_error: Any = None,
        detail: bool = False,
        **kwargs: Any,
    ) -> Iterator[tuple[str, Any, Any]]:
        """As fsspec's `walk`, which `find`, `glob` and others use; see `on_error_of` for None."""
        from fluidpy.client import walking

        if maxdepth is not None and maxdepth < 1:
            raise ValueError("maxdepth must be at least 1")
        root, listing = str(self._strip_protocol(path)), partial(self.ls, detail=True, **kwargs)
        names: Any = dict if detail else list
        return walking.walk(root, listing, walking.on_error_of(on_error), maxdepth, topdown, names)

    def exists(self, path: str, **kwargs: Any) -> bool:
        """Whether there is anything at the path; other errors than its absence are raised."""
        return self._type(path, **kwargs) is not None

    def isfile(self, path: str) -> bool:
        """Whether a file lies at the path; other errors than its absence are raised."""
        return self._type(path) == "file"

    def isdir(self, path: str) -> bool:
        """Whether a folder lies at the path; other errors than its absence are raised."""
        return self._type(path) == "directory"

    def _type(self, path: str, **kwargs: Any) -> str | None:
        try:
            return str(self.info(path, **kwargs)["type"])
        except (FileNotFoundError, NotADirectoryError):
            return None

    def ukey(self, path: str) -> str:
        """A text that changes with the file's version."""
        info = self.info(path)
        parts = (info["name"], info["version"], info["size"], info["mtime"])
        return hashlib.sha256(repr(parts).encode("utf-8", "surrogateescape")).hexdigest()

    def checksum(self, path: str) -> int:
        """A number that changes with the file's version."""
        return int(self.ukey(path), 16)

    def modified(self, path: str) -> datetime:
        """When the file was changed last, in UTC."""
        return datetime.fromtimestamp(self.info(path)["mtime"], tz=UTC)

    def created(self, path: str) -> datetime:
        """When this version of the file came to be: sources keep no other time of creation."""
        return self.modified(path)

    # -- bytes -----------------------------------------------------------------------------------

    def _split_file(self, path: str) -> tuple[DatasetSession, str]:
        session, inside = self._split(path)
        if not inside:
            raise IsADirectoryInDatasetError(
                f"{path} is a Dataset, not a file", cure="Name a file in it, or list it."
            )
        return session, inside

    def _reader(self, path: str) -> ObjectReader:
        session, inside = self._split_file(path)
        return ObjectReader(session, session.open_object(inside))

    def open(self, path: Any, mode: str = "rb", **kwargs: Any) -> Any:
        """A file, as fsspec opens it (text modes, compression); bytes without the way round."""
        if mode == "rb" and not kwargs:
            return self._open(self._strip_protocol(path))
        return super().open(path, mode, **kwargs)

    def _open(self, path: str, mode: str = "rb", **_: Any) -> DatasetFile:
        """A DatasetFile. Raises ReadOnlyDatasetError for any mode but reading."""
        if set(mode) & set("wax+"):
            raise read_only_error(f"open(mode={mode!r})", path)
        if mode != "rb":
            raise ValueError(f"mode is {mode!r}, not 'r' or 'rb'")
        reader = self._reader(path)
        file = DatasetFile(reader, path)
        file.fs = self
        entry = reader.entry
        file.details_from = partial(_info, path, entry)
        file.reopen_with = lambda: (_reopen, (self, path, version_of(entry), file.tell()))
        return file

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **_: Any
    ) -> bytes:
        """The bytes of a file, or of a slice of it (negative bounds count from the end)."""
        session, inside = self._split_file(path)
        return session.read(inside, start, end)

    def cat_ranges(
        self,
        paths: list[str],
        starts: int | Iterable[int | None] | None,
        ends: int | Iterable[int | None] | None,
        max_gap: int | None = None,
        on_error: str = "return",
        **_: Any,
    ) -> list[Result]:
        """Ranges of files, in the order asked: near ones joined, other files in parallel.

        `on_error="return"` puts an error in the place of its bytes, anything else raises the first.
        `max_gap` is ignored: the worker fetches whole blocks.
        """
        bounds = [
            list(one) if isinstance(one, Iterable) else [one] * len(paths) for one in (starts, ends)
        ]
        if not isinstance(paths, list):
            raise TypeError("paths must be a list")
        if not len(paths) == len(bounds[0]) == len(bounds[1]):
            raise ValueError("paths, starts and ends must be of one length")
        wanted: dict[str, list[Range]] = {}
        for index, (path, start, end) in enumerate(zip(paths, *bounds, strict=True)):
            wanted.setdefault(path, []).append(Range(index, start, end))
        results = read_many(
            list(wanted.items()), self._reader, lambda: self._pools.get("read"), len(paths)
        )
        if on_error != "return":
            for result in results:
                if isinstance(result, Exception):
                    raise result
        return results

    def cat(
        self, path: Any, recursive: bool = False, on_error: str = "raise", **kwargs: Any
    ) -> Any:
        """The bytes of one file, or `{path: bytes}` of many, read in parallel."""
        paths = self.expand_path(path, recursive=recursive)
        single = len(paths) == 1 and not isinstance(path, list)
        if single and paths[0] == self._strip_protocol(path):
            return self.cat_file(paths[0], **kwargs)
        starts, ends = kwargs.get("start"), kwargs.get("end")
        found = self.cat_ranges(
            paths, [starts] * len(paths), [ends] * len(paths), on_error="return"
        )
        if on_error == "raise":
            for result in found:
                if isinstance(result, Exception):
                    raise result
        pairs = zip(paths, found, strict=True)
        return {
            name: data
            for name, data in pairs
            if on_error != "omit" or not isinstance(data, Exception)
        }

    def get_file(
        self,
        rpath: str,
        lpath: Any,
        callback: Any = DEFAULT_CALLBACK,
        outfile: Any = None,
        **_: Any,
    ) -> None:
        """Copies a file to a local path (or into `outfile`); of a folder, makes the folder."""
        from fluidpy.client.download import copy_to_path, copy_to_stream

        if outfile is None and self.isdir(rpath):
            os.makedirs(lpath, exist_ok=True)  # noqa: PTH103 - may be str or Path
            return
        with self._reader(rpath) as reader:
            callback.set_size(reader.size)
            if outfile is None:
                copy_to_path(reader, lpath, callback.relative_update)
            else:
                copy_to_stream(reader, outfile, callback.relative_update)

    def get(self, *args: Any, **kwargs: Any) -> Any:
        """Copies files to local paths, in parallel; as fsspec's `get`."""
        return sync(self.loop or get_loop(), self._get, *args, **kwargs)


def _info(name: str, entry: RemoteEntry) -> dict[str, Any]:
    return {
        "name": name,
        "size": entry.size if entry.kind != DIRECTORY else 0,
        "type": "directory" if entry.kind == DIRECTORY else "file",
        "mtime": entry.mtime_ns / 1e9,
        "mode": entry.mode,
        "ino": entry.ino,
        "version": entry.version.hex(),
    }


def _folder_info(name: str) -> dict[str, Any]:
    return {"name": name, "size": 0, "type": "directory"}


def _reopen(
    fs: FluidFileSystem, path: str, version: tuple[bytes, int, int], position: int
) -> DatasetFile:
    """An open file that was pickled. Raises SourceChangedError when it is another version now."""
    file = fs._open(path)
    if version_of(file.reader.entry) != version:
        file.close()
        raise SourceChangedError(
            f"{path} changed at its source since the open file was pickled",
            cure="Open it again to read the new version.",
        )
    file.seek(position)
    return file
