"""What a file declares and one machine does not do is said, a line each."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fluidpy.api.document import load_valid_documents
from fluidpy.namespace.resolve_unserved import unserved

API = "apiVersion: data.fluid.io/v1alpha1\n"
SPEC = "spec:\n  mounts: [{mountPoint: 'local:///nas'}]\n"
DATASET = f"{API}kind: Dataset\nmetadata: {{name: d}}\n{SPEC}"
LEVELS = "tieredstore: {levels: [{mediumtype: MEM, path: /dev/shm, quota: 1Gi}]}"


def said(directory: Path, *documents: str) -> list[str]:
    """The warnings without their places."""
    file = directory / "objects.yaml"
    file.write_text("---\n".join(documents))
    loaded = load_valid_documents(file)
    return [re.sub(r"^.*?:\d+:\d+: ", "", str(p)) for p in unserved(loaded.objects, "default", "d")]


def runtime(kind: str, spec: str, name: str = "d") -> str:
    return f"{API}kind: {kind}\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n"


def test_a_dataset_alone_needs_no_words(tmp_path: Path) -> None:
    assert said(tmp_path, DATASET) == []


def test_the_engine_its_replicas_and_its_settings(tmp_path: Path) -> None:
    alluxio = runtime("AlluxioRuntime", f"replicas: 3, {LEVELS}, properties: {{a: b}}, fuse: {{}}")
    assert said(tmp_path, DATASET, alluxio) == [
        "kind: the AlluxioRuntime d starts no engine here: fluidpy's own worker reads, and keeps "
        "to its cache levels",
        "spec.replicas: 3 workers are declared, and one serves this machine",
        "spec: fuse, properties have no effect here",
    ]


def test_the_native_engine_is_served(tmp_path: Path) -> None:
    native = "runtimeClassName: fluidpy"
    assert said(tmp_path, DATASET, runtime("CacheRuntime", native)) == []
    workers = f"{native}, worker: {{replicas: 2, options: {{a: b}}}}"
    assert said(tmp_path, DATASET, runtime("CacheRuntime", workers)) == [
        "spec.worker.replicas: 2 workers are declared, and one serves this machine",
        "spec.worker: options has no effect here",
    ]
    assert (
        "starts no engine"
        in said(tmp_path, DATASET, runtime("CacheRuntime", "runtimeClassName: curvine"))[0]
    )


def test_a_runtime_of_another_name(tmp_path: Path) -> None:
    (line,) = said(tmp_path, DATASET, runtime("JuiceFSRuntime", "", name="typo"))
    assert line == (
        "kind: the JuiceFSRuntime typo serves no Dataset of these files; give it the name and "
        "namespace of its Dataset"
    )


def test_the_load_that_does_what_a_dataload_asks_for(tmp_path: Path) -> None:
    of_this = "spec:\n  dataset: {name: d, namespace: default}\n"
    load = f"{API}kind: DataLoad\nmetadata: {{name: warm}}\n{of_this}"
    assert said(tmp_path, DATASET, load) == [
        "kind: the DataLoad warm is not carried out here; run `fluidpy load -f FILE d`"
    ]
    targets = "  target: [{path: /train}, {path: '/a b'}]\n"
    (line,) = said(tmp_path, DATASET, load + targets)
    assert line.endswith("run `fluidpy load -f FILE d --path /train --path '/a b'`")


@pytest.mark.parametrize(
    "operation",
    [
        "DataBackup\nmetadata: {name: o}\nspec: {dataset: d, backupPath: 'local:///b'}\n",
        "DataProcess\nmetadata: {name: o}\nspec: {dataset: {name: d, namespace: default, "
        "mountPath: /d}, processor: {script: {image: i, source: s}}}\n",
    ],
)
def test_other_operations(operation: str, tmp_path: Path) -> None:
    (line,) = said(tmp_path, DATASET, f"{API}kind: {operation}")
    assert line == f"kind: the {operation.split()[0]} o is not carried out here"


def test_fields_of_the_dataset_that_need_a_cluster(tmp_path: Path) -> None:
    assert said(tmp_path, DATASET + "  placement: Shared\n") == [
        "spec: placement has no effect here"
    ]
