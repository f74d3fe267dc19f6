"""From a mount's source to a storage that is ready to use: the one door of this package.

Drivers are imported when a mount needs them, so that a worker with S3 mounts alone loads neither
fsspec nor its packages.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import entry_points
from typing import Any

from fluidpy.settings import Settings
from fluidpy.storage.options import Limits, canonical_options, limits_of, object_store_options
from fluidpy.storage.plugins import (
    InstalledPlugin,
    installed_plugins,
    load_plugin_class,
    plugin_of_scheme,
    with_plugin_options,
)
from fluidpy.storage.retry_policy import RetryPolicy
from fluidpy.storage.retrying import RetryingStorage
from fluidpy.storage.source_check import (
    ENTRY_POINT_GROUP,
    MOUNTED,
    mounted_source,
    unknown_scheme,
    wants_fsspec,
)
from fluidpy.storage.throttled import ThrottledStorage
from fluidpy.storage.under_storage import MountSource, UnderStorage

StorageMaker = Callable[[MountSource, Settings], UnderStorage]


def open_storage(source: MountSource, settings: Settings) -> UnderStorage:
    """The storage of one mount, with retries and limits; cheap, and asks no server.

    A driver is chosen by the option `client: fsspec`, else by scheme: built in, an entry point of
    group `fluidpy.storages`, a plug-in of `fluidpy runtime install`, an installed fsspec protocol.
    Raises SourceConfigurationError when
    the scheme is unknown or the options cannot work.
    """
    limits = limits_of(source)
    policy = _policy(source, settings, limits)
    driver = _driver(source, settings, policy)
    requests = limits.max_requests or settings.fetch_concurrency
    return ThrottledStorage(RetryingStorage(driver, policy), requests, limits.max_bytes_per_second)


def _policy(source: MountSource, settings: Settings, limits: Limits) -> RetryPolicy:
    deadline = limits.deadline_seconds or settings.source_deadline_seconds
    policy = RetryPolicy(source.label or source.url, deadline_seconds=deadline)
    return policy if limits.retries is None else replace(policy, retries=limits.retries)


def _driver(source: MountSource, settings: Settings, policy: RetryPolicy) -> UnderStorage:
    scheme = source.scheme
    if wants_fsspec(source):
        return _fsspec(source, settings, policy)
    if scheme in ("s3", "oss"):
        from fluidpy.storage.object_store import ObjectStorage

        return ObjectStorage(source, object_store_options(source)[0], policy)
    if scheme in ("local", "file", "pvc", MOUNTED):
        return _local(source, settings, policy)
    if scheme in ("http", "https"):
        from fluidpy.storage.http import HttpStorage

        return HttpStorage(source)
    if maker := _plugin(scheme):
        return maker(source, settings)
    if installed := plugin_of_scheme(installed_plugins(settings.plugin_folders), scheme):
        return _installed(installed, source, settings, policy)
    return _fsspec(source, settings, policy)


def _local(source: MountSource, settings: Settings, policy: RetryPolicy) -> UnderStorage:
    from fluidpy.storage.local import LocalStorage, directory_of
    from fluidpy.storage.pvc import directory_of_claim

    mounted_as = None
    if source.scheme == MOUNTED:
        mounted_as, source = mounted_source(source)
    canonical_options(source, ())
    if source.scheme == "pvc":
        directory = directory_of_claim(source, settings.pvc_directories)
    else:
        directory = directory_of(source)
    return LocalStorage(
        directory,
        policy.label,
        threads=max(4, settings.fetch_concurrency),
        deadline_seconds=policy.deadline_seconds,
        mounted_as=mounted_as,
    )


def _fsspec(source: MountSource, settings: Settings, policy: RetryPolicy) -> UnderStorage:
    from fluidpy.storage import fsspec_storage

    scheme = source.scheme
    if scheme not in fsspec_storage.known_protocols():
        raise unknown_scheme(source)
    if scheme in ("s3", "oss"):
        options = object_store_options(source)[0]
        as_arguments = {"s3": fsspec_storage.s3fs_arguments, "oss": fsspec_storage.ossfs_arguments}
        arguments = as_arguments[scheme](options)
    else:
        arguments = fsspec_storage.plain_arguments(source)
    return fsspec_storage.FsspecStorage(
        source,
        fsspec_storage.filesystem_class(source, scheme),
        arguments,
        threads=max(4, settings.fetch_concurrency),
        deadline_seconds=policy.deadline_seconds,
    )


def _installed(
    plugin: InstalledPlugin, source: MountSource, settings: Settings, policy: RetryPolicy
) -> UnderStorage:
    source = with_plugin_options(plugin, source)
    return plugin_storage(load_plugin_class(plugin), source, settings, policy)


def plugin_storage(
    made_by: Any, source: MountSource, settings: Settings, policy: RetryPolicy
) -> UnderStorage:
    """The storage of a plug-in's class: one of fsspec, or a callable as in `fluidpy.storages`."""
    from fsspec import AbstractFileSystem

    if not (isinstance(made_by, type) and issubclass(made_by, AbstractFileSystem)):
        storage: UnderStorage = made_by(source, settings)
        return storage
    from fluidpy.storage import fsspec_storage

    return fsspec_storage.FsspecStorage(
        source,
        made_by,
        fsspec_storage.plain_arguments(source),
        threads=max(4, settings.fetch_concurrency),
        deadline_seconds=policy.deadline_seconds,
    )


def _plugin(scheme: str) -> StorageMaker | None:
    for point in entry_points(group=ENTRY_POINT_GROUP, name=scheme):
        maker: StorageMaker = point.load()
        return maker
    return None
