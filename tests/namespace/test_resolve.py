from __future__ import annotations

import base64
import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fluidpy.api.document import YamlText, load_documents
from fluidpy.api.metadata import is_dns1035_label
from fluidpy.errors import DatasetNotFoundError, UsageError, ValidationError
from fluidpy.namespace.definition import DatasetDefinition
from fluidpy.namespace.resolve import (
    Resolved,
    check_declared_sources,
    resolve_dataset,
    resolve_url,
)
from fluidpy.settings import Settings, load_settings
from fluidpy.storage.under_storage import MountSource

GIB = 1 << 30
Resolve = Callable[..., Resolved]
HEAD = "apiVersion: data.fluid.io/v1alpha1\n"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings({"HOME": str(tmp_path), "FLUIDPY_CONFIG": str(tmp_path / "none")})


@pytest.fixture
def resolve(settings: Settings, tmp_path: Path) -> Resolve:
    def call(
        *texts: str,
        dataset: str | None = None,
        namespace: str | None = None,
        environ: dict[str, str] | None = None,
        secret_directory: Path | None = None,
    ) -> Resolved:
        loaded = load_documents([YamlText("---\n".join(texts), "f.yaml")])
        assert not loaded.problems
        return resolve_dataset(
            loaded.objects,
            dataset=dataset,
            namespace=namespace,
            settings=replace(settings, secret_directory=secret_directory),
            environ=environ or {},
            base_directory=tmp_path,
        )

    return call


def dataset(name: str, spec: str, metadata: str = "") -> str:
    return f"{HEAD}kind: Dataset\nmetadata:\n  name: {name}\n{metadata}spec:\n{spec}"


def runtime(kind: str, name: str, spec: str) -> str:
    return f"{HEAD}kind: {kind}\nmetadata:\n  name: {name}\nspec:\n{spec}"


def secret(name: str, **values: str) -> str:
    data = "".join(
        f"  {key}: {base64.b64encode(value.encode()).decode()}\n" for key, value in values.items()
    )
    return f"apiVersion: v1\nkind: Secret\nmetadata:\n  name: {name}\ndata:\n{data}"


def paths(definition: DatasetDefinition) -> dict[str, str]:
    return {mount.path: mount.source.url for mount in definition.mounts}


PLAIN = dataset("d", "  mounts:\n  - mountPoint: s3://bucket/p\n    name: one\n")


def test_a_plain_dataset(resolve: Resolve) -> None:
    definition, warnings = resolve(PLAIN)
    assert definition.key == "default/d"
    assert paths(definition) == {"/one": "s3://bucket/p"}
    assert (definition.tiers, definition.uid, definition.metadata_ttl_seconds) == ((), None, None)
    assert definition.keep_on_disk
    assert warnings == []


def test_fluids_path_rules_and_the_owner(resolve: Resolve) -> None:
    definition, _ = resolve(
        dataset(
            "d",
            "  owner: {uid: 5, gid: 6, user: u, group: g}\n"
            "  mounts:\n"
            "  - {mountPoint: 's3://bucket/a', name: a, path: /x//y/}\n"
            "  - {mountPoint: 's3://bucket/b', name: b}\n"
            "  - {mountPoint: /data/nas, name: c, path: /}\n",
        )
    )
    assert paths(definition) == {"/x/y": "s3://bucket/a", "/b": "s3://bucket/b", "/": "/data/nas"}
    assert (definition.uid, definition.gid) == (5, 6)


def test_the_nearer_option_wins_and_secrets_come_from_three_places(
    resolve: Resolve, tmp_path: Path
) -> None:
    (tmp_path / "s" / "creds").mkdir(parents=True)
    (tmp_path / "s" / "creds" / "file-key").write_text("from-file\n")
    text = dataset(
        "d",
        "  sharedOptions: {endpoint: https://shared, region: r}\n"
        "  sharedEncryptOptions:\n"
        "  - {name: token, valueFrom: {secretKeyRef: {name: creds, key: ob}}}\n"
        "  mounts:\n"
        "  - mountPoint: s3://bucket/a\n"
        "    options: {endpoint: https://own}\n"
        "    encryptOptions:\n"
        "    - {name: key, valueFrom: {secretKeyRef: {name: creds, key: file-key}}}\n"
        "    - {name: secret, valueFrom: {secretKeyRef: {name: creds, key: env.key}}}\n",
    )
    definition, _ = resolve(
        text,
        secret("creds", ob="from-object"),
        secret_directory=tmp_path / "s",
        environ={"FLUIDPY_SECRET_CREDS_ENV_KEY": "from-environment"},
    )
    source = definition.mounts[0].source
    assert source.options == {"endpoint": "https://own", "region": "r"}
    assert source.secrets == {
        "token": "from-object",
        "key": "from-file",
        "secret": "from-environment",
    }
    assert "from-" not in repr(definition)


