"""What a mount's source declares, checked without any driver: schemes, clients, options.

Importable where no object store library may be: in training processes and the command line.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import replace
from importlib.metadata import entry_points
from urllib.parse import urlsplit

from fluidpy.errors import SourceConfigurationError
from fluidpy.settings import Settings
from fluidpy.storage.object_store_address import store_address
from fluidpy.storage.option_names import HTTP_OPTIONS
from fluidpy.storage.options import canonical_options, limits_of, object_store_options
from fluidpy.storage.plugins import (
    InstalledPlugin,
    plugin_of_scheme,
    with_plugin_options,
)
from fluidpy.storage.under_storage import MountSource

ENTRY_POINT_GROUP = "fluidpy.storages"
"""Name: a scheme. Value: a callable (MountSource, Settings) -> UnderStorage."""

BUILT_IN = ("file", "http", "https", "local", "mounted", "oss", "pvc", "s3")

ENGINE_SCHEMES = ("juicefs",)
"""Read through the mount of an engine that the control plane keeps, and by no driver here."""

MOUNTED = "mounted"
"""`mounted:///directory`: where the client of another file system mounts."""

MOUNTED_AS = "mounted_as"
"""Option of such a mount: text that names what is mounted there, and so its cached bytes."""


def check_source(
    source: MountSource,
    settings: Settings | None,
    *,
    drivers_here: bool = True,
    plugins: Iterable[InstalledPlugin] = (),
) -> tuple[str, ...]:
    """Options that are accepted and mean nothing here, as sentences.

    Raises SourceConfigurationError for what `open_storage` would refuse, loading no driver.
    What `pvc://` claims stand for is looked up if `settings` are given; what plug-ins and classes
    of fsspec make of their options shows only when they are opened. Without `drivers_here` a scheme
    that nothing in this process reads is let through: a worker may have the package that does.
    `plugins` are those installed; their options are checked as their manifests declare them.
    """
    limits_of(source)
    scheme, fsspec = source.scheme, wants_fsspec(source)
    if scheme in ENGINE_SCHEMES:
        return ()  # the engine's driver checks it
    if scheme in ("s3", "oss"):
        options, warnings = object_store_options(source)
        if not fsspec:
            store_address(source, options)
        return warnings
    if not fsspec and scheme == MOUNTED:
        source = mounted_source(source)[1]
    if not fsspec and scheme in ("local", "file", "pvc", MOUNTED):
        return _check_local(source, settings)
    if not fsspec and scheme in ("http", "https"):
        canonical_options(source, HTTP_OPTIONS)
        check_http_url(source)
    elif plugin := _plugin_of(source, plugins):
        with_plugin_options(plugin, source)
    elif drivers_here and (fsspec or scheme not in known_schemes()):
        from fluidpy.storage.fsspec_storage import known_protocols

        if scheme not in known_protocols():
            raise unknown_scheme(source)
    return ()


def _plugin_of(source: MountSource, plugins: Iterable[InstalledPlugin]) -> InstalledPlugin | None:
    if wants_fsspec(source) or source.scheme in known_schemes():
        return None
    return plugin_of_scheme(plugins, source.scheme)


def _check_local(source: MountSource, settings: Settings | None) -> tuple[str, ...]:
    from fluidpy.storage.local import directory_of
    from fluidpy.storage.pvc import directory_of_claim

    warnings = canonical_options(source, ()).warnings
    if source.scheme != "pvc":
        directory_of(source)
    elif settings is not None:
        directory_of_claim(source, settings.pvc_directories)
    return warnings


def mounted_source(source: MountSource) -> tuple[str, MountSource]:
    """What is mounted in the directory of a `mounted://` source, and the source without that."""
    options = dict(source.options)
    return options.pop(MOUNTED_AS, ""), replace(source, options=options)


def check_http_url(source: MountSource) -> None:
    """Raises SourceConfigurationError for a URL without host, or with a query or a user in it."""
    try:
        parts = urlsplit(source.url.partition("#")[0])
        usable = bool(parts.hostname) and not (parts.query or parts.username or parts.password)
        _ = parts.port
    except ValueError:
        usable = False
    if not usable:
        raise SourceConfigurationError(
            f"mount {source.label or source.url}: the URL must have a host, and neither query nor "
            "user",
            cure="Give username and password as options (encryptOptions).",
        )


def wants_fsspec(source: MountSource) -> bool:
    """Whether the mount names fsspec as its client. Raises SourceConfigurationError for others."""
    label = source.label or source.url
    if source.scheme == "dataset":
        raise SourceConfigurationError(
            f"mount {label}: {source.url} names a Dataset, not a store",
            cure="Resolve the reference first and open the mounts of that Dataset.",
        )
    client = source.options.get("client", "")
    if client not in ("", "fsspec"):
        raise SourceConfigurationError(
            f"mount {label}: client is {client!r}, and only fsspec is known",
            cure="Write client: fsspec, or leave the option out.",
        )
    return client == "fsspec"


def known_schemes() -> list[str]:
    """The schemes that are built in or come from entry points, sorted."""
    return sorted({*BUILT_IN, *(point.name for point in entry_points(group=ENTRY_POINT_GROUP))})


def unknown_scheme(source: MountSource) -> SourceConfigurationError:
    """The error for a scheme without a driver, with the nearest one that has."""
    from fluidpy.storage.fsspec_storage import known_protocols

    known = [scheme for scheme in known_schemes() if scheme != MOUNTED]  # nobody declares it
    if source.scheme in ENGINE_SCHEMES:
        return SourceConfigurationError(
            f"mount {source.label or source.url}: {source.scheme}:// is read through its engine, "
            "which the control plane keeps",
            cure="Declare a JuiceFSRuntime of the Dataset's name, and apply both: fluidpy up; "
            "fluidpy apply -f FILE.",
        )
    close = difflib.get_close_matches(source.scheme, [*known, *known_protocols()], n=1)
    hint = f"Did you mean {close[0]}://? " if close else ""
    return SourceConfigurationError(
        f"mount {source.label or source.url}: no driver for {source.scheme}:// "
        f"(known: {', '.join(known)}, and the protocols of installed fsspec packages)",
        cure=f"{hint}Correct mountPoint, or install the package or plug-in that reads it.",
    )
