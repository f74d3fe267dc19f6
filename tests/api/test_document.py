from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluidpy.api.document import YamlText, load_documents, load_valid_documents
from fluidpy.api.problem import Problem
from fluidpy.api.texts import MAX_TEXT_BYTES
from fluidpy.errors import ValidationError

EXAMPLES = Path(__file__).parent / "examples"
HEAD = "apiVersion: data.fluid.io/v1alpha1\nkind: Dataset\nmetadata:\n  name: demo\n"


def problems_of(text: str) -> list[str]:
    return [str(problem) for problem in load_documents(YamlText(text, "f.yaml")).problems]


def test_the_examples_are_accepted_without_a_problem_or_warning() -> None:
    result = load_documents(EXAMPLES)
    assert result.problems == []
    assert result.warnings == []
    assert len(result.objects) == 20


def test_an_object_knows_its_file_and_first_line() -> None:
    result = load_documents(EXAMPLES / "operations.yaml")
    assert [one.object.kind for one in result.objects][:2] == ["DataLoad", "DataMigrate"]
    assert result.objects[0].line == 1
    assert result.objects[1].line == 21
    assert result.objects[0].file.endswith("operations.yaml")


def test_a_mistyped_field_is_told_with_place_and_the_right_name() -> None:
    text = HEAD + "spec:\n  mounts:\n    - mountpoint: s3://bucket/a\n"
    assert problems_of(text) == [
        "f.yaml:7:7: spec.mounts[0].mountpoint: unknown field; did you mean 'mountPoint'?"
    ]


def test_python_names_are_no_field_names() -> None:
    (problem,) = problems_of(HEAD + "spec:\n  mounts:\n    - mount_point: s3://bucket/a\n")
    assert problem.endswith("spec.mounts[0].mount_point: unknown field; did you mean 'mountPoint'?")


def test_a_field_that_resembles_none_gets_the_list() -> None:
    (problem,) = problems_of(HEAD + "spec:\n  nodeAffinity: {zzz: 1}\n")
    assert problem == "f.yaml:6:18: spec.nodeAffinity.zzz: unknown field; known: required"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("placement: exclusive", "'exclusive' is not allowed; it must be 'Exclusive' or '' or"),
        ("placement: 5", "spec.placement: must be 'Exclusive' or '' or 'Shared', not a number"),
        ("mounts: []", "spec.mounts: must have 1 items or more, or be left out"),
        ("mounts: {a: b}", "spec.mounts: must be a list, not a mapping; start each item with '- '"),
        ("mounts: [a]", "spec.mounts[0]: must be a mapping, not a text"),
        ("mounts: [{mountPoint: s3:/}]", "mountPoint: must have 5 characters or more"),
        ("mounts: [{name: a}]", "spec.mounts[0].mountPoint: is required"),
        ("sharedOptions: {a: 1}", "spec.sharedOptions.a: must be a text, not a number; quote it"),
        ("sharedOptions: {a: no}", "must be a text, not a boolean; quote it; YAML reads"),
        ("sharedOptions: {a: }", 'must be a text, not nothing; write ""'),
        ("sharedOptions: {a.b/c: 1}", 'spec.sharedOptions["a.b/c"]: must be a text'),
        ("owner: {uid: '1', gid: 1, user: a, group: a}", "not a text; write it without quotes"),
        ("owner: {uid: 1}", "spec.owner.gid: is required"),
        ("accessModes: [ReadWriteManny]", "did you mean 'ReadWriteMany'?"),
        ("nodeAffinity: {required: []}", "required: must be a mapping, not a list"),
        ("tolerations: [x]", "spec.tolerations[0]: must be a mapping, not a text"),
    ],
)
def test_values_that_cannot_be_are_refused_with_a_cure(line: str, problem: str) -> None:
    first = problems_of(f"{HEAD}spec:\n  {line}\n")[0]
    assert problem in first
    assert first.startswith("f.yaml:6:")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (HEAD.replace("Dataset", "Datset"), "2:7: kind: unknown kind 'Datset'; did you mean 'Dat"),
        (HEAD.replace("alpha1", "alpha2"), "1:13: apiVersion: 'data.fluid.io/v1alpha2' is not the"),
        (HEAD.replace("fluid.io", "fluid.oi"), "did you mean 'data.fluid.io/v1alpha1'?"),
        (HEAD.replace("Dataset", "GooseFSRuntime"), "kind: GooseFSRuntime was removed from Fluid"),
        ("kind: Dataset\n", "f.yaml:1:1: apiVersion: is required; write it like 'apiVersion: data"),
        ("apiVersion: data.fluid.io/v1alpha1\nkind: 5\n", "f.yaml:2:7: kind: must be a text"),
        ("- a\n", "f.yaml:1:1: must be an object; start with apiVersion, kind and metadata"),
        ("apiVersion: data.fluid.io/v1alpha1\nkind: Dataset\n", "metadata: is required"),
        ("apiVersion: v1\nkind: List\nitems: 5\n", "f.yaml:3:8: items: must be a list"),
    ],
)
def test_documents_that_are_no_known_object_are_refused(text: str, problem: str) -> None:
    (only,) = problems_of(text)
    assert problem in only


