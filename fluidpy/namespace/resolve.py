"""From objects as users write them, or a bare URL, to the definition of one Dataset.

All that is wrong is told at once. Only this and the `resolve_*` modules know the API's types.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from fluidpy.api.dataset import Dataset
from fluidpy.api.duration import parse_duration
from fluidpy.api.kinds import KINDS
from fluidpy.api.problem import FieldPath, LoadedObject, Problem
from fluidpy.api.runtimes.thin import ThinRuntime
from fluidpy.cache.tier import TierDefinition
from fluidpy.errors import DatasetNotFoundError, UsageError, ValidationError
from fluidpy.namespace.definition import NEVER, DatasetDefinition, MountDefinition
from fluidpy.namespace.resolve_mounts import (
    PASSWORD_CURE,
    PASSWORD_IN_URL,
    MountReader,
    holds_password,
    with_absolute_files,
)
from fluidpy.namespace.resolve_secrets import SecretValues
from fluidpy.namespace.resolve_tiers import TierReader
from fluidpy.namespace.tree import lay_out
from fluidpy.settings import Settings
from fluidpy.storage.plugins import InstalledPlugin, PluginsIn
from fluidpy.storage.under_storage import MountSource

TTL_ANNOTATION = "fluidpy.io/metadata-ttl"
"""How long a folder's listing counts as fresh: a duration such as `5m`, or `never` (ask again)."""
CACHE_ANNOTATION = "fluidpy.io/cache"
"""`memory-only` keeps a Dataset off disks."""
MEMORY_ONLY = "memory-only"
_SECRET_WORDS = ("secret", "password", "token", "access_key", "accesskey", "access-key")
_RUNTIMES = tuple(kind for kind in KINDS if kind.endswith("Runtime"))


class Resolved(NamedTuple):
    """A Dataset ready to be served, and what is accepted but may not be what was meant."""

    definition: DatasetDefinition
    warnings: list[str]


def resolve_dataset(
    objects: Sequence[LoadedObject],
    *,
    dataset: str | None,
    namespace: str | None,
    settings: Settings,
    environ: Mapping[str, str],
    base_directory: Path,
    foreign: bool = False,
) -> Resolved:
    """The Dataset of that name among `objects` (None: the only one), with all that it refers to.

    Its runtime is the one of its own name. Secrets are looked for in the objects, then in
    `settings.secret_directory`, then in `environ`. Relative paths are below `base_directory`.
    Sources that are `foreign` are a plug-in's to check: any form and all options are let through.
    Raises ValidationError with every problem (file, line, field, cure), DatasetNotFoundError, and
    UsageError when several Datasets could be meant.
    """
    one = _pick(objects, dataset, namespace)
    return _Resolver(objects, settings, environ, base_directory, foreign=foreign).resolve(one)


def _pick(objects: Sequence[LoadedObject], name: str | None, namespace: str | None) -> LoadedObject:
    datasets = [one for one in objects if isinstance(one.object, Dataset)]
    found = [
        one
        for one in datasets
        if name in (None, one.object.name) and namespace in (None, one.object.namespace)
    ]
    if len(found) == 1:
        return found[0]
    there = ", ".join(sorted(f"{one.object.namespace}/{one.object.name}" for one in datasets))
    if found:
        raise UsageError(
            f"several Datasets could be meant: {there}", cure="Name one, with its namespace."
        )
    if not datasets:
        raise DatasetNotFoundError(
            "the files declare no Dataset",
            cure="Give a file with an object of kind: Dataset; docs/dataset.md has examples.",
        )
    wanted = f"Dataset {name}" if name else "a Dataset"
    where = f" in the namespace {namespace}" if namespace else ""
    raise DatasetNotFoundError(
        f"the files declare no {wanted.removeprefix('a ')}{where}; they declare {there}",
        cure="Give one of those names, or the file that declares it.",
    )


class _AssumedSecrets(SecretValues):
    """Secrets of which those that are not in the files are somewhere else."""

    def value(self, namespace: str, name: str, key: str) -> str | None:
        """The value, or some text in its place; no source is opened with it."""
        found = super().value(namespace, name, key)
        return "assumed" if found is None else found


