"""Any fsspec file system as an under storage.

Asynchronous ones (s3fs, gcsfs, ossfs.AioOSSFileSystem, …) run on the caller's loop, others in
threads. Since the contract has no conditional read, the version is asked for before and after each
read. A file system that tells neither checksum nor time of change gives no versions: its files
are served and not kept.
"""

from __future__ import annotations

import inspect
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import fsspec
from fsspec.asyn import AsyncFileSystem

from fluidpy.errors import (
    SourceAccessError,
    SourceChangedError,
    SourceConfigurationError,
    SourceNotFoundError,
    SourceUnavailableError,
)
from fluidpy.storage.blocking_calls import BlockingCalls
from fluidpy.storage.folder_walk import walk_by_folders
from fluidpy.storage.fsspec_errors import error_of_fsspec
from fluidpy.storage.fsspec_info import entry_of, versions_of
from fluidpy.storage.option_names import LIMIT_OPTIONS
from fluidpy.storage.options import ObjectStoreOptions
from fluidpy.storage.under_storage import (
    Buffer,
    Kind,
    ListPage,
    MountSource,
    ObjectInfo,
    OmittedKey,
    identity_digest,
)

_PAGE = 10_000


class FsspecStorage:
    """An `UnderStorage` over one URL of an fsspec protocol."""

    def __init__(
        self,
        source: MountSource,
        kind: type[fsspec.AbstractFileSystem],
        arguments: Mapping[str, Any],
        *,
        threads: int,
        deadline_seconds: float,
    ) -> None:
        """`arguments` are those of the file system's constructor; nothing is opened yet."""
        self._source = source
        self._kind = kind
        self._arguments = dict(arguments)
        self._asynchronous = issubclass(kind, AsyncFileSystem) and kind.async_impl
        self._calls = BlockingCalls(source.label or source.url, threads, deadline_seconds)
        self._fs: Any = None
        self._secrets = [*source.secrets.values()]
        self._root = str(kind._strip_protocol(source.url)).rstrip("/")

    @property
    def source_id(self) -> str:
        """The URL, and the endpoint where there is one."""
        endpoint = self._arguments.get("endpoint_url") or self._arguments.get("endpoint", "")
        return f"fsspec+{self._source.url}@{endpoint}"

    @property
    def identity(self) -> bytes:
        """A digest of all options and secrets: any of them may name the reader."""
        parts = [*sorted(self._source.options.items()), *sorted(self._source.secrets.items())]
        return identity_digest(*(text for pair in parts for text in pair))

    async def stat(self, path: str) -> ObjectInfo:
        """The entry at `path`."""
        if not path and not self._root.strip("/"):
            return ObjectInfo("", Kind.DIRECTORY)
        if not path:
            return await self._stat_root()
        info = await self._info(path)
        entry = entry_of(info, path, time.time_ns(), await self._key(path, info))
        if isinstance(entry, OmittedKey):
            raise SourceNotFoundError(
                f"{self._shown(path)} is {entry.reason}", cure="Rename it at the source."
            )
        return entry

    async def _stat_root(self) -> ObjectInfo:
        try:
            info = await self._info("")
        except (SourceNotFoundError, SourceAccessError):
            # To tell of a bucket some ask for the list of all, which a reader may not see.
            async for _ in self.list(""):
                break
            return ObjectInfo("", Kind.DIRECTORY)
        if info.get("type") != "directory":
            raise SourceNotFoundError(
                f"{self._source.url} is not a folder", cure="Correct mountPoint, or the path."
            )
        return ObjectInfo("", Kind.DIRECTORY)

    async def list(self, path: str) -> AsyncIterator[ListPage]:
        """The children of a folder, 10,000 at most a page."""
        full = self._full(path)
        infos = await self._call("ls", path, full, detail=True)
        page, now = ListPage([], []), time.time_ns()
        seen: set[str] = set()
        for info in infos:
            below = self._below(info)
            if below in (path, "") or below in seen:
                if info.get("type") == "file" and len(infos) == 1:
                    raise SourceNotFoundError(
                        f"{self._shown(path)} is a file, not a folder",
                        cure="Correct mountPoint, or the path.",
                    )
                continue
            seen.add(below)
            entry = entry_of(info, below, now, await self._key(below, info))
            (page.omitted if isinstance(entry, OmittedKey) else page.entries).append(entry)  # type: ignore[arg-type]  # each goes to its own list
            if len(page.entries) + len(page.omitted) >= _PAGE:
                yield page
                page = ListPage([], [])
        yield page

    def walk(self, path: str) -> AsyncIterator[ListPage]:
        """All below a folder, one listing a folder, so that no answer grows without bound."""
        return walk_by_folders(self.list, path)

    async def read(self, path: str, start: int, end: int, version: bytes) -> Buffer:
        """The bytes `[start, end)`; the version is looked at before and after."""
        if end <= start:
            return b""
        if version:
            await self._check(path, version)
        data = await self._call("cat_file", path, self._full(path), start=start, end=end)
        if version:
            await self._check(path, version)
        # ossfs takes the end as included and gives one byte more.
        data = memoryview(data)[: end - start]
        if len(data) != end - start:
            await self._raise_short(path, len(data), start, end)
        return data

    async def _raise_short(self, path: str, came: int, start: int, end: int) -> None:
        size = (await self._info(path)).get("size")
        if isinstance(size, int) and size < end:
            raise SourceChangedError(
                f"{self._shown(path)} has {size} bytes, fewer than asked for",
                cure="Open it again to read the new version.",
            )
        raise SourceUnavailableError(
            f"{self._shown(path)}: {came} of {end - start} bytes came",
            cure="Look whether the source is up and gives whole answers.",
        )

    async def _check(self, path: str, version: bytes) -> None:
        info = await self._info(path)
        # Time zero: what is compared was settled when it was listed.
        if version not in versions_of(info, 0, await self._key(path, info)):
            raise SourceChangedError(
                f"{self._shown(path)} is no longer the version that was listed",
                cure="Open it again to read the new version.",
            )

    async def _info(self, path: str) -> dict[str, Any]:
        info: dict[str, Any] = await self._call("info", path, self._full(path))
        return info

    async def _key(self, path: str, info: Mapping[str, Any]) -> str:
        """What the file system's own `ukey` or `modified` says of a file that has no version."""
        if info.get("type") != "file" or versions_of(info, 0):
            return ""
        for name in ("ukey", "modified"):
            own, base = getattr(self._kind, name), getattr(fsspec.AbstractFileSystem, name)
            if own is not base and not self._asynchronous:
                return f"{name} {await self._call(name, path, self._full(path))}"
        return ""

    async def _call(self, name: str, path: str, *args: Any, **options: Any) -> Any:
        try:
            if self._asynchronous:
                fs = await self._opened()
                if name in ("ls", "info"):
                    fs.invalidate_cache()
                return await getattr(fs, f"_{name}")(*args, **options)
            doing = f"reading {self._shown(path)}"
            return await self._calls.run(doing, lambda: self._blocking(name, *args, **options))
        except Exception as error:  # foreign code may raise anything
            raise error_of_fsspec(error, self._shown(path), self._secrets) from error

    def _blocking(self, name: str, *args: Any, **options: Any) -> Any:
        if self._fs is None:
            self._fs = self._kind(**self._arguments, skip_instance_cache=True)
        if name in ("ls", "info"):
            self._fs.invalidate_cache()
        return getattr(self._fs, name)(*args, **options)

    async def _opened(self) -> Any:
        if self._fs is None:
            fs = self._kind(**self._arguments, asynchronous=True, skip_instance_cache=True)
            if hasattr(fs, "set_session"):
                await fs.set_session()
            self._fs = fs
        return self._fs

    def _full(self, path: str) -> str:
        return f"{self._root}/{path}" if path else self._root or "/"

    def _below(self, info: Mapping[str, Any]) -> str:
        name, root = str(info["name"]).strip("/"), self._root.strip("/")
        return name[len(root) :].strip("/") if name.startswith(root) else name

    def _shown(self, path: str) -> str:
        return f"{self._source.url.rstrip('/')}/{path}"

    async def close(self) -> None:
        """Ends threads, and the connections of file systems that say how."""
        self._calls.close()
        fs, self._fs = self._fs, None
        for holder in (getattr(fs, "_s3", None), getattr(fs, "_session", None)):
            close: Callable[[], Any] | None = getattr(holder, "close", None)
            if close is not None and inspect.isawaitable(ended := close()):
                await ended


