"""Objects of core `v1` that stand in the same files: Secret, ConfigMap, PersistentVolumeClaim.

A Secret's values are `SecretStr`: they show in no `repr`, log or error, and are written to YAML
only when asked for by name (`serialisation.to_dict(..., reveal_secrets=True)`).
"""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, Field, SecretStr
from pydantic_core import PydanticCustomError

from fluidpy.api.metadata import Resource
from fluidpy.api.model import OpenMapping, StringMap, mapping, optional


def _check_base64(value: SecretStr) -> SecretStr:
    try:
        base64.b64decode(value.get_secret_value().translate(_LINE_ENDS), validate=True)
    except (binascii.Error, ValueError):
        raise PydanticCustomError(
            "base64", "is not base64; encode the value, or give it in clear text under stringData"
        ) from None
    return value


_LINE_ENDS = {ord("\n"): None, ord("\r"): None}
Base64Secret: TypeAlias = Annotated[SecretStr, AfterValidator(_check_base64)]


class CoreResource(Resource):
    """An object of the core API group."""

    api_version: Literal["v1"] = Field(default="v1", description="API group and version.")


class Secret(CoreResource):
    """Values that nobody but their users may see."""

    kind: Literal["Secret"] = "Secret"
    type: str | None = optional("What the Secret is for, such as Opaque.")
    immutable: bool | None = optional("Whether the values may never change.")
    data: dict[str, Base64Secret] = mapping("Values in base64.")
    string_data: dict[str, SecretStr] = mapping("Values in clear text; win over data.")

    def key_names(self) -> frozenset[str]:
        """The names of the values, which are not secret."""
        return frozenset(self.data) | frozenset(self.string_data)

    def value(self, key: str) -> bytes | None:
        """One value, decoded, or None when there is no such key."""
        if key in self.string_data:
            return self.string_data[key].get_secret_value().encode()
        if key in self.data:
            return base64.b64decode(self.data[key].get_secret_value().translate(_LINE_ENDS))
        return None


class ConfigMap(CoreResource):
    """Texts that pods read."""

    kind: Literal["ConfigMap"] = "ConfigMap"
    immutable: bool | None = optional("Whether the texts may never change.")
    data: StringMap = mapping("Texts by name.")
    binary_data: StringMap = mapping("Bytes by name, in base64.")


class PersistentVolumeClaim(CoreResource):
    """A claim of storage; a source as `pvc://NAME`."""

    kind: Literal["PersistentVolumeClaim"] = "PersistentVolumeClaim"
    spec: OpenMapping = mapping("As Kubernetes has it.")
    status: OpenMapping = mapping("As Kubernetes has it.")
