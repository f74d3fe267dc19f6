"""What words of a command line mean; pure functions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluidpy.cli import cache, mount
from fluidpy.cli.browse import first_folder, place_for
from fluidpy.cli.datasets import DatasetPath, is_url, parse_dataset_url
from fluidpy.cli.load import batches, read_file_list
from fluidpy.cli.options import parse_pairs
from fluidpy.errors import UsageError

FILE = Path("dataset.yaml")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("fluid://a/b/c", DatasetPath("a", None, "b/c")),
        ("fluid://a.ns/b", DatasetPath("a", "ns", "b")),
        ("fluid://a", DatasetPath("a", None, "")),
        ("fluid://a/", DatasetPath("a", None, "")),
    ],
)
def test_dataset_urls(url: str, expected: DatasetPath) -> None:
    assert parse_dataset_url(url) == expected


@pytest.mark.parametrize("url", ["s3://a/b", "fluid:///path", "imagenet", ""])
def test_what_is_no_dataset_url_is_refused(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_dataset_url(url)
    assert "fluid://NAME/PATH" in caught.value.cure


def test_urls_are_told_from_names() -> None:
    assert is_url("s3://bucket/prefix")
    assert is_url("my+store://x")
    assert not is_url("imagenet")
    assert not is_url("/nas/data")


@pytest.mark.parametrize(
    ("words", "file", "expected"),
    [
        (["/data"], FILE, (None, Path("/data"))),
        (["name", "/data"], FILE, ("name", Path("/data"))),
        (["name", "/data"], None, ("name", Path("/data"))),
        (["s3://b/p", "d"], None, ("s3://b/p", Path("d"))),
    ],
)
def test_mount_words(words: list[str], file: Path | None, expected: tuple[str, Path]) -> None:
    assert mount.split_words(words, file) == expected


@pytest.mark.parametrize(
    ("words", "file", "message"),
    [
        (["/data"], None, "nothing to mount is given"),
        (["s3://b"], None, "no directory is given"),
        (["a", "b", "c"], None, "3 words are too many"),
        (["s3://b", "d"], FILE, "a file and a URL are given"),
    ],
)
def test_mount_words_that_make_no_sense(words: list[str], file: Path | None, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        mount.split_words(words, file)


@pytest.mark.parametrize(
    ("words", "file", "expected"),
    [
        ([], FILE, (None, "/")),
        (["/a"], FILE, (None, "/a")),
        (["name"], None, ("name", "/")),
        (["name", "a/b"], None, ("name", "a/b")),
    ],
)
def test_cache_words(words: list[str], file: Path | None, expected: tuple[str, str]) -> None:
    assert cache.split_words(words, file) == expected


@pytest.mark.parametrize(("words", "file"), [([], None), (["/a"], None), (["/a", "/b"], FILE)])
def test_cache_words_that_make_no_sense(words: list[str], file: Path | None) -> None:
    with pytest.raises(UsageError):
        cache.split_words(words, file)


def test_pairs() -> None:
    assert parse_pairs(["a=1", "b=x=y", "c="]) == {"a": "1", "b": "x=y", "c": ""}
    for wrong in (["a"], ["=1"], ["a=1", "a=2"]):
        with pytest.raises(UsageError):
            parse_pairs(wrong)


@given(st.lists(st.text(min_size=1), max_size=30), st.integers(min_value=1, max_value=200))
def test_batches_keep_order_and_size(paths: list[str], limit: int) -> None:
    groups = list(batches(paths, limit))
    assert [path for group in groups for path in group] == paths
    for group in groups:
        size = sum(len(json.dumps(path)) + 1 for path in group)
        assert len(group) == 1 or size <= limit


def test_a_file_list_has_one_path_a_line(tmp_path: Path) -> None:
    file = tmp_path / "list"
    file.write_text("a/b\n\nc d\n")
    assert read_file_list(file) == ["a/b", "c d"]
    file.write_text("\n")
    with pytest.raises(UsageError, match="lists no path"):
        read_file_list(file)
    with pytest.raises(UsageError, match="cannot be read"):
        read_file_list(tmp_path / "missing")


def test_copies_go_into_a_folder_or_under_the_name_given(tmp_path: Path) -> None:
    target = DatasetPath("pets", None, "train/dogs.txt")
    assert place_for(target, tmp_path, is_folder=False) == tmp_path / "dogs.txt"
    assert place_for(target, tmp_path / "x", is_folder=False) == tmp_path / "x"
    whole = DatasetPath("pets", None, "")
    assert place_for(whole, tmp_path, is_folder=True) == tmp_path / "pets"
    with pytest.raises(UsageError, match="is not there"):
        place_for(target, tmp_path / "no" / "x", is_folder=False)


@pytest.mark.parametrize(
    ("path", "root", "expected"),
    [
        ("a/b/c", "", "a"),
        ("a", "", ""),
        ("a/b/c", "a", "a/b"),
        ("a/b", "a", ""),
        ("a", "a", ""),
    ],
)
def test_the_folder_a_size_counts_for(path: str, root: str, expected: str) -> None:
    assert first_folder(path, root) == expected