def check_declared_sources(
    objects: Sequence[LoadedObject],
    among: Sequence[LoadedObject] = (),
    *,
    plugins: Iterable[InstalledPlugin] = (),
) -> tuple[list[Problem], list[Problem]]:
    """Problems and warnings about the sources of all Datasets, as far as the files alone tell.

    They may refer to the objects in `among`, of which nothing is told. `plugins` are the runtime
    plug-ins that are installed here.

    Where a source is read, what no driver takes is refused; Secrets and claims may come later.
    Sources of a ThinRuntime are its plug-in's to check.
    """
    problems: list[Problem] = []
    warnings: list[Problem] = []
    known = [*objects, *among]
    secrets = _AssumedSecrets(known, None, {})
    thin = {_place(one) for one in known if _names_a_client(one)}
    for one in objects:
        if isinstance(one.object, Dataset) and _place(one) not in thin:
            base = Path(one.file).parent.resolve()
            reader = MountReader(known, secrets, base, [], [], None, plugins)
            reader.mounts(one)
            problems += [p for p in reader.source_problems if p not in problems]
            warnings += [w for w in reader.source_warnings if w not in warnings]
    return problems, warnings


def _place(one: LoadedObject) -> tuple[str, str]:
    return one.object.namespace, one.object.name


def _names_a_client(one: LoadedObject) -> bool:
    return isinstance(one.object, ThinRuntime) and bool(one.object.spec.profile_name)


class _Resolver:
    """Resolves one Dataset and gathers what is wrong on the way."""

    def __init__(
        self,
        objects: Sequence[LoadedObject],
        settings: Settings,
        environ: Mapping[str, str],
        base_directory: Path,
        *,
        foreign: bool,
    ) -> None:
        self._objects, self._settings, self._foreign = objects, settings, foreign
        self._problems: list[Problem] = []
        self._warnings: list[str] = []
        secrets = SecretValues(objects, settings.secret_directory, environ)
        self._mounts = MountReader(
            objects,
            secrets,
            base_directory,
            self._problems,
            self._warnings,
            settings,
            PluginsIn(tuple(settings.plugin_folders)),
        )

    def resolve(self, one: LoadedObject) -> Resolved:
        dataset = one.object
        assert isinstance(dataset, Dataset)
        mounts = tuple(self._mounts.mounts(one))
        self._check_tree(one, mounts)
        target = self._mounts.target(one)
        runtime = self._runtime(one) or (self._runtime(target) if target is not None else None)
        tiers = self._tiers(runtime)
        on_disk = self._keep_on_disk(one, runtime, tiers)
        ttl = self._ttl(one, runtime)
        if not self._foreign:
            self._problems += self._mounts.source_problems
            self._warnings += map(str, self._mounts.source_warnings)
        if self._problems:
            raise ValidationError("\n".join(map(str, dict.fromkeys(self._problems))))
        owner = dataset.spec.owner
        definition = DatasetDefinition(
            name=dataset.name,
            namespace=dataset.namespace,
            mounts=mounts,
            tiers=tiers,
            uid=None if owner is None else owner.uid,
            gid=None if owner is None else owner.gid,
            metadata_ttl_seconds=ttl,
            keep_on_disk=on_disk,
        )
        return Resolved(definition, self._warnings)

    def _check_tree(self, one: LoadedObject, mounts: Sequence[MountDefinition]) -> None:
        try:
            lay_out(mounts)
        except ValidationError as error:
            for line in error.message.splitlines():
                self._problems.append(one.problem(("spec", "mounts"), line, error.cure))

    def _runtime(self, one: LoadedObject) -> LoadedObject | None:
        found = [
            other
            for other in self._objects
            if other.object.kind in _RUNTIMES
            and (other.object.namespace, other.object.name)
            == (one.object.namespace, one.object.name)
        ]
        for other in found[1:]:
            message = (
                f"is left out: the Dataset {one.object.name} has a {found[0].object.kind} already"
            )
            self._warnings.append(str(other.problem(("kind",), message, "keep one runtime")))
        return found[0] if found else None

    def _tiers(self, runtime: LoadedObject | None) -> tuple[TierDefinition, ...]:
        if runtime is None:
            return ()
        return TierReader(runtime, self._settings, self._problems).tiers()

    def _keep_on_disk(
        self,
        one: LoadedObject,
        runtime: LoadedObject | None,
        tiers: Sequence[TierDefinition],
    ) -> bool:
        path: FieldPath = ("metadata", "annotations", CACHE_ANNOTATION)
        value = one.object.metadata.annotations.get(CACHE_ANNOTATION)
        if value is None:
            return True
        if value != MEMORY_ONLY:
            message = f"is {value!r}, which means nothing"
            self._problems.append(one.problem(path, message, f"write {MEMORY_ONLY!r}"))
            return True
        for tier in tiers:
            if tier.medium != "MEM" and runtime is not None:
                message = f"is {MEMORY_ONLY}, but the runtime has a {tier.medium} level"
                cure = f"leave {tier.directory} out of {runtime.file}:{runtime.line}"
                self._problems.append(one.problem(path, message, cure))
        return False

    def _ttl(self, one: LoadedObject, runtime: LoadedObject | None) -> float | None:
        text = one.object.metadata.annotations.get(TTL_ANNOTATION)
        if text is None:
            return math.inf if runtime is not None and not self._syncs(runtime) else None
        if text == NEVER:
            return math.inf
        try:
            seconds = parse_duration(text)
            if seconds < 0:
                raise ValueError(f"{text!r} is below zero; write 0s to ask on each visit")
        except ValueError as error:
            path: FieldPath = ("metadata", "annotations", TTL_ANNOTATION)
            self._problems.append(one.problem(path, str(error), f"or write {NEVER!r}"))
            return None
        return seconds

    def _syncs(self, runtime: LoadedObject) -> bool:
        """`metadataSyncPolicy.autoSync`; Fluid's default is true, false for ThinRuntime.

        With a client of its own that default concerns Fluid's counting of files only: new ones are
        seen at once.
        """
        management = getattr(getattr(runtime.object, "spec", None), "management", None)
        policy = getattr(management, "metadata_sync_policy", None)
        value = getattr(policy, "auto_sync", None)
        if value is None:
            return self._foreign or not isinstance(runtime.object, ThinRuntime)
        return bool(value)


