from __future__ import annotations

import pytest

from fluidpy.api.document import LoadResult, YamlText, load_documents


def document(kind: str, spec: str, *, name: str = "demo", metadata: str = "") -> str:
    """An object of a kind with a spec in flow style."""
    extra = f", {metadata}" if metadata else ""
    return (
        f"apiVersion: data.fluid.io/v1alpha1\nkind: {kind}\n"
        f"metadata: {{name: {name}{extra}}}\nspec: {spec}\n---\n"
    )


def load(*texts: str) -> LoadResult:
    return load_documents(YamlText("".join(texts), "f"))


def problems(*texts: str) -> list[str]:
    return [str(problem) for problem in load(*texts).problems]


def warnings(*texts: str) -> list[str]:
    result = load(*texts)
    assert result.problems == []
    return [str(warning) for warning in result.warnings]


def only(*texts: str) -> str:
    (problem,) = problems(*texts)
    return problem


def dataset(*mounts: str, rest: str = "", name: str = "demo") -> str:
    listed = ", ".join(f"{{{mount}}}" for mount in mounts)
    return document("Dataset", f"{{mounts: [{listed}]{rest}}}", name=name)


A, B = "mountPoint: s3://bucket/a", "mountPoint: s3://bucket/b"


@pytest.mark.parametrize("name", ["1demo", "Demo", "a.b", "-a", "a-", "a" * 64, "a_b"])
def test_a_dataset_needs_a_dns_1035_label(name: str) -> None:
    problem = only(document("Dataset", "{}", name=name))
    assert f"f:3:18: metadata.name: '{name}' is no name for a Dataset (a DNS-1035 label)" in problem


def test_other_objects_need_a_dns_1123_subdomain() -> None:
    assert problems(document("AlluxioRuntime", "{}", name="1.demo")) == []
    assert "DNS-1123 subdomain" in only(document("AlluxioRuntime", "{}", name="a..b"))


def test_a_missing_name_is_told() -> None:
    text = "apiVersion: data.fluid.io/v1alpha1\nkind: Dataset\nmetadata: {labels: {a: b}}\n"
    assert only(text) == "f:3:11: metadata.name: is required; give the object a name"


def test_namespaces_labels_and_data_keys_have_their_forms() -> None:
    assert "no name for a namespace" in only(document("Dataset", "{}", metadata="namespace: A.b"))
    assert "no value for a label" in only(document("Dataset", "{}", metadata="labels: {a: b c}"))
    key = "annotations: {a/b/c: x}"
    assert "no key for a label or annotation" in only(document("Dataset", "{}", metadata=key))
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {a b: x}\n"
    assert 'data["a b"]: is no key for a value' in only(text)


def test_the_same_object_twice_is_told_with_the_first_place() -> None:
    other = document("Dataset", "{}", metadata="namespace: other")
    assert "is given twice, first in f:1;" in only(document("Dataset", "{}"), other, dataset(A))


def test_mounts_side_by_side_and_nested_are_fine() -> None:
    mounts = (f"{A}, name: a", f"{B}, path: /a/inner", f"{A}, path: /c")
    assert problems(dataset(*mounts)) == []
    assert problems(dataset(f"{A}, path: /")) == []
    assert problems(dataset(A)) == []


def test_two_mounts_at_one_path_are_told_with_both_names() -> None:
    problem = only(dataset(f"{A}, name: one", f"{B}, name: two, path: /one/"))
    assert "spec.mounts[1].path: the mounts 'one' and 'two' both appear at /one;" in problem


def test_two_mounts_of_one_name_are_told() -> None:
    problem = only(dataset(f"{A}, name: one, path: /x", f"{B}, name: one, path: /y"))
    assert "spec.mounts[1].name: the name 'one' is that of spec.mounts[0] too" in problem


@pytest.mark.parametrize(
    ("mount", "message"),
    [
        (f"{A}, path: rel/x", "the path 'rel/x' is relative; write '/rel/x'"),
        (f"{A}, path: /a/../b", "has '.' or '..' in it"),
        (f"{A}, name: a/b", "'a/b' is no name for a mount"),
        ("mountPoint: bucket", "is neither a URL nor an absolute path; write a URL such as s3://"),
        ("mountPoint: 's3:// '", "has blanks or control characters around it"),
        ("mountPoint: 's3://'", "'s3://' names nothing; write it like s3://NAME/PATH"),
        ("mountPoint: 'https://u:p@h/x'", "has a password in it; put it in a Secret"),
        ("mountPoint: dataset://only", "names no Dataset; write dataset://NAMESPACE/NAME"),
        ("mountPoint: dataset://default/demo", "the Dataset refers to itself"),
    ],
)
def test_mounts_that_cannot_be_are_told(mount: str, message: str) -> None:
    assert message in only(dataset(mount))


