"""One object against its kind's fields; when some do not fit, the rest of it is kept.

So an unknown field in one mount does not hide that two other mounts clash.
"""

from __future__ import annotations

import copy
from typing import Any, TypeVar

import pydantic

from fluidpy.api.model import Model
from fluidpy.api.problem import FieldPath
from fluidpy.api.schema_problems import Finding, findings_of

_MAX_ROUNDS = 10
"""Removing a struct may leave its own holder incomplete; no kind is nested deeper than this."""

M = TypeVar("M", bound=Model)


def validate_object(
    value: dict[str, Any], model: type[M]
) -> tuple[M | None, list[Finding], list[FieldPath]]:
    """The object, what is wrong with it, and the paths left out because of that.

    None stands for an object that cannot be without what is wrong.
    """
    try:
        return _validate(value, model), [], []
    except pydantic.ValidationError as error:
        findings = _without_echoes(findings_of(error, model))
    rest = copy.deepcopy(value)
    removed: list[FieldPath] = []
    wrong = findings
    for _ in range(_MAX_ROUNDS):
        for finding in wrong:
            cut = _mend(rest, finding)
            if not cut:
                return None, findings, removed
            removed.append(cut)
        try:
            return _validate(rest, model), findings, removed
        except pydantic.ValidationError as error:
            wrong = findings_of(error, model)
    return None, findings, removed


def _validate(value: dict[str, Any], model: type[M]) -> M:
    return model.model_validate(value, by_alias=True, by_name=False)


def _without_echoes(findings: list[Finding]) -> list[Finding]:
    """Without "is required" for a field that stands there under a mistyped name."""
    meant = {(*f.path[:-1], f.meant) for f in findings if f.meant}
    return [f for f in findings if not (f.is_missing and f.path in meant)]


def _mend(rest: dict[str, Any], finding: Finding) -> FieldPath:
    """Rename a mistyped field, mend a word, else take the wrong thing out; the path now in doubt.

    Items of lists are never taken out, for others would move up: their list is. `()` when nothing
    can be taken out.
    """
    path = finding.path[:-1] if finding.is_missing else finding.path
    while path and isinstance(path[-1], int):
        path = path[:-1]
    if not path:
        return ()
    holder: Any = rest
    for step in path[:-1]:
        try:
            holder = holder[step]
        except (KeyError, IndexError, TypeError):
            return path  # went with something that was taken out before
    if isinstance(holder, dict):
        value = holder.pop(path[-1], None)
        if finding.instead is not None and path == finding.path:
            holder[path[-1]] = finding.instead
        if finding.meant and finding.meant not in holder:
            holder[finding.meant] = value
    return path
