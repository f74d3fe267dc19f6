"""What every object carries: its name, namespace, labels, owners; and the grammars of names."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field

from fluidpy.api.model import (
    Int64,
    Model,
    OpenMapping,
    StringMap,
    Timestamp,
    defaulted,
    mapping,
    optional,
    sequence,
)

GROUP = "data.fluid.io"
API_VERSION = "data.fluid.io/v1alpha1"
DEFAULT_NAMESPACE = "default"

_LABEL_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_LABEL_1123 = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN_1123 = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_SECRET_KEY = re.compile(r"[-._a-zA-Z0-9]+")


def is_dns1035_label(name: str) -> bool:
    """Whether `name` is a label of RFC 1035: lower case, no digit in front, 63 characters."""
    return len(name) <= 63 and _LABEL_1035.fullmatch(name) is not None


def is_dns1123_label(name: str) -> bool:
    """Whether `name` is a label of RFC 1123: lower case, 63 characters."""
    return len(name) <= 63 and _LABEL_1123.fullmatch(name) is not None


def is_dns1123_subdomain(name: str) -> bool:
    """Whether `name` is labels of RFC 1123 joined by dots, 253 characters at most."""
    return len(name) <= 253 and _SUBDOMAIN_1123.fullmatch(name) is not None


def is_data_key(name: str) -> bool:
    """Whether `name` may be a key of a Secret or ConfigMap."""
    return len(name) <= 253 and name not in {".", ".."} and _SECRET_KEY.fullmatch(name) is not None


class OwnerReference(Model):
    """Another object that this one belongs to, and is deleted with."""

    api_version: str = Field(description="API group and version of the owner.")
    kind: str = Field(description="Kind of the owner.")
    name: str = Field(description="Name of the owner.")
    uid: str = Field(description="UID of the owner.")
    controller: bool | None = optional("Whether the owner is the managing controller.")
    block_owner_deletion: bool | None = optional("Whether the owner waits for this object to go.")


class ObjectMeta(Model):
    """Kubernetes' standard metadata."""

    name: str = defaulted("", "Name, unique for the kind in its namespace.")
    generate_name: str | None = optional("Prefix of a name that the server completes.")
    namespace: str = defaulted(
        DEFAULT_NAMESPACE, "Namespace; has no meaning for kinds of the whole cluster."
    )
    labels: StringMap = mapping("Labels to select objects by.")
    annotations: StringMap = mapping("Notes for tools; some switch behaviour on.", repr=False)
    uid: str | None = optional("Set by the server: identity of this object in time.")
    resource_version: str | None = optional("Set by the server: changes with each write.")
    generation: Int64 | None = optional("Set by the server: changes with each change of the spec.")
    creation_timestamp: Timestamp | None = optional("Set by the server.")
    deletion_timestamp: Timestamp | None = optional("Set by the server: deletion was asked then.")
    deletion_grace_period_seconds: Int64 | None = optional("Seconds a deletion may take.")
    owner_references: list[OwnerReference] = sequence("Objects that this one belongs to.")
    finalizers: list[str] = sequence("Whoever must act before the object may disappear.")
    managed_fields: list[OpenMapping] = sequence("Set by the server: who wrote which field.")
    self_link: str | None = optional("Set by old servers.")


class Resource(Model):
    """An object as it stands in a file: a kind, its metadata, and what the kind adds."""

    api_version: str
    kind: str
    metadata: ObjectMeta = Field(description="Name, namespace, labels and the like.")

    @property
    def name(self) -> str:
        """The object's name."""
        return self.metadata.name

    @property
    def namespace(self) -> str:
        """The object's namespace."""
        return self.metadata.namespace


class FluidResource(Resource):
    """An object of Fluid's own API group."""

    api_version: Literal["data.fluid.io/v1alpha1"] = Field(
        default="data.fluid.io/v1alpha1", description="API group and version."
    )
