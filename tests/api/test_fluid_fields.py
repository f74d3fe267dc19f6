"""Every field of Fluid's kinds, nested ones and those of a status too, is one of fluidpy's."""

from __future__ import annotations

import re
from functools import cache

import pytest

from fluidpy.api.kinds import FLUID_KINDS
from tests.api.fluid_fields import ABSENT, Fields, Table, our_fields, read_table

TABLE: Table = read_table()

DELIBERATE = (
    (r"(.*\.)?observedGeneration", "type", "a client must see whether a status is of its change"),
    (r"status\.progress(\..*|\[\].*)?", "type", "Fluid does not say how far an operation is"),
    (r"(.*\.)?(name|namespace|uri|mountPath)", "minLength", "an empty one names nothing"),
    (r"(.*\.)?(fileSystemType|runtimeClassName)", "minLength", "an empty one names nothing"),
    (r".*\.executionEntries\.\w+\.command", "minItems", "a command has at least a program"),
    (r"spec", "required", "something in it is"),
    (r".*\.quotaList", "minLength", "read by a rule of its own, as Fluid's CRD has a pattern"),
    (r".*\.ports\{\}", "type", "no port is beyond 65535"),
    (r"spec\.replicas", "minimum", "there are no negative copies"),
    (r".*\.(gracePeriodSeconds|maxRetryAttempts)", "minimum", "nor negative times and attempts"),
    (r".*\.ttlSecondsAfterFinished", "minimum", "nor an end before the end"),
    (r".*\.prefers\[\]\.weight", "minimum", "Kubernetes refuses a pod with another one"),
    (r".*\.prefers\[\]\.weight", "maximum", "Kubernetes refuses a pod with another one"),
    (r".*\.imagePullPolicy", "enum", 'Kubernetes reads "" as not given'),
    (r".*\.emptyDir\.medium", "enum", "Kubernetes knows no other"),
    (r"spec\.accessModes\[\]", "enum", "Kubernetes knows no other"),
    (r"status\.conditions\[\]\.status", "enum", "Kubernetes' words for it"),
    (r"status\.conditions\[\]\.status", "default", "of what is not said nothing is known"),
    (r"spec\.target\[\]\.replicas", "default", "what Fluid reads when it is left out"),
)
"""Where fluidpy means to differ: path, fact, and why."""


@cache
def _differences(kind: str) -> list[tuple[str, str, object, object]]:
    fluid = TABLE.fields(kind)
    ours = our_fields(kind, fluid)
    found: list[tuple[str, str, object, object]] = []
    for path in sorted({*fluid, *ours}):
        if path not in fluid or path not in ours:
            found.append((path, "type", _type(fluid, path), _type(ours, path)))
            continue
        for fact in sorted({*fluid[path], *ours[path]}):
            theirs, mine = fluid[path].get(fact), ours[path].get(fact)
            if theirs != mine:
                found.append((path, fact, theirs, mine))
    return found


def _type(fields: Fields, path: str) -> object:
    return fields[path]["type"] if path in fields else ABSENT


def _reasons(path: str, fact: str) -> list[int]:
    return [
        number
        for number, (pattern, named, _) in enumerate(DELIBERATE)
        if named == fact and re.fullmatch(pattern, path)
    ]


@pytest.mark.parametrize("kind", sorted(FLUID_KINDS))
def test_the_fields_of_a_kind_are_fluids(kind: str) -> None:
    unexplained = [
        f"{path}: {fact} is {theirs} in Fluid, {mine} here"
        for path, fact, theirs, mine in _differences(kind)
        if not _reasons(path, fact) or mine == ABSENT
    ]
    assert unexplained == []


@pytest.mark.parametrize("kind", sorted(FLUID_KINDS))
def test_the_table_has_as_many_fields_as_fluids_definition(kind: str) -> None:
    named = [path for path in TABLE.fields(kind) if not path.endswith(("[]", "{}"))]
    assert len(named) == TABLE.counts[kind]


def test_every_difference_that_is_meant_is_there() -> None:
    used = {
        number
        for kind in FLUID_KINDS
        for path, fact, _, _ in _differences(kind)
        for number in _reasons(path, fact)
    }
    assert [DELIBERATE[n] for n in range(len(DELIBERATE)) if n not in used] == []
