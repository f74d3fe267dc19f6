"""Answers of the control plane's interface: objects, lists, and errors as Kubernetes' Status."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from aiohttp import web

from fluidpy.api.serialisation import HIDDEN
from fluidpy.control.object_lifecycle import Document
from fluidpy.errors import (
    DatasetNotFoundError,
    FluidpyError,
    InUseError,
    ObjectConflictError,
    ObjectExistsError,
    ObjectNotFoundError,
    UsageError,
    ValidationError,
    WatchExpiredError,
)

_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
"""Where kubectl keeps the whole object, a Secret's values included."""

_CODES: Final[tuple[tuple[type[FluidpyError], int, str], ...]] = (
    (ObjectNotFoundError, 404, "NotFound"),
    (DatasetNotFoundError, 404, "NotFound"),
    (ObjectExistsError, 409, "AlreadyExists"),
    (ObjectConflictError, 409, "Conflict"),
    (InUseError, 409, "Conflict"),
    (WatchExpiredError, 410, "Expired"),
    (ValidationError, 422, "Invalid"),
    (UsageError, 400, "BadRequest"),
    (FluidpyError, 500, "InternalError"),
)
"""HTTP status and Kubernetes' reason of each error; the first class that fits counts."""


def json_answer(value: Mapping[str, Any], status: int = 200) -> web.Response:
    """A JSON object as the answer."""
    text = json.dumps(value, separators=(",", ":"))
    return web.Response(text=text, status=status, content_type="application/json")


def failure(error: FluidpyError) -> web.Response:
    """An error as Kubernetes' Status, with the error itself beside it for fluidpy's own clients."""
    code, reason = next((code, why) for kind, code, why in _CODES if isinstance(error, kind))
    status = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": code,
        "reason": reason,
        "message": str(error),
        "error": error.to_wire(),
    }
    return json_answer(status, code)


def object_list(
    kind: str, api_version: str, items: Iterable[Document], revision: int
) -> dict[str, Any]:
    """A list of objects, and the resourceVersion to watch from."""
    return {
        "kind": f"{kind}List",
        "apiVersion": api_version,
        "metadata": {"resourceVersion": str(revision)},
        "items": [shown(item) for item in items],
    }


def shown(document: Document) -> Document:
    """An object as it may be given out: of a Secret the names of its values, not the values."""
    if document.get("kind") != "Secret":
        return document
    names = [*document.get("data", {}), *document.get("stringData", {})]
    public = {name: value for name, value in document.items() if name != "stringData"}
    public["data"] = dict.fromkeys(names, HIDDEN)
    metadata = dict(document["metadata"])
    if _APPLIED in metadata.get("annotations", {}):
        metadata["annotations"] = {
            name: value for name, value in metadata["annotations"].items() if name != _APPLIED
        }
    public["metadata"] = metadata
    return public
