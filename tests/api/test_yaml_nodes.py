from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluidpy.api.problem import Problem
from fluidpy.api.yaml_nodes import MAX_ALIASED_NODES, MAX_DEPTH, read_documents


def _read(text: str) -> tuple[list[Any], list[str]]:
    problems: list[Problem] = []
    documents = read_documents(text, "f", problems)
    return [document.value for document in documents], [str(problem) for problem in problems]


def _value(scalar: str) -> Any:
    values, problems = _read(f"a: {scalar}\n")
    assert problems == []
    return values[0]["a"]


@pytest.mark.parametrize(
    ("scalar", "value"),
    [
        ("yes", True),
        ("Off", False),
        ("'yes'", "yes"),
        ("y", "y"),
        ("0644", 420),
        ("0o17", 15),
        ("0x1F", 31),
        ("-0b11", -3),
        ("08", "08"),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("2026-01-31", "2026-01-31"),
        ("1e3", 1000.0),
        ("-.5", -0.5),
        ("~", None),
        ("", None),
        ("!!str 5", "5"),
        ("!!int '5'", 5),
        ("10Gi", "10Gi"),
        ("<<", "<<"),
    ],
)
def test_scalars_are_those_of_kubectl(scalar: str, value: object) -> None:
    got = _value(scalar)
    assert got == value
    assert type(got) is type(value)


def test_documents_are_told_apart_and_empty_ones_left_out() -> None:
    text = "# only a comment\n---\na: 1\n---\n---\n# nothing\n---\nb: '---'\n...\n---\nc: |\n  x\n"
    assert _read(text) == ([{"a": 1}, {"b": "---"}, {"c": "x\n"}], [])


def test_directives_belong_to_the_document_that_follows() -> None:
    assert _read("%YAML 1.2\n# comment\n---\na: 1\n") == ([{"a": 1}], [])


def test_a_syntax_error_spares_the_other_documents() -> None:
    values, problems = _read("a: [1\n---\nb: 2\n---\nc: 'x\n")
    assert values == [{"b": 2}]
    assert [problem.split(": ")[0] for problem in problems] == ["f:2:1", "f:6:1"]


def test_a_tab_is_refused_with_its_place_and_cure() -> None:
    _, (problem,) = _read("a:\n\tb: 1\n")
    assert problem.startswith("f:2:1: not YAML: ")
    assert problem.endswith("; indent with spaces; YAML allows no tabs there")


def test_a_syntax_problem_shows_nothing_of_the_text() -> None:
    _, (problem,) = _read("data:\n  password: hunter2: x\n")
    assert "hunter2" not in problem
    assert problem.startswith("f:2:20: not YAML: ")


@pytest.mark.parametrize(
    "password", ["*hunter2", "!hunter2", "!a!hunter2", "&hunter2 &x y", "@hunter2"]
)
def test_an_unquoted_password_that_is_no_plain_yaml_is_not_shown(password: str) -> None:
    _, (problem,) = _read(f"data:\n  password: {password}\n")
    assert "hunter2" not in problem
    assert problem.startswith("f:2:")


def test_a_control_character_is_named() -> None:
    _, (problem,) = _read("a: 1\nb: \x07\n")
    assert problem.startswith("f:2:4: not YAML: character U+0007: ")


def test_every_duplicate_key_is_refused_where_it_stands() -> None:
    values, problems = _read("a: 1\nb:\n  c: 1\n  c: 2\na: 3\n")
    assert values == [{"a": 1, "b": {"c": 1}}]
    assert problems == [
        "f:4:3: b.c: the key is given twice, first in line 3; keep one of them",
        "f:5:1: a: the key is given twice, first in line 1; keep one of them",
    ]


def test_anchors_and_merge_keys_work_and_own_keys_win() -> None:
    text = (
        "base: &b {x: 1, y: 2}\nmore: &m {y: 3, z: 4}\none: {<<: *b, x: 9}\ntwo:\n  <<: [*b, *m]\n"
    )
    (value,), problems = _read(text)
    assert problems == []
    assert value["one"] == {"y": 2, "x": 9}
    assert value["two"] == {"x": 1, "y": 2, "z": 4}


def test_a_merge_of_something_else_is_refused() -> None:
    _, problems = _read("a:\n  <<: 5\n")
    assert problems == [
        "f:2:7: a.<<: only mappings can be merged; give an alias of a mapping, or a list of them"
    ] or problems == [
        'f:2:7: a["<<"]: only mappings can be merged; give an alias of a mapping, or a list of them'
    ]


def test_an_alias_of_itself_is_refused() -> None:
    _, problems = _read("a: &a [*a]\nb: &b {<<: *b}\n")
    assert len(problems) == 2
    assert all("contains itself" in problem for problem in problems)


def test_aliases_that_multiply_are_refused_quickly() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    _, problems = _read("\n".join(lines))
    assert len(problems) == 1
    assert f"more than {MAX_ALIASED_NODES} values" in problems[0]


@pytest.mark.parametrize("text", ["[" * 5000, "a: " + "{a: " * 3000, "- " * 4000 + "x"])
def test_deep_nesting_is_refused(text: str) -> None:
    values, (problem,) = _read(text)
    assert values == []
    assert f"nested more than {MAX_DEPTH} levels deep" in problem


def test_aliases_cannot_nest_deeper_than_text_can() -> None:
    text = "a0: &a0 {x: 1}\n"
    text += "".join(f"a{i}: &a{i} {{x: {{x: *a{i - 1}}}}}\n" for i in range(1, 130))
    _read(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: !!python/object:os.system x\n", "the tag !!python/object:os.system is not understood"),
        ("a: !secret x\n", "a tag of your own is not understood; write a plain value, and quote"),
        ("a: !!set {b}\n", "the tag !!set is not understood"),
        ("a: !!int x\n", "the value does not fit the tag !!int"),
        ("a: .inf\n", ".inf is not a number"),
        ("on: 1\n", "the key on is read as a boolean"),
        ("[a]: 1\n", "a key must be a text"),
    ],
)
def test_what_json_has_not_is_refused(text: str, message: str) -> None:
    _, (problem,) = _read(text)
    assert message in problem


def test_number_keys_are_read_as_their_text() -> None:
    assert _read("8080: a\n")[0] == [{"8080": "a"}]


def test_places_count_from_one_in_the_whole_file() -> None:
    problems: list[Problem] = []
    _, second = read_documents(
        "a: 1\n---\nspec:\n  mounts:\n    - x: ä\n      y: 2\n", "f", problems
    )
    assert second.positions.of(("spec", "mounts", 0, "y")) == (6, 10)
    assert second.positions.of(("spec", "mounts", 0, "y"), key=True) == (6, 7)
    assert second.positions.of(("spec", "mounts", 0, "missing")) == (5, 7)


@given(st.text(st.sampled_from("a:-[]{}'\"#&*!|>%@ \n\t\r,?0~<\\\x00é\u2028")))
def test_any_text_is_read_or_refused(text: str) -> None:
    _, problems = _read(text)
    assert all(problem.startswith("f:") for problem in problems)
