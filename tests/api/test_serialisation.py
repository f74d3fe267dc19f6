from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fluidpy.api.conditions import DatasetCondition
from fluidpy.api.dataset import Dataset, DatasetSpec, Mount
from fluidpy.api.document import YamlText, load_documents
from fluidpy.api.kinds import KINDS
from fluidpy.api.metadata import ObjectMeta, Resource
from fluidpy.api.problem import Problem
from fluidpy.api.secret import Secret
from fluidpy.api.serialisation import to_dict, to_yaml
from fluidpy.api.yaml_nodes import read_documents
from tests.api.resources import resources

EXAMPLES = Path(__file__).parent / "examples"


def _read_back(text: str, model: type[Resource]) -> list[Resource]:
    problems: list[Problem] = []
    documents = read_documents(text, "f", problems)
    assert not problems
    return [model.model_validate(d.value, by_alias=True, by_name=False) for d in documents]


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_an_object_written_and_read_is_the_same_object(kind: str) -> None:
    model = KINDS[kind].model

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(resources(model), min_size=1, max_size=2))
    def holds(several: list[Resource]) -> None:
        text = to_yaml(several, reveal_secrets=True)
        assert _read_back(text, model) == several

    holds()


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.yaml")), ids=lambda f: f.stem)
def test_examples_written_and_read_are_the_same_objects(file: Path) -> None:
    first = load_documents(file)
    objects = [one.object for one in first.objects]
    second = load_documents(YamlText(to_yaml(objects, reveal_secrets=True)))
    assert not second.problems
    assert [one.object for one in second.objects] == objects


def _dataset() -> Dataset:
    spec = DatasetSpec(mounts=[Mount(mount_point="s3://bucket/a", read_only=True)])
    return Dataset(metadata=ObjectMeta(name="demo"), spec=spec)


def test_unset_fields_are_left_out_and_names_are_fluids() -> None:
    assert to_dict(_dataset()) == {
        "apiVersion": "data.fluid.io/v1alpha1",
        "kind": "Dataset",
        "metadata": {"name": "demo"},
        "spec": {"mounts": [{"mountPoint": "s3://bucket/a", "readOnly": True}]},
    }


def test_a_status_that_was_changed_in_place_is_written() -> None:
    dataset = _dataset()
    dataset.status.phase = "Bound"
    dataset.status.conditions.append(DatasetCondition(type="Ready", status="True"))
    written = to_dict(dataset)["status"]
    assert written == {"phase": "Bound", "conditions": [{"type": "Ready", "status": "True"}]}


def test_an_empty_struct_that_was_given_stays() -> None:
    text = "apiVersion: data.fluid.io/v1alpha1\nkind: CacheRuntimeClass\nmetadata: {name: a}\n"
    text += "fileSystemType: fuse\ntopology: {master: {service: {headless: {}}}}\n"
    loaded = load_documents(text).objects[0].object
    assert to_dict(loaded)["topology"] == {"master": {"service": {"headless": {}}}}


def test_secret_values_are_written_only_when_asked_for() -> None:
    loaded = load_documents(EXAMPLES / "dataset.yaml").objects[1].object
    assert isinstance(loaded, Secret)
    hidden = to_yaml(loaded)
    assert "YWRtaW4=" not in hidden
    assert "not-a-real-secret" not in hidden
    assert to_dict(loaded)["data"] == {"id": "<hidden>", "secret": "<hidden>"}
    shown = to_dict(loaded, reveal_secrets=True)
    assert shown["stringData"] == {"secret": "not-a-real-secret"}


def test_the_copy_that_kubectl_keeps_of_a_secret_is_hidden_too() -> None:
    key = "kubectl.kubernetes.io/last-applied-configuration"
    meta = ObjectMeta(name="a", annotations={key: "YWRtaW4="})
    secret = Secret.model_validate({"metadata": meta, "data": {"k": "YWRtaW4="}})
    assert "YWRtaW4=" not in to_yaml(secret) + repr(secret)
    assert to_yaml(secret, reveal_secrets=True).count("YWRtaW4=") == 2


def test_a_hidden_secret_cannot_be_applied_by_mistake() -> None:
    loaded = load_documents(EXAMPLES / "dataset.yaml").objects[1].object
    again = load_documents(YamlText(to_yaml(loaded)))
    assert [problem.field_path for problem in again.problems] == ["data.id", "data.secret"]