def test_objects_of_others_are_left_out_with_a_warning() -> None:
    result = load_documents(YamlText("apiVersion: apps/v1\nkind: Deployment\n", "f"))
    assert (result.objects, result.problems) == ([], [])
    assert str(result.warnings[0]).startswith("f:2:7: kind: Deployment of apps/v1 is no object of")


def test_the_items_of_a_list_are_objects_with_their_own_places() -> None:
    item = "\n".join("    " + line for line in HEAD.splitlines()).replace("    api", "  - api", 1)
    text = f"apiVersion: v1\nkind: List\nitems:\n{item}\n    spec: {{placement: x}}\n"
    (problem,) = problems_of(text)
    assert problem.startswith("f.yaml:8:23: items[0].spec.placement: 'x' is not allowed")
    (problem,) = problems_of(text.replace("{placement: x}", "{mounts: [{mountPoint: bucket}]}"))
    assert problem.startswith("f.yaml:8:34: items[0].spec.mounts[0].mountPoint: is neither")
    good = load_documents(YamlText(text.replace("{placement: x}", "{}")))
    assert [(one.object.name, one.line) for one in good.objects] == [("demo", 4)]


def test_null_is_a_field_that_was_not_given() -> None:
    text = HEAD + "  creationTimestamp: null\nspec:\n  mounts: null\n  placement:\nstatus: ~\n"
    assert problems_of(text) == []


def test_one_wrong_field_does_not_hide_the_other_problems() -> None:
    text = HEAD.replace("demo", "1demo") + (
        "spec:\n  placemnt: Shared\n  mounts:\n"
        "    - {mountpoint: s3://bucket/a, name: a}\n"
        "    - {mountPoint: s3://bucket/b, name: b, path: rel}\n"
        "    - {mountPoint: s3://bucket/c, name: b}\n"
    )
    result = load_documents(YamlText(text, "f"))
    assert [problem.field_path for problem in result.problems] == [
        "metadata.name",
        "spec.placemnt",
        "spec.mounts[0].mountpoint",
        "spec.mounts[1].path",
        "spec.mounts[2].name",
    ]
    assert result.objects == []


def test_a_mistake_is_told_once_and_makes_no_echo() -> None:
    text = HEAD.replace("Dataset", "AlluxioRuntime") + (
        "spec:\n  tieredstore:\n    levels:\n      - {mediumtype: SSD, path: /a, quotta: 1Gi}\n"
    )
    (problem,) = problems_of(text)
    assert "did you mean 'quota'?" in problem