def resolve_url(url: str, options: Mapping[str, str]) -> DatasetDefinition:
    """The Dataset that stands for one bare URL, or a directory of this machine.

    Its name comes from the URL and is a DNS label (RFC 1035); the digits at its end tell apart the
    same place under other options. Options that hold secrets by their names are kept as secrets.
    Raises UsageError, also for a URL with a password in it: URLs are shown, in names and records.
    """
    if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", url):
        if not url:
            raise UsageError("the URL is empty", cure="Give one such as s3://bucket/prefix.")
        url = os.path.normpath(Path.cwd() / url)
    if holds_password(url):
        raise UsageError(PASSWORD_IN_URL, cure=f"{PASSWORD_CURE}.")
    secrets = {name: value for name, value in options.items() if is_secret_option(name)}
    plain = {name: value for name, value in options.items() if name not in secrets}
    plain = with_absolute_files(plain, Path.cwd())
    words = re.sub(r"[^a-z0-9]+", "-", url.partition("://")[2].lower() or url.lower()).strip("-")
    text = json.dumps([url, plain], sort_keys=True)
    digits = hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=4).hexdigest()
    slug = words[-48:].strip("-")
    name = f"{slug}-{digits}" if slug[:1].isalpha() else f"d-{slug}-{digits}".replace("--", "-")
    mount = MountDefinition(name, "/", MountSource(url, url, plain, secrets))
    return DatasetDefinition(name, "default", (mount,))


def is_secret_option(name: str) -> bool:
    """Whether an option of that name holds something that must not be shown."""
    lowered = name.lower()
    return lowered in ("key", "sas") or any(word in lowered for word in _SECRET_WORDS)