def test_a_mount_without_a_place_is_told_when_there_are_several() -> None:
    assert "spec.mounts[1]: the mount has neither name nor path" in only(
        dataset(f"{A}, name: a", B)
    )


@pytest.mark.parametrize(
    "point",
    [
        "/mnt/nas",
        "juicefs:///",
        "local:///data",
        "nas.example.com:/x",
        "h:123:/x",
        "pvc://claim/sub",
    ],
)
def test_mount_points_of_fluid_are_accepted(point: str) -> None:
    assert problems(dataset(f"mountPoint: '{point}'")) == []


@pytest.mark.parametrize("kind", ["ThinRuntime", "CacheRuntime"])
def test_a_plug_in_gets_any_mount_point(kind: str) -> None:
    spec = "{runtimeClassName: x}" if kind == "CacheRuntime" else "{profileName: x}"
    assert problems(dataset("mountPoint: volume-1"), document(kind, spec)) == []


def secret_option(name: str, secret: str = "keys", key: str = "id") -> str:
    return f"{{name: {name}, valueFrom: {{secretKeyRef: {{name: {secret}, key: {key}}}}}}}"


def test_an_option_set_more_than_once_is_told_wherever_it_is_set() -> None:
    option = secret_option("key")
    twice = dataset(f"{A}, encryptOptions: [{option}, {option}]")
    assert "is set more than one times, here and in another item of this list" in only(twice)
    plain = dataset(f"{A}, options: {{key: a}}, encryptOptions: [{option}]")
    assert "encryptOptions[0].name: the option 'key' is set more than one times" in only(plain)
    shared = dataset(f"{A}, encryptOptions: [{option}]", rest=", sharedOptions: {key: a}")
    assert "here and in spec.sharedOptions" in only(shared)
    both = dataset(A, rest=f", sharedOptions: {{key: a}}, sharedEncryptOptions: [{option}]")
    assert "spec.sharedEncryptOptions[0].name: the option 'key'" in only(both)
    other = dataset(f"{A}, options: {{key: a}}", rest=f", sharedEncryptOptions: [{option}]")
    assert "spec.mounts[0].options.key: the option 'key' is set more" in only(other)


def test_a_mounts_own_secret_option_wins_over_a_shared_one() -> None:
    text = dataset(
        f"{A}, encryptOptions: [{secret_option('key', 'own')}]",
        rest=f", sharedEncryptOptions: [{secret_option('key')}]",
    )
    assert problems(text) == []


def test_secrets_may_be_missing_unless_the_caller_says_otherwise() -> None:
    mounts = dataset(f"{A}, encryptOptions: [{secret_option('a')}, {secret_option('b', 'x', 'y')}]")
    secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: keys}\nstringData: {other: x}\n"
    assert problems(mounts, secret) == []
    asked: list[tuple[str, str, str]] = []

    def known(namespace: str, name: str, key: str) -> bool:
        asked.append((namespace, name, key))
        return False

    result = load_documents(YamlText(mounts + secret), secret_known=known)
    assert [problem.message for problem in result.problems] == [
        "the Secret 'keys' has no key 'id'",
        "there is no Secret 'x' in namespace 'default'",
    ]
    assert asked == [("default", "keys", "id"), ("default", "x", "y")]
    assert load_documents(YamlText(mounts), secret_known=lambda *_: True).problems == []
    good = (
        secret.replace("other", "id") + "---\n" + secret.replace("keys", "x").replace("other", "y")
    )
    result = load_documents(YamlText(mounts + good), secret_known=lambda *_: False)
    assert result.problems == []


@pytest.mark.parametrize(
    ("level", "message"),
    [
        ("path: /a", "the level has no quota; give quota: 10Gi"),
        ("path: /a, quota: 0", "quota: must be above zero"),
        ("path: '/a,/b', quotaList: 1Gi", "quotaList: has 1 quotas for 2 paths"),
        ("path: '/a,/b', quotaList: '1Gi,x'", "'x' is not a quantity; write a number"),
        ("path: '/a,/b', quotaList: '1Gi,-1'", "quota 2 must be above zero"),
        ("path: 'a', quota: 1Gi", "path 1 of the level is not absolute"),
        ("path: '/a,/a', quota: 1Gi", "names a directory twice"),
        ("quota: 1Gi, high: '0.5', low: '0.7'", "high (0.5) must be above low (0.7)"),
        ("quota: 1Gi, high: '0.5', low: '0.5'", "high (0.5) must be above low (0.5)"),
        ("quota: 1Gi, high: '95'", 'high: must be a share from 0 to 1; write "0.95"'),
        ("quota: 1Gi, low: '-0.1'", "low: must be a share from 0 to 1"),
        ("quota: 1Gi, low: 'x'", "low: is not a number"),
        ("quota: 1Gi, low: '1/0'", "low: is not a number"),
        ("quota: 10GB", "'10GB' is not a quantity; write a number with an optional suffix"),
        ("quota: true", "must be a quantity"),
    ],
)
@pytest.mark.parametrize("kind", ["AlluxioRuntime", "JindoRuntime", "JuiceFSRuntime", "EFCRuntime"])
def test_cache_levels_that_do_not_add_up_are_told(kind: str, level: str, message: str) -> None:
    spec = f"{{tieredstore: {{levels: [{{mediumtype: SSD, {level}}}]}}}}"
    problem = only(document(kind, spec))
    assert message in problem
    assert "spec.tieredstore.levels[0]" in problem