def test_problems_of_all_files_come_at_once_in_their_order(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text("a: [\n")
    (tmp_path / "a.yml").write_text(HEAD + "spec: 5\n---\nx: 'y\n")
    (tmp_path / "c.json").write_text('{\n\t"kind": "Dataset"\n}\n')
    (tmp_path / "notes.txt").write_text("not read")
    missing = tmp_path / "missing.yaml"
    result = load_documents([missing, tmp_path])
    names = [Path(problem.file).name for problem in result.problems]
    assert names == ["missing.yaml", "a.yml", "a.yml", "b.yaml", "c.json"]
    assert str(result.problems[0]) == f"{missing}: there is no such file; check the path"


def test_one_error_holds_all_problems_one_a_line() -> None:
    with pytest.raises(ValidationError) as caught:
        load_valid_documents([YamlText("a: [\n", "f"), YamlText("b: '\n", "g")])
    assert [line.partition(":")[0] for line in caught.value.message.splitlines()] == ["f", "g"]


def test_sources_may_be_a_path_a_text_or_standard_input(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(HEAD)
    other = HEAD.replace("demo", "two")
    third = HEAD.replace("demo", "three").encode()
    result = load_documents([str(tmp_path / "a.yaml"), other, "-"], read_stdin=lambda: third)
    assert result.problems == []
    assert [one.object.name for one in result.objects] == ["demo", "two", "three"]
    assert [one.file for one in result.objects][1:] == ["<text>", "<stdin>"]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"a: 1\nb: \xff\n", "f.yaml:2:4: byte 0xff is not UTF-8; save the file as UTF-8"),
        ("a: 1".encode("utf-16"), "f.yaml:1:1: is UTF-16 or UTF-32; save it as UTF-8"),
        (b"#" * (MAX_TEXT_BYTES + 1), "f.yaml: is larger than 8 MiB; split it into several files"),
    ],
)
def test_bytes_that_are_no_text_are_refused(tmp_path: Path, data: bytes, problem: str) -> None:
    (tmp_path / "f.yaml").write_bytes(data)
    (only,) = load_documents(tmp_path / "f.yaml").problems
    assert str(only) == f"{tmp_path}/{problem}"


def test_a_byte_order_mark_is_no_problem(tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_bytes(b"\xef\xbb\xbf" + HEAD.encode())
    assert load_documents(tmp_path / "f.yaml").problems == []


def test_a_directory_without_yaml_is_a_problem(tmp_path: Path) -> None:
    (problem,) = load_documents(tmp_path).problems
    assert "has no .yaml, .yml or .json file" in str(problem)


def test_an_object_without_a_namespace_gets_the_one_of_the_call() -> None:
    own = HEAD + "  namespace: own\n"
    result = load_documents([HEAD, own.replace("demo", "two")], namespace="team")
    assert [one.object.namespace for one in result.objects] == ["team", "own"]


def test_no_problem_shows_a_value_that_may_be_secret() -> None:
    text = (
        "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n"
        "data: {a: hunter2hunter, b: 31337, c: [hunter3]}\nstringData: {d: 31338}\n---\n"
        f"{HEAD}spec:\n  sharedOptions: {{key: 31339}}\n"
    )
    result = load_documents(YamlText(text))
    assert len(result.problems) == 5
    told = "\n".join(map(str, result.problems))
    assert "hunter" not in told
    assert "3133" not in told


def test_a_thousand_mounts_are_checked_within_seconds() -> None:
    mounts = "".join(f"    - {{mountPoint: s3://b/{i}, name: m{i}}}\n" for i in range(1000))
    started = time.monotonic()
    result = load_documents(YamlText(HEAD + "spec:\n  mounts:\n" + mounts))
    assert result.problems == []
    assert time.monotonic() - started < 60


_KEYS = st.sampled_from(["apiVersion", "kind", "metadata", "spec", "mounts", "name", "items", "x"])
_LEAVES = st.sampled_from(["data.fluid.io/v1alpha1", "Dataset", "DataLoad", "List", "v1", "a", "5"])


@given(
    st.recursive(
        _LEAVES,
        lambda inner: (
            st.lists(inner, max_size=3).map(lambda i: "[" + ", ".join(i) + "]")
            | st.dictionaries(_KEYS, inner, max_size=4).map(
                lambda d: "{" + ", ".join(f"{k}: {v}" for k, v in d.items()) + "}"
            )
        ),
    )
)
def test_any_document_is_accepted_or_refused_without_a_crash(text: str) -> None:
    load_documents(YamlText(text))


@pytest.mark.parametrize(
    ("cure", "line"),
    [
        ("", "f.yaml:3:5: spec: no driver (known: s3)"),
        ("did you mean 's3'?", "f.yaml:3:5: spec: no driver (known: s3); did you mean 's3'?"),
        ("Did you mean s3://?", "f.yaml:3:5: spec: no driver (known: s3). Did you mean s3://?"),
    ],
)
def test_a_problem_and_its_cure_are_one_line(cure: str, line: str) -> None:
    assert str(Problem("f.yaml", 3, 5, "spec", "no driver (known: s3)", cure)) == line