def test_a_source_that_no_driver_takes_is_refused_at_its_place(resolve: Resolve) -> None:
    text = dataset(
        "d",
        "  mounts:\n"
        "  - mountPoint: s3://bucket/a\n"
        "    name: a\n"
        "    options: {endpiont: https://host}\n"
        "  - {mountPoint: 'oss://bucket', name: b}\n"
        "  - {mountPoint: 'pvc://claim', name: c}\n",
    )
    with pytest.raises(ValidationError) as caught:
        resolve(text)
    lines = str(caught.value).splitlines()
    assert [line.partition(": mount ")[0] for line in lines] == [
        f"f.yaml:{7 + n}:5: spec.mounts[{i}]" for i, n in enumerate((0, 3, 4))
    ]
    for line, said in zip(lines, ("endpoint?", "endpoint", "[pvc]"), strict=True):
        assert said in line


def test_a_scheme_that_nothing_here_reads_is_resolved_and_not_valid(resolve: Resolve) -> None:
    """The worker may have a package that a training process has not."""
    text = dataset("d", "  mounts:\n  - {mountPoint: 's33://bucket', name: d}\n")
    assert paths(resolve(text).definition) == {"/d": "s33://bucket"}
    problems, _ = check_declared_sources(load_documents([YamlText(text, "f.yaml")]).objects)
    assert [p.field_path for p in problems] == ["spec.mounts[0]"]
    assert "s3://" in str(problems[0])


def test_options_without_a_meaning_are_warnings_with_their_place(resolve: Resolve) -> None:
    text = dataset(
        "d",
        "  mounts:\n  - mountPoint: s3://bucket/a\n    options: {jindo.x: '1', region: r}\n",
    )
    _, warnings = resolve(text)
    assert warnings == [
        "f.yaml:8:14: spec.mounts[0].options: option jindo.x has no meaning here and is ignored;"
        " leave it out"
    ]


def test_sources_are_checked_as_declared_without_secrets_and_claims() -> None:
    text = dataset(
        "d",
        "  mounts:\n"
        "  - mountPoint: s3://bucket/a\n"
        "    options: {key: AK, fs.x: '1'}\n"
        "    encryptOptions:\n"
        "    - {name: secret, valueFrom: {secretKeyRef: {name: creds, key: k}}}\n"
        "  - {mountPoint: 'pvc://claim', name: c}\n"
        "  - {mountPoint: 'dataset://default/none', name: r}\n"
        "  - {mountPoint: 'http://', name: h}\n",
    )
    objects = load_documents([YamlText(text, "f.yaml")]).objects
    problems, warnings = check_declared_sources(objects)
    assert [p.field_path for p in problems] == ["spec.mounts[3]"]
    assert [w.field_path for w in warnings] == ["spec.mounts[0].options"]


def test_every_problem_is_told_at_once_with_its_place(resolve: Resolve) -> None:
    text = dataset(
        "d",
        "  mounts:\n"
        "  - mountPoint: s3://bucket/a\n"
        "    name: a\n"
        "    encryptOptions:\n"
        "    - {name: x, valueFrom: {secretKeyRef: {name: creds, key: k}}}\n"
        "  - {mountPoint: 'dataset://default/none', name: r}\n",
        "  annotations: {fluidpy.io/metadata-ttl: soon, fluidpy.io/cache: nowhere}\n",
    )
    with pytest.raises(ValidationError) as caught:
        resolve(text)
    lines = str(caught.value).splitlines()
    assert len(lines) == 4
    told = "\n".join(lines)
    assert (
        "f.yaml:11:43: spec.mounts[0].encryptOptions[0].valueFrom.secretKeyRef: no Secret 'creds'"
        " with the key 'k' is known; add a Secret named 'creds' with the key 'k' to the files,"
        " or set FLUIDPY_SECRET_CREDS_K" in told
    )
    assert "the Dataset default/none is not in the files; give its file too" in told
    assert "'soon' is not a duration" in told
    assert "is 'nowhere', which means nothing; write 'memory-only'" in told


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30.0), ("5m", 300.0), ("never", math.inf), ("0s", 0.0)]
)
def test_the_ttl_annotation(resolve: Resolve, text: str, seconds: float) -> None:
    noted = f"  annotations: {{fluidpy.io/metadata-ttl: {text}}}\n"
    definition, _ = resolve(dataset("d", "  mounts: [{mountPoint: 's3://bucket'}]\n", noted))
    assert definition.metadata_ttl_seconds == seconds


