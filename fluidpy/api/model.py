"""The base of all resource models, and the shapes of fields that occur everywhere.

Field names are snake_case in Python and Fluid's camelCase in YAML; unknown fields are refused and
nothing is converted silently (a number is not a string, `"true"` is not a boolean).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic.alias_generators import to_camel

_ALIASES = {
    "from_": "from",
    "class_": "class",
    "mount_ufs": "mountUFS",
    "pod_ip": "podIP",
    "external_ips": "externalIPs",
}
"""Fields whose YAML name is not the camelCase form of the Python name."""


def yaml_name(python_name: str) -> str:
    """The name a field has in YAML, such as `mountPoint` for `mount_point`."""
    return _ALIASES.get(python_name) or to_camel(python_name)


class Model(BaseModel):
    """A struct of the API: closed (unknown fields are errors), strict, built on first use."""

    model_config = ConfigDict(
        alias_generator=yaml_name,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        extra="forbid",
        strict=True,
        defer_build=True,
        hide_input_in_errors=True,
        protected_namespaces=(),
    )

    @model_validator(mode="before")
    @classmethod
    def _null_is_unset(cls, value: Any) -> Any:
        """A field given as null is a field not given, as Kubernetes reads it."""
        if isinstance(value, dict):
            return {name: item for name, item in value.items() if item is not None}
        return value


def optional(description: str, **constraints: Any) -> Any:
    """A field that may be left out and is then None."""
    return Field(default=None, description=description, **constraints)


def mapping(description: str, **constraints: Any) -> Any:
    """A map that may be left out and is then empty."""
    return Field(default_factory=dict, description=description, **constraints)


def sequence(description: str, **constraints: Any) -> Any:
    """A list that may be left out and is then empty."""
    return Field(default_factory=list, description=description, **constraints)


def defaulted(value: Any, description: str, **constraints: Any) -> Any:
    """A field that may be left out and then has `value`."""
    return Field(default=value, description=description, **constraints)


Int32: TypeAlias = Annotated[int, Field(ge=-(2**31), le=2**31 - 1)]
Int64: TypeAlias = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
Count: TypeAlias = Annotated[int, Field(ge=0, le=2**31 - 1)]
"""An int32 for which a negative number has no meaning, such as a number of replicas.

A bound must stand in the type: given to `defaulted` beside an `Int32` it loses to the wider one.
"""
AtLeastOne: TypeAlias = Annotated[int, Field(ge=1, le=2**31 - 1)]
"""An int32 that counts what cannot be missing, such as replicas of a component."""

Timestamp: TypeAlias = Annotated[
    str,
    StringConstraints(
        pattern=r"^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$",
    ),
]
"""A moment as RFC 3339 text, such as `2026-01-31T08:00:00Z` (Kubernetes' `metav1.Time`)."""

StringMap: TypeAlias = dict[str, str]
"""A `map[string]string`; Kubernetes refuses numbers and booleans in it, and so does fluidpy."""

Options: TypeAlias = Annotated[dict[str, str], Field(repr=False)]
"""A `map[string]string` of settings; kept out of `repr`, for users put credentials in it."""

ImagePullPolicy: TypeAlias = Literal["Always", "IfNotPresent", "Never", ""]
NetworkMode: TypeAlias = Literal["HostNetwork", "", "ContainerNetwork"]

OpenMapping: TypeAlias = dict[str, Any]
"""A core Kubernetes struct that is passed on as it stands; only its being a mapping is checked."""

Affinity: TypeAlias = OpenMapping
ContainerPort: TypeAlias = OpenMapping
EnvVar: TypeAlias = OpenMapping
Lifecycle: TypeAlias = OpenMapping
NodeSelector: TypeAlias = OpenMapping
PersistentVolumeClaimTemplate: TypeAlias = OpenMapping
PodSpec: TypeAlias = OpenMapping
PodTemplateSpec: TypeAlias = OpenMapping
Probe: TypeAlias = OpenMapping
ResourceRequirements: TypeAlias = OpenMapping
Toleration: TypeAlias = OpenMapping
Volume: TypeAlias = OpenMapping
VolumeMount: TypeAlias = OpenMapping
VolumeSource: TypeAlias = OpenMapping
EnvVars: TypeAlias = Annotated[list[EnvVar], Field(repr=False)]
"""Environment of a container; kept out of `repr`, for users put credentials in it."""


class LocalObjectReference(Model):
    """The name of an object in the same namespace."""

    name: str = defaulted("", "Name of the object.")