@pytest.mark.parametrize(
    ("level", "message"),
    [
        ("high: '0.9'", "has no medium; give exactly one of processMemory, emptyDir, hostPath"),
        ("processMemory: {quota: 1Gi}, emptyDir: {quota: 1}", "has processMemory and emptyDir;"),
        ("hostPath: {paths: [/a, /b], quotas: [1]}", "hostPath.quotas: has 1 quotas for 2 paths"),
        ("hostPath: {paths: [a], quotas: [1]}", "hostPath.paths[0]: is not absolute"),
        ("emptyDir: {quota: 1}, high: '0.1', low: '0.2'", "high (0.1) must be above low (0.2)"),
        (
            "processMemory: {quota: 1}}, {processMemory: {quota: 1}",
            "is the second level in process",
        ),
        ("emptyDir: {}", "emptyDir.quota: is required"),
    ],
)
def test_levels_of_a_cache_runtime_have_exactly_one_medium(level: str, message: str) -> None:
    spec = f"{{runtimeClassName: x, worker: {{tieredStore: {{levels: [{{{level}}}]}}}}}}"
    problem = only(document("CacheRuntime", spec))
    assert message in problem
    assert "spec.worker.tieredStore.levels[" in problem


def test_a_runtime_class_says_how_each_operation_is_done_once() -> None:
    text = (
        "apiVersion: data.fluid.io/v1alpha1\nkind: CacheRuntimeClass\nmetadata: {name: a}\n"
        "fileSystemType: fuse\n"
        "dataOperationSpecs: [{name: DataLoad}, {name: DataLoad, args: [x]}]\n"
    )
    assert len(problems(text)) == 2


def test_a_thin_runtime_takes_no_post_start() -> None:
    fuse = "{fuse: {lifecycle: {postStart: {}, preStop: {}}}}"
    assert "spec.fuse.lifecycle.postStart: is not allowed" in only(document("ThinRuntime", fuse))


def test_a_clean_policy_is_one_of_fluids() -> None:
    text = document("ThinRuntime", "{fuse: {cleanPolicy: OnDemnad}}")
    assert "did you mean 'OnDemand'?" in only(text)
    assert "with JuiceFSRuntime only" in warnings(text.replace("OnDemnad", "OnFuseChanged"))[0]


HERE = "dataset: {name: demo, namespace: default}"


