"""Fluid's contract with the client of a ThinRuntime: `config.json`, secret files, environment.

A client that was written for Fluid reads these and runs unchanged. Names of fields, their order and
what is left out when empty are Fluid's (`pkg/ddc/thin/transform_fuse.go`). Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final

from fluidpy.api.dataset import Dataset, EncryptOption, Mount
from fluidpy.api.runtimes.thin import ThinFuse, ThinRuntime, ThinRuntimeProfile
from fluidpy.errors import ValidationError
from fluidpy.runtime.driver import SecretValue

FLUID_PLACE: Final = PurePosixPath("/etc/fluid")
"""Where a client looks for `config/config.json` and `secrets/SECRET/KEY`."""

CONFIG_FILE: Final = "config/config.json"

_SECRET_NAME: Final = re.compile(r"[-._a-zA-Z0-9]{1,253}")
"""What Kubernetes allows as a key of a Secret; they become file names."""

DEFAULT_ACCESS_MODES: Final = ("ReadOnlyMany",)


@dataclass(frozen=True, slots=True)
class ThinDeclaration:
    """What is declared for one Dataset: its runtime's fields win over the profile's."""

    dataset: Dataset
    runtime: ThinRuntime | None = None
    profile: ThinRuntimeProfile | None = None

    @property
    def _fuses(self) -> list[ThinFuse]:
        """The clients' fields: the profile's, then the runtime's."""
        specs = [one.spec.fuse for one in (self.profile, self.runtime) if one is not None]
        return [fuse for fuse in specs if fuse is not None]

    @property
    def command(self) -> tuple[str, ...]:
        """Program and arguments that the YAML gives; empty if the image's own are meant."""
        command: Sequence[str] = ()
        arguments: Sequence[str] = ()
        for fuse in self._fuses:
            command = fuse.command or command
            arguments = fuse.args or arguments
        return (*command, *arguments)

    @property
    def mount_options(self) -> dict[str, str]:
        """Options of profile and runtime; `ro` alone where the profile has none and all read."""
        options: dict[str, str] = {}
        of_profile = self.profile.spec.fuse if self.profile is not None else None
        if (of_profile is None or not of_profile.options) and self.access_modes == (
            *DEFAULT_ACCESS_MODES,
        ):
            options["ro"] = ""
        for fuse in self._fuses:
            options.update(fuse.options)
        return options

    @property
    def runtime_options(self) -> dict[str, str]:
        """Options of the runtime alone."""
        fuse = self.runtime.spec.fuse if self.runtime is not None else None
        return dict(fuse.options) if fuse is not None else {}

    def variables(self, secrets: Mapping[SecretValue, str]) -> dict[str, str]:
        """Environment of profile and runtime, later ones winning."""
        found: dict[str, str] = {}
        for one in self._variables:
            reference = _secret_of(one)
            value = one.get("value") if reference is None else secrets.get(reference)
            found[str(one.get("name", ""))] = str(value or "")
        found.pop("", None)
        return found

    @property
    def _variables(self) -> list[dict[str, Any]]:
        return [variable for fuse in self._fuses for variable in fuse.env]

    @property
    def access_modes(self) -> tuple[str, ...]:
        """As the Dataset says, or the default."""
        return tuple(self.dataset.spec.access_modes) or DEFAULT_ACCESS_MODES

    @property
    def secret_values(self) -> Iterator[SecretValue]:
        """The Secrets and keys that options of the Dataset name."""
        spec = self.dataset.spec
        of_mounts = (option for mount in spec.mounts for option in mount.encrypt_options)
        for option in (*spec.shared_encrypt_options, *of_mounts):
            reference = option.value_from.secret_key_ref
            yield reference.name, reference.key

    @property
    def secrets_of_variables(self) -> Iterator[SecretValue]:
        """The Secrets and keys that the environment takes values from."""
        yield from (found for one in self._variables if (found := _secret_of(one)) is not None)


def thin_config(one: ThinDeclaration, target: str, place: PurePosixPath) -> dict[str, Any]:
    """The values of `config.json`, in Fluid's order. Secrets are paths below `place`."""
    config: dict[str, Any] = {
        "mounts": [_mount(one.dataset, mount, place) for mount in one.dataset.spec.mounts],
        "targetPath": target,
    }
    if one.runtime_options:
        config["runtimeOptions"] = dict(sorted(one.runtime_options.items()))
    config["accessModes"] = list(one.access_modes)
    return config


def thin_files(
    one: ThinDeclaration, target: str, place: PurePosixPath, secrets: Mapping[SecretValue, str]
) -> dict[str, bytes]:
    """Files by their paths below `/etc/fluid`: `config.json` in one line, and Secrets' keys."""
    config = thin_config(one, target, place)
    text = json.dumps(config, separators=(",", ":"), ensure_ascii=False)
    files = {CONFIG_FILE: text.encode("utf-8", "surrogateescape")}
    for name, key in one.secret_values:
        files[_secret_file(name, key)] = secrets[name, key].encode("utf-8", "surrogateescape")
    return files


def thin_environment(
    one: ThinDeclaration, target: str, secrets: Mapping[SecretValue, str]
) -> dict[str, str]:
    """What a client finds in its environment; variables of the YAML win."""
    options = sorted(one.mount_options.items())
    return {
        "MOUNT_POINT": target,
        "MOUNT_OPTIONS": ",".join(f"{k}={v}" if v else k for k, v in options),
        "FLUID_RUNTIME_TYPE": "thin",
        "FLUID_RUNTIME_NS": one.dataset.namespace,
        "FLUID_RUNTIME_NAME": one.dataset.name,
        **one.variables(secrets),
    }


def _mount(dataset: Dataset, mount: Mount, place: PurePosixPath) -> dict[str, Any]:
    spec = dataset.spec
    options = {**spec.shared_options, **mount.options}
    for option in (*spec.shared_encrypt_options, *mount.encrypt_options):
        options[option.name] = _path_of(option, place)
    found: dict[str, Any] = {
        "mountPoint": mount.mount_point,
        "options": dict(sorted(options.items())),
        "name": mount.name,
        "path": mount.path,
        "readOnly": mount.read_only,
        "shared": mount.shared,
    }
    return {k: v for k, v in found.items() if v or k in ("mountPoint", "options")}


def _secret_of(variable: Mapping[str, Any]) -> SecretValue | None:
    """The Secret and key that a variable's value lies in."""
    source = variable.get("valueFrom")
    reference = source.get("secretKeyRef") if isinstance(source, dict) else None
    if not isinstance(reference, dict):
        return None
    return str(reference.get("name", "")), str(reference.get("key", ""))


def _path_of(option: EncryptOption, place: PurePosixPath) -> str:
    reference = option.value_from.secret_key_ref
    return str(place / _secret_file(reference.name, reference.key))


def _secret_file(name: str, key: str) -> str:
    for part in (name, key):
        if not _SECRET_NAME.fullmatch(part) or part in (".", ".."):
            raise ValidationError(
                f"{part!r} is no name of a Secret or of a key in one",
                cure="Use letters, digits, '-', '_' and '.' alone.",
            )
    return f"secrets/{name}/{key}"
