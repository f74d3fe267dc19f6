"""The mounts of a Dataset as sources with plain values; references to other Datasets expanded.

`dataset://NAMESPACE/NAME[/PATH]` stands for the tree of another Dataset (below PATH), with that
Dataset's own options and Secrets. As the only mount it is the whole tree, as Fluid has it; beside
others it lies at the mount's path.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from fluidpy.api.dataset import Dataset, EncryptOption, Mount
from fluidpy.api.problem import FieldPath, LoadedObject, Problem
from fluidpy.errors import SourceConfigurationError
from fluidpy.namespace.definition import MountDefinition
from fluidpy.namespace.resolve_secrets import SecretValues
from fluidpy.settings import Settings
from fluidpy.storage.plugins import InstalledPlugin
from fluidpy.storage.source_check import check_source
from fluidpy.storage.under_storage import MountSource

REFERENCE = "dataset://"
FILE_OPTIONS = ("ca_bundle",)

PASSWORD_IN_URL = "the URL has a password in it, and URLs are shown in messages and records"
PASSWORD_CURE = "take it out, and give user and password as options (encryptOptions in YAML)"


class MountReader:
    """Reads the mounts of Datasets; what is wrong goes to `problems`, all of it."""

    def __init__(
        self,
        objects: Sequence[LoadedObject],
        secrets: SecretValues,
        base_directory: Path,
        problems: list[Problem],
        warnings: list[str],
        settings: Settings | None,
        plugins: Iterable[InstalledPlugin] = (),
    ) -> None:
        """`base_directory` is what relative paths of sources are relative to.

        Without `settings` sources are checked as they are declared, whatever this machine has.
        `plugins` are the runtime plug-ins that are installed.
        """
        self.source_problems: list[Problem] = []
        """What makes a source unusable."""
        self.source_warnings: list[Problem] = []
        """Options that have no effect."""
        self._settings, self._plugins = settings, plugins
        self._datasets = {
            (one.object.namespace, one.object.name): one
            for one in objects
            if isinstance(one.object, Dataset)
        }
        self._secrets, self._base = secrets, base_directory
        self._problems, self._warnings = problems, warnings

    def mounts(
        self, one: LoadedObject, chain: tuple[tuple[str, str], ...] = ()
    ) -> list[MountDefinition]:
        """The mounts of the Dataset `one`, which the Datasets in `chain` refer to."""
        dataset = one.object
        assert isinstance(dataset, Dataset)
        chain = (*chain, (dataset.namespace, dataset.name))
        if not dataset.spec.mounts:
            cure = "write at least one under spec.mounts"
            self._problems.append(one.problem(("spec", "mounts"), "has no mounts", cure))
        found: list[MountDefinition] = []
        for index, mount in enumerate(dataset.spec.mounts):
            at: FieldPath = ("spec", "mounts", index)
            if mount.mount_point.startswith(REFERENCE):
                alone = len(dataset.spec.mounts) == 1
                place = "/" if alone else mount.mounted_path
                found.extend(self._referred(one, mount, at, chain, place))
            else:
                found.append(self._mount(one, dataset, mount, at))
        return found

    def target(self, one: LoadedObject) -> LoadedObject | None:
        """The Dataset that `one` refers to as a whole."""
        dataset = one.object
        assert isinstance(dataset, Dataset)
        mounts = dataset.spec.mounts
        if len(mounts) != 1 or not mounts[0].mount_point.startswith(REFERENCE):
            return None
        namespace, name, _ = _parts(mounts[0].mount_point)
        return self._datasets.get((namespace, name))

    def _mount(
        self, one: LoadedObject, dataset: Dataset, mount: Mount, at: FieldPath
    ) -> MountDefinition:
        spec, known = dataset.spec, len(self._problems)
        options: dict[str, str] = {}
        secrets: dict[str, str] = {}
        levels: list[tuple[dict[str, str], list[EncryptOption], FieldPath]] = [
            (dict(spec.shared_options), spec.shared_encrypt_options, ("spec",)),
            (dict(mount.options), mount.encrypt_options, at),
        ]
        for plain, encrypted, where in levels:
            hidden = self._values(one, dataset, encrypted, where)
            for name in (*plain, *hidden):  # a later level wins, whichever way it is given
                options.pop(name, None)
                secrets.pop(name, None)
            options.update(plain)
            secrets.update(hidden)
        name = mount.name or dataset.name
        options = with_absolute_files(options, self._base)
        source = MountSource(self._url(mount.mount_point), name, options, secrets)
        if len(self._problems) == known:  # else a Secret is missing, and would be missed again
            self._check(one, at, source)
        return MountDefinition(name, mount.mounted_path, source)

    def _check(self, one: LoadedObject, at: FieldPath, source: MountSource) -> None:
        """Refuses what no driver takes.

        A training process resolves Datasets too, and need not have the packages of their stores.
        """
        try:
            warnings = check_source(
                source,
                self._settings,
                drivers_here=self._settings is None,
                plugins=self._plugins,
            )
        except SourceConfigurationError as error:
            self.source_problems.append(one.problem(at, error.message, error.cure))
            return
        for warning in warnings:
            self.source_warnings.append(one.problem((*at, "options"), warning, "leave it out"))

    def _values(
        self, one: LoadedObject, dataset: Dataset, encrypted: list[EncryptOption], at: FieldPath
    ) -> dict[str, str]:
        found: dict[str, str] = {}
        field = "sharedEncryptOptions" if at == ("spec",) else "encryptOptions"
        for index, option in enumerate(encrypted):
            reference = option.value_from.secret_key_ref
            path: FieldPath = (*at, field, index, "valueFrom", "secretKeyRef")
            try:
                value = self._secrets.value(dataset.namespace, reference.name, reference.key)
            except ValueError as error:
                self._problems.append(one.problem(path, str(error), "correct the Secret"))
                continue
            if value is None:
                message = f"no Secret {reference.name!r} with the key {reference.key!r} is known"
                cure = self._secrets.places(reference.name, reference.key)
                self._problems.append(one.problem(path, message, cure))
            else:
                found[option.name] = value
        return found

    def _url(self, point: str) -> str:
        """The source's URL; a relative path of the machine is made absolute."""
        if point.startswith(("./", "../")):
            return os.path.normpath(self._base / point)
        scheme, separator, rest = point.partition("://")
        if separator and scheme == "local" and not rest.startswith("/"):
            return f"local://{os.path.normpath(self._base / rest)}"
        return point

    def _referred(
        self,
        one: LoadedObject,
        mount: Mount,
        at: FieldPath,
        chain: tuple[tuple[str, str], ...],
        place: str,
    ) -> list[MountDefinition]:
        path: FieldPath = (*at, "mountPoint")
        namespace, name, below = _parts(mount.mount_point)
        if (namespace, name) in chain:
            circle = " → ".join("/".join(link) for link in (*chain, (namespace, name)))
            message = f"the references go in a circle: {circle}"
            self._problems.append(one.problem(path, message, "name a source in one of them"))
            return []
        target = self._datasets.get((namespace, name))
        if target is None:
            message = f"the Dataset {namespace}/{name} is not in the files"
            self._problems.append(one.problem(path, message, "give its file too"))
            return []
        if mount.options or mount.encrypt_options:
            message = "options of a reference have no effect"
            self._warnings.append(str(one.problem((*at, "options"), message, "set them there")))
        seen = [_view(made, below, place) for made in self.mounts(target, chain)]
        found = [made for made in seen if made is not None]
        if seen and not found:
            message = f"the Dataset {namespace}/{name} has no mount at or above /{below}"
            self._problems.append(one.problem(path, message, "correct the path"))
        return found