def known_protocols() -> set[str]:
    """Protocols of installed packages, of fsspec itself, and those registered by hand."""
    return {*fsspec.available_protocols(), *fsspec.registry}


def filesystem_class(source: MountSource, protocol: str) -> type[fsspec.AbstractFileSystem]:
    """The class of an fsspec protocol. Raises SourceConfigurationError naming what to install."""
    if protocol == "oss":
        # The class registered for oss is synchronous.
        try:
            from ossfs import AioOSSFileSystem
        except ImportError as error:
            raise _not_installed(source, "fluidpy[oss]", str(error)) from error
        found: type[fsspec.AbstractFileSystem] = AioOSSFileSystem
        return found
    try:
        registered: type[fsspec.AbstractFileSystem] = fsspec.get_filesystem_class(protocol)
        return registered
    except ImportError as error:
        package = "fluidpy[s3]" if protocol == "s3" else f"the package for {protocol}://"
        raise _not_installed(source, package, str(error)) from error


def _not_installed(source: MountSource, package: str, said: str) -> SourceConfigurationError:
    return SourceConfigurationError(
        f"mount {source.label or source.url}: {source.scheme}:// cannot be read through fsspec: "
        f"{said}",
        cure=f"Install {package}.",
    )


def plain_arguments(source: MountSource) -> dict[str, Any]:
    """Options and secrets as arguments of a file system's constructor.

    `true`, `false` and JSON lists and objects are read as such; whole numbers too, unless secret.
    """
    own = {*LIMIT_OPTIONS, "client"}
    options = {k: _value(v) for k, v in source.options.items() if k not in own}
    return options | dict(source.secrets)


