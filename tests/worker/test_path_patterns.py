"""Patterns of a load: paths, globs, and all that lies below a match."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluidpy.worker.path_patterns import (
    compile_patterns,
    is_below,
    is_glob,
    normalise,
    outermost,
    root_of,
)


@pytest.mark.parametrize(
    ("pattern", "path", "wanted"),
    [
        ("/", "a/b", True),
        ("train", "train/a/b.jpg", True),
        ("train", "trainer/a", False),
        ("/train/", "train", True),
        ("train/*.tar", "train/1.tar", True),
        ("train/*.tar", "train/a/1.tar", False),
        ("train/*", "train/a/1.tar", True),
        ("**/*.jpg", "x.jpg", True),
        ("**/*.jpg", "a/b/x.jpg", True),
        ("a/**/z", "a/z", True),
        ("a/**/z", "a/b/c/z", True),
        ("a/**", "a/b", True),
        ("a?c", "abc", True),
        ("a?c", "a/c", False),
        ("[a-c]x", "bx", True),
        ("[!a-c]x", "bx", False),
        ("[!a]x", "/x", False),
        ("a.c", "abc", False),
        ("a[b", "a[b", True),
        ("[]]", "]", True),
        ("[z-a]", "z", False),
        ("a+(b)", "a+(b)", True),
    ],
)
def test_what_a_pattern_means(pattern: str, path: str, wanted: bool) -> None:
    assert bool(compile_patterns([pattern]).fullmatch(path)) is wanted


@given(st.text(alphabet="ab*?[]!-^\\/.&~|{}()+$ é\n", max_size=12))
def test_every_pattern_compiles(pattern: str) -> None:
    compile_patterns([pattern])


@given(st.lists(st.text(alphabet="abé. \n", min_size=1, max_size=4), min_size=1, max_size=4))
def test_a_plain_path_means_itself(names: list[str]) -> None:
    path = normalise("/".join(names))
    assert not is_glob(path)
    assert compile_patterns([path]).fullmatch(path)


def test_roots() -> None:
    assert root_of("/a/b*/c") == "a"
    assert root_of("*") == ""
    assert outermost(["a/b", "a", "ab", "a/b/c"]) == ["a", "ab"]
    assert outermost(["a", ""]) == [""]
    assert is_below("a/b", "a")
    assert not is_below("ab", "a")