@pytest.mark.parametrize(
    ("kind", "spec", "ttl"),
    [
        ("AlluxioRuntime", "  management: {metadataSyncPolicy: {autoSync: false}}\n", math.inf),
        ("AlluxioRuntime", "  replicas: 1\n", None),
        ("ThinRuntime", "  profileName: p\n", math.inf),
        ("ThinRuntime", "  management: {metadataSyncPolicy: {autoSync: true}}\n", None),
    ],
)
def test_auto_sync_off_means_never_again(
    resolve: Resolve, kind: str, spec: str, ttl: float | None
) -> None:
    profile = (
        f"{HEAD}kind: ThinRuntimeProfile\nmetadata: {{name: p}}\nspec: {{fileSystemType: nfs}}\n"
    )
    definition, _ = resolve(PLAIN, runtime(kind, "d", spec), profile)
    assert definition.metadata_ttl_seconds == ttl


def test_tiers_of_fluids_engines(resolve: Resolve) -> None:
    definition, _ = resolve(
        PLAIN,
        runtime(
            "AlluxioRuntime",
            "d",
            "  tieredstore:\n    levels:\n"
            "    - {mediumtype: MEM, path: /dev/shm, quota: 2Gi}\n"
            "    - {mediumtype: SSD, path: '/mnt/a,/mnt/b', quota: 4Gi, high: '0.9', low: '0.5'}\n"
            "    - {mediumtype: HDD, path: '/mnt/c,/mnt/d', quotaList: '1Gi,3Gi'}\n",
        ),
    )
    found = [(t.directory, t.quota_bytes, t.high, t.low, t.medium) for t in definition.tiers]
    assert found == [
        (f"/dev/shm/fluidpy-{os.getuid()}/fluidpy-store", 2 * GIB, 0.95, 0.85, "MEM"),
        ("/mnt/a/fluidpy-store", 2 * GIB, 0.9, 0.5, "SSD"),
        ("/mnt/b/fluidpy-store", 2 * GIB, 0.9, 0.5, "SSD"),
        ("/mnt/c/fluidpy-store", GIB, 0.95, 0.85, "HDD"),
        ("/mnt/d/fluidpy-store", 3 * GIB, 0.95, 0.85, "HDD"),
    ]


def test_tiers_of_a_cache_runtime(resolve: Resolve, settings: Settings) -> None:
    definition, _ = resolve(
        PLAIN,
        runtime(
            "CacheRuntime",
            "d",
            "  runtimeClassName: fluidpy\n  worker:\n    tieredStore:\n      levels:\n"
            "      - processMemory: {quota: 1Gi}\n"
            "      - emptyDir: {quota: 2Gi}\n"
            "      - hostPath: {paths: [/mnt/a], quotas: [3Gi]}\n",
        ),
    )
    assert [(t.directory, t.quota_bytes, t.medium) for t in definition.tiers] == [
        (f"/dev/shm/fluidpy-{os.getuid()}/fluidpy-store", GIB, "MEM"),
        (str(settings.cache_dir / "empty-dir/default.d-1/fluidpy-store"), 2 * GIB, "SSD"),
        ("/mnt/a/fluidpy-store", 3 * GIB, "SSD"),
    ]


def test_a_level_without_quota_has_one_that_does_not_vary(resolve: Resolve) -> None:
    level = "  tieredstore: {levels: [{mediumtype: SSD, path: /tmp}]}\n"
    first = resolve(PLAIN, runtime("ThinRuntime", "d", level)).definition
    second = resolve(PLAIN, runtime("ThinRuntime", "d", level)).definition
    assert first.tiers[0].quota_bytes > 0
    assert first.digest() == second.digest()


def test_memory_only_refuses_levels_on_disk(resolve: Resolve) -> None:
    noted = "  annotations: {fluidpy.io/cache: memory-only}\n"
    text = dataset("d", "  mounts: [{mountPoint: 's3://bucket'}]\n", noted)
    assert not resolve(text).definition.keep_on_disk
    memory = "  tieredstore: {levels: [{mediumtype: MEM, path: /dev/shm, quota: 1Gi}]}\n"
    assert not resolve(text, runtime("JindoRuntime", "d", memory)).definition.keep_on_disk
    disk = "  tieredstore: {levels: [{mediumtype: SSD, path: /mnt/a, quota: 1Gi}]}\n"
    with pytest.raises(ValidationError, match="is memory-only, but the runtime has a SSD level"):
        resolve(text, runtime("JindoRuntime", "d", disk))


