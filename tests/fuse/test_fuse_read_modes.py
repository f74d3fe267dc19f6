"""Which read mode a mount takes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluidpy.errors import MountError, UsageError
from fluidpy.fuse.read_modes import (
    ASKED,
    LARGE_FILE_BYTES,
    Obstacles,
    ReadMode,
    ReadModeChoice,
    TreeShape,
    check_asked,
    choose,
)

MIB = 1024 * 1024

obstacles = st.builds(Obstacles, st.sampled_from(["", "old kernel"]), st.sampled_from(["", "x"]))


@st.composite
def shapes(draw: st.DrawFn) -> TreeShape:
    files = draw(st.integers(0, 10**7))
    large = draw(st.integers(0, files))
    size = draw(st.integers(LARGE_FILE_BYTES, 10**12)) if large else 0
    return TreeShape(files, large, large * size)


def auto(shape: TreeShape | None) -> ReadMode:
    return choose("auto", shape, Obstacles()).mode


@given(st.sampled_from(ASKED), st.none() | shapes(), obstacles)
def test_a_mode_that_is_impossible_is_never_taken(
    asked: str, shape: TreeShape | None, obstacle: Obstacles
) -> None:
    if asked != "auto" and obstacle.of(ReadMode(asked)):
        with pytest.raises(MountError, match="impossible here"):
            choose(asked, shape, obstacle)
        return
    choice = choose(asked, shape, obstacle)
    assert not obstacle.of(choice.mode)
    assert asked in ("auto", choice.mode)
    assert choice.reason
    assert ReadModeChoice.from_wire(choice.to_wire()) == choice


@given(shapes(), st.integers(1, 10**6), st.integers(LARGE_FILE_BYTES, 10**12))
def test_more_bytes_in_large_files_never_speak_against_passthrough(
    shape: TreeShape, more: int, size: int
) -> None:
    grown = TreeShape(shape.files, shape.large_files, shape.large_bytes + more * size)
    if shape.files and auto(shape) is ReadMode.PASSTHROUGH:
        assert auto(grown) is ReadMode.PASSTHROUGH


@given(shapes(), st.integers(1, 10**6))
def test_more_small_files_never_speak_against_no_open(shape: TreeShape, more: int) -> None:
    grown = TreeShape(shape.files + more, shape.large_files, shape.large_bytes)
    if auto(shape) is ReadMode.NO_OPEN:
        assert auto(grown) is ReadMode.NO_OPEN


def test_the_trees_that_people_have() -> None:
    assert auto(TreeShape(1_000_000, 0, 0)) is ReadMode.NO_OPEN
    assert auto(TreeShape(1_281_167, 9_000, 12_000 * MIB)) is ReadMode.NO_OPEN
    assert auto(TreeShape(1000, 1000, 1000 * 256 * MIB)) is ReadMode.PASSTHROUGH
    assert auto(TreeShape(60, 30, 140_000 * MIB)) is ReadMode.PASSTHROUGH
    assert auto(None) is ReadMode.PASSTHROUGH


def test_a_word_that_is_no_mode_is_refused_with_those_that_are() -> None:
    assert check_asked("no-open") == "no-open"
    with pytest.raises(UsageError, match="auto, no-open, passthrough, plain"):
        check_asked("fast")