def with_absolute_files(options: Mapping[str, str], base: Path) -> dict[str, str]:
    """The options of a mount, `./FILE` and `../FILE` of those that name a file made absolute."""
    return {
        name: os.path.normpath(base / value)
        if name in FILE_OPTIONS and value.startswith(("./", "../"))
        else value
        for name, value in options.items()
    }


def holds_password(url: str) -> bool:
    """Whether a URL has `user:password@` before its host (RFC 3986 §3.2.1)."""
    _, separator, rest = url.partition("://")
    user, at, _ = rest.partition("/")[0].rpartition("@")
    return bool(separator and at) and ":" in user


def _parts(reference: str) -> tuple[str, str, str]:
    namespace, _, rest = reference.removeprefix(REFERENCE).partition("/")
    name, _, below = rest.partition("/")
    return namespace, name, "/".join(part for part in below.split("/") if part)


def _view(mount: MountDefinition, below: str, place: str) -> MountDefinition | None:
    """A mount as it is seen when the folder `below` of its tree lies at `place`; None if not."""
    own = [part for part in mount.path.split("/") if part]
    wanted = [part for part in below.split("/") if part]
    common = min(len(own), len(wanted))
    if own[:common] != wanted[:common]:
        return None
    inside, rest = wanted[len(own) :], own[len(wanted) :]
    source = mount.source
    if inside:
        source = replace(source, url="/".join([source.url.rstrip("/"), *inside]))
    parts = [part for part in place.split("/") if part] + rest
    return MountDefinition(mount.name, "/" + "/".join(parts), source)