PHYSICAL = dataset(
    "phys",
    "  mounts:\n"
    "  - {mountPoint: 's3://bucket/a', name: a, path: /a}\n"
    "  - {mountPoint: 's3://bucket/deep', name: b, path: /a/sub/deep}\n"
    "  - {mountPoint: 's3://bucket/c', name: c}\n",
)


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("", {"/a": "s3://bucket/a", "/a/sub/deep": "s3://bucket/deep", "/c": "s3://bucket/c"}),
        ("/a", {"/": "s3://bucket/a", "/sub/deep": "s3://bucket/deep"}),
        ("/a/sub", {"/": "s3://bucket/a/sub", "/deep": "s3://bucket/deep"}),
        ("/c/x/y", {"/": "s3://bucket/c/x/y"}),
    ],
)
def test_a_reference_shows_the_other_tree(
    resolve: Resolve, reference: str, expected: dict[str, str]
) -> None:
    text = dataset("ref", f"  mounts: [{{mountPoint: 'dataset://default/phys{reference}'}}]\n")
    level = "  tieredstore: {levels: [{mediumtype: SSD, path: /mnt/a, quota: 1Gi}]}\n"
    objects = (text, PHYSICAL, runtime("JindoRuntime", "phys", level))
    definition, _ = resolve(*objects, dataset="ref")
    assert paths(definition) == expected
    assert definition.key == "default/ref"
    assert len(definition.tiers) == 1  # the cache of the Dataset it refers to


def test_a_reference_beside_other_mounts_lies_at_its_path(resolve: Resolve) -> None:
    text = dataset(
        "ref",
        "  mounts:\n"
        "  - {mountPoint: 'dataset://default/phys/c', name: r}\n"
        "  - {mountPoint: 's3://bucket/o', name: o}\n",
    )
    definition, _ = resolve(text, PHYSICAL, dataset="ref")
    assert paths(definition) == {"/r": "s3://bucket/c", "/o": "s3://bucket/o"}


def test_circles_and_wrong_places_are_refused(resolve: Resolve) -> None:
    one = dataset("one", "  mounts: [{mountPoint: 'dataset://default/two'}]\n")
    two = dataset("two", "  mounts: [{mountPoint: 'dataset://default/one'}]\n")
    with pytest.raises(ValidationError, match="default/one → default/two → default/one"):
        resolve(one, two, dataset="one")
    text = dataset("ref", "  mounts: [{mountPoint: 'dataset://default/phys/none'}]\n")
    with pytest.raises(ValidationError, match="has no mount at or above /none"):
        resolve(text, PHYSICAL, dataset="ref")


def test_which_dataset(resolve: Resolve) -> None:
    other = PLAIN.replace("name: d", "name: e")
    assert resolve(PLAIN, other, dataset="e").definition.name == "e"
    with pytest.raises(UsageError, match="several Datasets could be meant: default/d, default/e"):
        resolve(PLAIN, other)
    with pytest.raises(DatasetNotFoundError, match="no Dataset x; they declare default/d"):
        resolve(PLAIN, dataset="x")
    with pytest.raises(DatasetNotFoundError):
        resolve(PLAIN, namespace="elsewhere")
    with pytest.raises(ValidationError, match=r"f\.yaml:\d+:\d+: spec\.mounts: has no mounts"):
        resolve(f"{HEAD}kind: Dataset\nmetadata:\n  name: d\n")


def test_a_second_runtime_is_told(resolve: Resolve) -> None:
    both = [runtime(kind, "d", "  replicas: 1\n") for kind in ("AlluxioRuntime", "JindoRuntime")]
    loaded = load_documents([YamlText("---\n".join([PLAIN, *both]), "f.yaml")])
    if not loaded.problems:  # the loader may refuse it already
        _, warnings = resolve(PLAIN, *both)
        assert any("the Dataset d has a AlluxioRuntime already" in one for one in warnings)


@pytest.mark.parametrize(
    "url",
    ["s3://bucket/some/Prefix", "s3://1234/5", "https://host:80/a?b", "s3://b/" + "x" * 300, "."],
)
def test_a_url_gets_a_name_of_its_own(url: str) -> None:
    definition = resolve_url(url, {"endpoint": "e", "secret_access_key": "hidden"})
    assert is_dns1035_label(definition.name)
    assert definition.mounts[0].path == "/"
    assert definition.name == resolve_url(url, {"endpoint": "e"}).name
    assert definition.name != resolve_url(url, {"endpoint": "f"}).name
    source = definition.mounts[0].source
    assert source.options == {"endpoint": "e"}
    assert source.secrets == {"secret_access_key": "hidden"}
    assert isinstance(source, MountSource)
    assert os.path.isabs(source.url) or "://" in source.url
