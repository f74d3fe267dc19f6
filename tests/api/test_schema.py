from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from fluidpy.api.kinds import FLUID_KINDS, KINDS
from fluidpy.api.problem import Problem
from fluidpy.api.schema import json_schema
from fluidpy.api.yaml_nodes import read_documents
from fluidpy.errors import UsageError

EXAMPLES = sorted((Path(__file__).parent / "examples").glob("*.yaml"))


def _documents(file: Path) -> list[dict[str, Any]]:
    problems: list[Problem] = []
    documents = read_documents(file.read_text(), file.name, problems)
    assert problems == []
    return [document.value for document in documents]


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_schema_is_one_by_its_own_standard(kind: str) -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema(kind))
    jsonschema.Draft202012Validator.check_schema(json_schema(kind, structural=True))


@pytest.mark.parametrize("structural", [False, True])
@pytest.mark.parametrize("file", EXAMPLES, ids=lambda f: f.stem)
def test_every_example_validates(file: Path, structural: bool) -> None:
    for document in _documents(file):
        jsonschema.validate(document, json_schema(document["kind"], structural=structural))


@pytest.mark.parametrize(
    "change",
    [
        {"spec": {"mounts": []}},
        {"spec": {"mounts": [{"mountpoint": "s3://bucket/a"}]}},
        {"spec": {"sharedOptions": {"a": 1}}},
        {"spec": {"placement": "exclusive"}},
        {"kind": "Datset"},
        {"metadata": None},
    ],
)
def test_what_loading_refuses_the_schema_refuses(change: dict[str, Any]) -> None:
    good = {
        "apiVersion": "data.fluid.io/v1alpha1",
        "kind": "Dataset",
        "metadata": {"name": "demo"},
        "spec": {"mounts": [{"mountPoint": "s3://bucket/a"}]},
    }
    jsonschema.validate(good, json_schema("dataset"))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**good, **change}, json_schema("dataset"))


def _properties(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(schema, list):
        for item in schema:
            yield from _properties(item, path)
    elif isinstance(schema, dict):
        for name, one in schema.get("properties", {}).items():
            yield f"{path}.{name}", one
            yield from _properties(one, f"{path}.{name}")
        for key in ("items", "additionalProperties", "$defs"):
            inner = schema.get(key)
            if key == "$defs" and inner:
                for name, one in inner.items():
                    yield from _properties(one, name)
            elif isinstance(inner, dict):
                yield from _properties(inner, f"{path}[]")


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_field_has_a_description(kind: str) -> None:
    for path, schema in _properties(json_schema(kind)):
        if path not in (".kind",):
            assert schema.get("description"), path


@pytest.mark.parametrize("kind", sorted(FLUID_KINDS))
def test_a_structural_schema_is_what_a_crd_may_have(kind: str) -> None:
    schema = json_schema(kind, structural=True)
    text = yaml.safe_dump(schema)
    for word in ("$ref", "$defs", "$schema", "const:", "title:", "additionalProperties: false"):
        assert word not in text
    for path, one in _properties(schema):
        typed = "type" in one or one.get("x-kubernetes-int-or-string")
        assert typed, path
        if "additionalProperties" in one:
            assert "properties" not in one, path


def test_an_open_struct_keeps_unknown_fields_and_a_quantity_takes_integers() -> None:
    schema = json_schema("alluxioruntime", structural=True)
    spec = schema["properties"]["spec"]["properties"]
    assert spec["worker"]["properties"]["resources"]["x-kubernetes-preserve-unknown-fields"]
    level = spec["tieredstore"]["properties"]["levels"]["items"]["properties"]
    assert level["quota"]["x-kubernetes-int-or-string"]
    assert level["mediumtype"]["enum"] == ["MEM", "SSD", "HDD"]
    assert spec["volumes"]["items"]["x-kubernetes-preserve-unknown-fields"]


def test_an_unknown_kind_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'Dataset'"):
        json_schema("Datset")
