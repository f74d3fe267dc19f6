from __future__ import annotations

import subprocess
import sys

import pytest

from fluidpy.api.document import YamlText, load_documents
from fluidpy.api.kinds import FLUID_KINDS, KINDS, find_kind, key_of
from fluidpy.api.model import yaml_name
from fluidpy.api.schema_problems import field_names

SPEC_FIELDS = {
    "Dataset": "mounts owner nodeAffinity tolerations accessModes runtimes placement "
    "dataRestoreLocation sharedOptions sharedEncryptOptions",
    "AlluxioRuntime": "alluxioVersion master jobMaster worker jobWorker apiGateway initUsers fuse "
    "properties jvmOptions tieredstore data replicas runAs disablePrometheus hadoopConfig volumes "
    "podMetadata management imagePullSecrets",
    "JindoRuntime": "jindoVersion master worker fuse properties tieredstore replicas runAs user "
    "hadoopConfig labels secret logConfig networkmode cleanCachePolicy volumes podMetadata "
    "imagePullSecrets",
    "JuiceFSRuntime": "juicefsVersion initUsers master worker jobWorker fuse tieredstore configs "
    "replicas runAs disablePrometheus volumes volumeClaimTemplates podMetadata management",
    "EFCRuntime": "master worker initFuse fuse tieredstore replicas osAdvise cleanCachePolicy "
    "podMetadata",
    "ThinRuntime": "profileName worker fuse tieredstore replicas runAs disablePrometheus volumes "
    "management imagePullSecrets",
    "ThinRuntimeProfile": "fileSystemType worker fuse volumes nodePublishSecretPolicy "
    "imagePullSecrets",
    "VineyardRuntime": "master worker fuse tieredstore replicas disablePrometheus podMetadata "
    "volumes",
    "CacheRuntime": "runtimeClassName master worker client options volumes podMetadata "
    "imagePullSecrets",
    "DataLoad": "dataset loadMetadata target options policy schedule runAfter podMetadata affinity "
    "tolerations nodeSelector schedulerName resources ttlSecondsAfterFinished",
    "DataMigrate": "from to block runtimeType options parallelism parallelOptions image imageTag "
    "imagePullPolicy policy schedule runAfter podMetadata affinity tolerations nodeSelector "
    "schedulerName resources ttlSecondsAfterFinished",
    "DataBackup": "dataset backupPath runAs runAfter ttlSecondsAfterFinished",
    "DataProcess": "dataset processor policy schedule runAfter ttlSecondsAfterFinished",
}


def test_there_are_the_fourteen_kinds_of_fluid() -> None:
    assert set(FLUID_KINDS) == {*SPEC_FIELDS, "CacheRuntimeClass"}
    assert len(FLUID_KINDS) == 14


@pytest.mark.parametrize("kind", sorted(SPEC_FIELDS))
def test_a_spec_has_exactly_fluids_fields(kind: str) -> None:
    model = FLUID_KINDS[kind].model
    assert set(field_names(model, ("spec",))) == set(SPEC_FIELDS[kind].split())
    assert set(field_names(model, ())) == {"apiVersion", "kind", "metadata", "spec", "status"}


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
