from __future__ import annotations

import subprocess
import sys

import pytest

from fluidpy.api.document import YamlText, load_documents
from fluidpy.api.kinds import FLUID_KINDS, KINDS, find_kind, key_of
from fluidpy.api.model import yaml_name
from fluidpy.api.schema_problems import field_names

ENGINE_COLUMNS = (
    "Ready Masters, Desired Masters, Master Phase, Ready Workers, Desired Workers, Worker Phase, "
    "Ready Fuses, Desired Fuses, Fuse Phase"
)
DECLARED = {
    "Dataset": "datasets dataset status fluid: Ufs Total Size, Cached, Cache Capacity, "
    "Cached Percentage, Phase, HCFS URL, TOTAL FILES, CACHE HIT RATIO, Age",
    "AlluxioRuntime": f"alluxioruntimes alluxio status scale fluid: {ENGINE_COLUMNS}, "
    "API Gateway, Age",
    "JindoRuntime": f"jindoruntimes jindo status scale fluid: {ENGINE_COLUMNS}, Age",
    "JuiceFSRuntime": "juicefsruntimes juicefs status scale fluid: Ready Workers, "
    "Desired Workers, Worker Phase, Ready Fuses, Desired Fuses, Fuse Phase, Age",
    "EFCRuntime": f"efcruntimes efc status scale fluid: {ENGINE_COLUMNS}, Age",
    "ThinRuntime": "thinruntimes status: ",
    "ThinRuntimeProfile": "thinruntimeprofiles status cluster: ",
    "VineyardRuntime": f"vineyardruntimes v6d status scale fluid: {ENGINE_COLUMNS}, "
    "API Gateway, Age",
    "CacheRuntime": "cacheruntimes status fluid: Age, Status",
    "CacheRuntimeClass": "cacheruntimeclasses cluster fluid: ",
    "DataLoad": "dataloads load status fluid: Dataset, Phase, Age, Duration",
    "DataMigrate": "datamigrates migrate status fluid: Phase, Age, Duration",
    "DataBackup": "databackups backup status fluid: Dataset, Phase, Path, NodeName, Duration, Age",
    "DataProcess": "dataprocesses status: Dataset, Phase, Age, Duration",
}
"""Plural, short name, subresources, scope and category, and the columns that are printed."""


@pytest.mark.parametrize("kind", sorted(DECLARED))
def test_a_kind_is_declared_as_fluid_declares_it(kind: str) -> None:
    info = FLUID_KINDS[kind]
    marks = {
        "status": info.status_subresource,
        "scale": info.scalable,
        "cluster": not info.namespaced,
        "fluid": info.in_category,
    }
    words = [info.plural, *info.short_names, *(mark for mark, is_so in marks.items() if is_so)]
    columns = ", ".join(column.title for column in info.columns)
    assert f"{' '.join(words)}: {columns}" == DECLARED[kind]
    assert info.api_version == "data.fluid.io/v1alpha1"


@pytest.mark.parametrize(
    ("kind", "spec", "said"),
    [
        (
            "DataMigrate",
            "{from: {externalStorage: {uri: s3://a/b}}, parallelism: 0,"
            " to: {dataset: {name: a, namespace: default}}}",
            "spec.parallelism: must be 1 or more",
        ),
        (
            "CacheRuntime",
            "{runtimeClassName: fluidpy, worker: {replicas: -1}}",
            "spec.worker.replicas: must be 0 or more",
        ),
        (
            "JindoRuntime",
            "{cleanCachePolicy: {gracePeriodSeconds: -1}}",
            "spec.cleanCachePolicy.gracePeriodSeconds: must be 0 or more",
        ),
    ],
)
def test_a_number_beyond_its_bounds_is_refused(kind: str, spec: str, said: str) -> None:
    text = f"apiVersion: data.fluid.io/v1alpha1\nkind: {kind}\nmetadata: {{name: a}}\n"
    (problem,) = load_documents(YamlText(f"{text}spec: {spec}\n")).problems
    assert said in str(problem)


def test_there_are_the_fourteen_kinds_of_fluid() -> None:
    assert set(FLUID_KINDS) == set(DECLARED)
    assert len(FLUID_KINDS) == 14


def test_a_cache_runtime_class_has_its_fields_at_the_top() -> None:
    assert set(field_names(FLUID_KINDS["CacheRuntimeClass"].model, ())) == {
        *("apiVersion", "kind", "metadata", "fileSystemType", "topology", "extraResources"),
        "dataOperationSpecs",
    }


@pytest.mark.parametrize(
    ("python", "yaml"),
    [("mount_point", "mountPoint"), ("from_", "from"), ("mount_ufs", "mountUFS"), ("uid", "uid")],
)
def test_yaml_names_are_camel_case(python: str, yaml: str) -> None:
    assert yaml_name(python) == yaml


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("Dataset", "Dataset"),
        ("datasets", "Dataset"),
        ("alluxio", "AlluxioRuntime"),
        ("v6d", "VineyardRuntime"),
        ("DataLoads.data.fluid.io", "DataLoad"),
        ("load", "DataLoad"),
        ("pvc", "PersistentVolumeClaim"),
    ],
)
def test_a_kind_is_found_by_any_of_its_names(name: str, kind: str) -> None:
    info = find_kind(name)
    assert info is not None
    assert info.kind == kind


def test_an_unknown_kind_is_not_found() -> None:
    assert find_kind("pods") is None


def test_kinds_of_the_cluster_have_no_namespace_in_their_key() -> None:
    text = "apiVersion: data.fluid.io/v1alpha1\nkind: ThinRuntimeProfile\nmetadata: {name: a}\n"
    loaded = load_documents(YamlText(text + "spec: {fileSystemType: fuse}\n"), namespace="team")
    assert key_of(loaded.objects[0].object) == ("ThinRuntimeProfile", "", "a")


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_printed_columns_point_at_fields_that_are_there(kind: str) -> None:
    info = KINDS[kind]
    for column in info.columns:
        first, *rest = column.json_path.strip(".").split(".")
        known = field_names(info.model, (first,))
        assert rest[0] in known, column


def test_scalable_kinds_have_replicas_in_their_spec() -> None:
    for info in FLUID_KINDS.values():
        if info.scalable:
            assert "replicas" in field_names(info.model, ("spec",))


def test_importing_fluidpy_imports_no_resource_types() -> None:
    code = "import fluidpy, sys; sys.exit('pydantic' in sys.modules or 'yaml' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


def test_importing_the_kinds_imports_pydantic_only() -> None:
    code = (
        "import fluidpy.api.kinds, sys; "
        "sys.exit(len({'yaml', 'obstore', 'aiohttp', 'kubernetes'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
