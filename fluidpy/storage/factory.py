"""From a mount's source to a storage that is ready to use: the one door of this package."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from importlib.metadata import entry_points

from fluidpy.errors import SourceConfigurationError
from fluidpy.settings import Settings
from fluidpy.storage.options import (
    Limits,
    canonical_options,
    limits_of,
    object_store_options,
)
from fluidpy.storage.retry_policy import RetryPolicy
from fluidpy.storage.retrying import RetryingStorage
from fluidpy.storage.throttled import ThrottledStorage
from fluidpy.storage.under_storage import MountSource, UnderStorage

ENTRY_POINT_GROUP = "fluidpy.storages"
"""Name: a scheme. Value: a callable (MountSource, Settings) -> UnderStorage."""

BUILT_IN = ("s3", "oss", "local", "file", "pvc", "http", "https")


def open_storage(source: MountSource, settings: Settings) -> UnderStorage:
    """The storage of one mount, with retries and limits; cheap, and asks no server.

    Raises SourceConfigurationError when the URL's scheme is unknown or the options cannot work.
    """
    limits = limits_of(source)
    policy = _policy(source, settings, limits)
    driver = _driver(source, settings, policy)
    retrying = RetryingStorage(driver, policy)
    requests = limits.max_requests or settings.fetch_concurrency
    return ThrottledStorage(retrying, requests, limits.max_bytes_per_second)


def option_warnings(source: MountSource) -> tuple[str, ...]:
    """Options of a mount that were accepted and mean nothing here, as sentences."""
    if source.scheme in ("s3", "oss") and source.options.get("client") != "fsspec":
        return object_store_options(source)[1]
    return ()


def _policy(source: MountSource, settings: Settings, limits: Limits) -> RetryPolicy:
    label = source.label or source.url
    deadline = limits.deadline_seconds or settings.source_deadline_seconds
    if limits.retries is None:
        return RetryPolicy(label, deadline_seconds=deadline)
    return RetryPolicy(label, retries=limits.retries, deadline_seconds=deadline)


def _driver(source: MountSource, settings: Settings, policy: RetryPolicy) -> UnderStorage:
    scheme = source.scheme
    if scheme == "dataset":
        raise SourceConfigurationError(
            f"mount {source.label or source.url}: {source.url} names a Dataset, not a store",
            cure="Resolve the reference first and open the mounts of that Dataset.",
        )
    if scheme in ("s3", "oss"):
        from fluidpy.storage.object_store import ObjectStorage

        return ObjectStorage(source, object_store_options(source)[0], policy)
    if scheme in ("local", "file", "pvc"):
        return _local(source, settings, policy)
    if plugin := _plugin(scheme):
        return plugin(source, settings)
    raise _unknown(source)


def _local(source: MountSource, settings: Settings, policy: RetryPolicy) -> UnderStorage:
    from fluidpy.storage.local import LocalStorage, directory_of
    from fluidpy.storage.pvc import directory_of_claim

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
    )


def _plugin(scheme: str) -> Callable[[MountSource, Settings], UnderStorage] | None:
    for point in entry_points(group=ENTRY_POINT_GROUP, name=scheme):
        loaded: Callable[[MountSource, Settings], UnderStorage] = point.load()
        return loaded
    return None


def _unknown(source: MountSource) -> SourceConfigurationError:
    known = sorted({*BUILT_IN, *(point.name for point in entry_points(group=ENTRY_POINT_GROUP))})
    close = difflib.get_close_matches(source.scheme, known, n=1)
    hint = f"Did you mean {close[0]}://? " if close else ""
    return SourceConfigurationError(
        f"mount {source.label or source.url}: no driver for {source.scheme}:// "
        f"(known: {', '.join(known)}, and the protocols of installed fsspec packages)",
        cure=f"{hint}Correct mountPoint, or install the package that reads it.",
    )
