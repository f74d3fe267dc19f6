"""What a runtime's driver is asked with: the profile it names, and the Secrets that it needs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from fluidpy.api.dataset import Dataset, Mount
from fluidpy.api.metadata import Resource
from fluidpy.api.problem import LoadedObject
from fluidpy.api.runtimes.cache import CacheRuntime, CacheRuntimeClass
from fluidpy.api.runtimes.thin import ThinRuntime, ThinRuntimeProfile
from fluidpy.errors import ValidationError
from fluidpy.namespace.definition import DatasetDefinition
from fluidpy.namespace.resolve_secrets import SecretValues
from fluidpy.runtime.driver import SecretValue
from fluidpy.runtime.thin_contract import ThinDeclaration
from fluidpy.settings import Settings
from fluidpy.storage.source_check import MOUNTED


def profile_of(runtime: LoadedObject, objects: Sequence[LoadedObject]) -> LoadedObject | None:
    """The ThinRuntimeProfile or CacheRuntimeClass that a runtime names, if it is declared."""
    kind: type[Resource]
    if isinstance(runtime.object, ThinRuntime):
        kind, name = ThinRuntimeProfile, runtime.object.spec.profile_name
    elif isinstance(runtime.object, CacheRuntime):
        kind, name = CacheRuntimeClass, runtime.object.spec.runtime_class_name
    else:
        return None
    found = (one for one in objects if isinstance(one.object, kind) and one.object.name == name)
    return next(found, None)


def secrets_of(
    dataset: Dataset,
    runtime: Resource,
    profile: Resource | None,
    objects: Sequence[LoadedObject],
    settings: Settings,
) -> dict[SecretValue, str]:
    """Values of all Secrets that Dataset, runtime and profile name.

    Raises ValidationError with each that is missing.
    """
    one = ThinDeclaration(
        dataset,
        runtime if isinstance(runtime, ThinRuntime) else None,
        profile if isinstance(profile, ThinRuntimeProfile) else None,
    )
    values = SecretValues(objects, settings.secret_directory, os.environ)
    found: dict[SecretValue, str] = {}
    problems: list[str] = []
    for name, key in dict.fromkeys((*one.secret_values, *one.secrets_of_variables)):
        value = values.value(dataset.namespace, name, key)
        if value is None:
            cure = values.places(name, key)
            problems.append(f"no Secret {name!r} with the key {key!r} is known; {cure}")
        else:
            found[name, key] = value
    if problems:
        raise ValidationError("\n".join(problems), cure="Correct the Secrets or the objects.")
    return found


def as_read(one: LoadedObject, definition: DatasetDefinition) -> LoadedObject:
    """A Dataset with what its runtime has mounted as its sources: so others may refer to it."""
    dataset = one.object
    assert isinstance(dataset, Dataset)
    mounted = [mount for mount in definition.mounts if mount.source.scheme == MOUNTED]
    names = {mount.name for mount in mounted} if len(dataset.spec.mounts) > 1 else {""}
    native = [mount for mount in dataset.spec.mounts if names != {""} and mount.name not in names]
    shown = [
        Mount.model_validate(
            {
                "mountPoint": mount.source.url,
                "name": mount.name,
                "path": mount.path,
                "options": dict(mount.source.options),
            }
        )
        for mount in mounted
    ]
    alone: dict[str, object] = (
        {} if native else {"shared_options": {}, "shared_encrypt_options": []}
    )
    spec = dataset.spec.model_copy(update={"mounts": [*shown, *native], **alone})
    return replace(one, object=dataset.model_copy(update={"spec": spec}))