def _value(text: str) -> Any:
    if text in ("true", "false") or text[:1] in ("{", "[") or text.isdecimal():
        try:
            return json.loads(text)
        except ValueError:
            return text
    return text


def s3fs_arguments(options: ObjectStoreOptions) -> dict[str, Any]:
    """The same options for s3fs."""
    arguments: dict[str, Any] = {
        "anon": not options.access_key_id and options.credentials != "environment",
        "client_kwargs": {"region_name": options.region} if options.region else {},
        "use_listings_cache": False,
    }
    if options.access_key_id:
        arguments |= {"key": options.access_key_id, "secret": options.secret_access_key}
    if options.session_token:
        arguments["token"] = options.session_token
    if options.endpoint:
        arguments["endpoint_url"] = options.endpoint
    if options.path_style is not None:
        style = "path" if options.path_style else "virtual"
        arguments["config_kwargs"] = {"s3": {"addressing_style": style}}
    if options.ca_bundle:
        arguments["client_kwargs"]["verify"] = options.ca_bundle
    return arguments


def ossfs_arguments(options: ObjectStoreOptions) -> dict[str, Any]:
    """The same options for ossfs."""
    arguments: dict[str, Any] = {"use_listings_cache": False}
    if options.endpoint:
        arguments["endpoint"] = options.endpoint
    if options.access_key_id:
        arguments |= {"key": options.access_key_id, "secret": options.secret_access_key}
    if options.session_token:
        arguments["token"] = options.session_token
    return arguments