@pytest.mark.parametrize(
    ("kind", "spec", "message"),
    [
        ("DataLoad", "{}", "spec.dataset: is required"),
        ("DataLoad", "{dataset: {name: demo}}", "namespace: is required; write 'namespace: defa"),
        ("DataLoad", "{dataset: {name: a, namespace: b}}", "the Dataset is in namespace 'b', the"),
        ("DataLoad", f"{{{HERE}, target: [{{path: a}}]}}", "is not a path from the Dataset's root"),
        ("DataLoad", f"{{{HERE}, policy: Cron}}", "schedule: is required with policy Cron"),
        ("DataLoad", f"{{{HERE}, policy: Cron, schedule: '* *'}}", "has 2 fields instead of 5"),
        (
            "DataLoad",
            f"{{{HERE}, policy: Cron, schedule: '60 * * * *'}}",
            "does not fit the minute",
        ),
        ("DataLoad", f"{{{HERE}, policy: cron, schedule: '@daily'}}", "did you mean 'Cron'?"),
        (
            "DataLoad",
            f"{{{HERE}, runAfter: {{kind: DataLoad, name: demo}}}}",
            "wait for each other",
        ),
        (
            "DataMigrate",
            f"{{from: {{}}, to: {{{HERE}}}}}",
            "spec.from: names nothing; give exactly",
        ),
        (
            "DataMigrate",
            f"{{from: {{{HERE}, externalStorage: {{uri: s3://a/b}}}}, to: {{{HERE}}}}}",
            "spec.from: has both dataset and externalStorage",
        ),
        (
            "DataMigrate",
            "{from: {externalStorage: {uri: s3://a/b}}, to: {externalStorage: {uri: s3://a/c}}}",
            "neither side is a Dataset",
        ),
        (
            "DataMigrate",
            f"{{from: {{externalStorage: {{uri: a/b}}}}, to: {{{HERE}}}}}",
            "externalStorage.uri: is not a URL",
        ),
        (
            "DataMigrate",
            f"{{from: {{externalStorage: {{uri: s3://a/b}}}}, to: {{{HERE}}}, parallelism: 2}}",
            "sshSecretName: is required with parallelism above 1",
        ),
        ("DataBackup", "{dataset: a, backupPath: s3://a}", "must be a path of a node or a claim"),
        ("DataBackup", "{dataset: a}", "spec.backupPath: is required"),
        ("DataBackup", "{backupPath: pvc://a}", "spec.dataset: is required"),
        (
            "DataProcess",
            "{dataset: {name: a, namespace: default, mountPath: /d}, processor: {}}",
            "spec.processor: has neither job nor script",
        ),
        (
            "DataProcess",
            "{dataset: {name: a, namespace: default, mountPath: /d}, "
            "processor: {job: {}, script: {source: x}}}",
            "spec.processor: has both job and script",
        ),
        (
            "DataProcess",
            "{dataset: {name: a, namespace: default, mountPath: /d}, "
            "processor: {script: {source: x, volumeMounts: [{name: a, mountPath: /d/}]}}}",
            "volumeMounts[0].mountPath: '/d/' is where the Dataset appears too",
        ),
        (
            "DataProcess",
            "{dataset: {name: a, namespace: default, mountPath: /d}, processor: {job: "
            "{podSpec: {initContainers: [{volumeMounts: [{mountPath: /d}]}]}}}}",
            "job.podSpec.initContainers[0].volumeMounts[0].mountPath",
        ),
        (
            "DataProcess",
            "{dataset: {name: a, namespace: default, mountPath: d}, processor: {job: {}}}",
            "spec.dataset.mountPath: is not absolute",
        ),
    ],
)
def test_operations_that_cannot_run_are_told(kind: str, spec: str, message: str) -> None:
    assert message in only(document(kind, spec))


def test_operations_that_wait_in_a_circle_are_told_at_each() -> None:
    first = document("DataLoad", f"{{{HERE}, runAfter: {{kind: DataBackup, name: b}}}}", name="a")
    second = document(
        "DataBackup",
        "{dataset: d, backupPath: pvc://c, runAfter: {kind: DataLoad, name: a}}",
        name="b",
    )
    told = problems(first, second)
    assert len(told) == 2
    assert "DataLoad 'a' after DataBackup 'b' after DataLoad 'a'" in told[0]
    assert problems(first) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (dataset(A, rest=", runtimes: [{name: a}]"), "spec.runtimes: is accepted and ignored"),
        (dataset(A, rest=", accessModes: [ReadWriteMany]"), "the mount stays read-only"),
        (document("DataLoad", f"{{{HERE}, schedule: '@daily'}}"), "spec.schedule: is accepted and"),
        (
            document("DataLoad", f"{{{HERE}, policy: OnEvent, ttlSecondsAfterFinished: 5}}"),
            "spec.ttlSecondsAfterFinished: is accepted and ignored: the policy is OnEvent",
        ),
        (
            document(
                "DataMigrate",
                f"{{from: {{externalStorage: {{uri: s3://a/b}}}}, to: {{{HERE}}}, block: true}}",
            ),
            "spec.block: is accepted and ignored",
        ),
        (
            document(
                "ThinRuntime", "{tieredstore: {levels: [{mediumtype: SSD, path: /a, quota: 1}]}}"
            ),
            "levels[0].quota: is accepted and ignored: a ThinRuntime uses the path",
        ),
        (
            document("JindoRuntime", "{worker: {labels: {a: b}}}"),
            "spec.worker.labels: is deprecated",
        ),
        (
            dataset(f"{A}, name: a", f"{B}, name: b") + document("JuiceFSRuntime", "{}"),
            "spec.mounts[1]: is accepted and ignored: a JuiceFSRuntime serves the first mount only",
        ),
        (
            document(
                "DataLoad",
                f"{{{HERE}}}",
                metadata="annotations: {data-operation.fluid.io/affinity.labels: x}",
            ),
            "the annotation that counts is affinity.dataflow.fluid.io/labels",
        ),
        (
            document("ThinRuntimeProfile", "{fileSystemType: fuse}", metadata="namespace: a"),
            "metadata.namespace: is accepted and ignored",
        ),
    ],
)
def test_what_has_no_effect_is_accepted_with_a_warning(text: str, message: str) -> None:
    (warning,) = warnings(text)
    assert message in warning
