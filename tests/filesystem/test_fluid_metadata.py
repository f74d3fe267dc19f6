from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import fsspec
import pytest

from fluidpy.errors import DatasetNotFoundError, PathNotFoundError
from fluidpy.filesystem import FluidFileSystem
from tests.filesystem.conftest import Demo, source_files


def test_the_url_needs_no_import(demo: Demo) -> None:
    with fsspec.open("fluid://demo/readme.txt", "rt", **demo.options) as file:
        assert file.read() == "one\ntwo\nthree\n"


def test_info_says_what_a_file_is(fs: FluidFileSystem, demo: Demo) -> None:
    info = fs.info("fluid://demo/train/3.bin")
    status = (demo.source / "train/3.bin").stat()
    assert info["name"] == "demo/train/3.bin"
    assert (info["type"], info["size"]) == ("file", 3010)
    assert info["mtime"] == pytest.approx(status.st_mtime)
    assert fs.modified("demo/train/3.bin") == datetime.fromtimestamp(info["mtime"], tz=UTC)
    assert fs.created("demo/train/3.bin") == fs.modified("demo/train/3.bin")
    assert fs.info("demo")["type"] == fs.info("demo/train/")["type"] == "directory"
    assert fs.size("demo/train/3.bin") == 3010


def test_a_walk_finds_what_is_at_the_source(fs: FluidFileSystem, demo: Demo) -> None:
    wanted = {f"demo/{path}" for path in source_files(demo.source)}
    assert set(fs.find("demo")) - {"demo/link.txt", "demo/broken"} == wanted
    walked = {f"{root}/{name}" for root, _, names in fs.walk("fluid://demo") for name in names}
    assert walked == set(fs.find("demo"))
    assert set(fs.find("demo", withdirs=True)) - set(fs.find("demo")) == {
        "demo",
        "demo/train",
        "demo/train/deep",
        "demo/train/deep/er",
    }
    assert fs.du("demo/train") == sum(
        len(data) for path, data in source_files(demo.source).items() if path.startswith("train")
    )


def test_listing_and_globbing(fs: FluidFileSystem) -> None:
    names = [f"demo/train/{number}.bin" for number in range(5)]
    assert fs.glob("demo/train/[0-9].bin") == names
    assert fs.glob("fluid://demo/train/*.bin") == [*names, "demo/train/large.bin"]
    assert fs.glob("demo/**/file.txt") == ["demo/train/deep/er/file.txt"]
    assert fs.ls("demo/train/deep", detail=False) == ["demo/train/deep/er"]
    assert fs.ls("demo/readme.txt", detail=False) == ["demo/readme.txt"]
    assert fs.ls("fluid://demo/ünï code.txt")[0]["size"] == 3
    assert fs.ls("", detail=False) == ["demo"]
    assert fs.info("")["type"] == "directory"


def test_a_namespace_in_the_url_stays_in_the_results(fs: FluidFileSystem) -> None:
    assert fs.ls("fluid://demo.default/train/deep", detail=False) == ["demo.default/train/deep/er"]
    assert fs.cat("demo.default/readme.txt") == fs.cat("demo/readme.txt")


def test_symlinks_are_followed(fs: FluidFileSystem) -> None:
    assert fs.cat("demo/link.txt") == b"deep"
    assert fs.info("demo/link.txt")["size"] == 4
    by_name = {info["name"]: info for info in fs.ls("demo")}
    assert by_name["demo/link.txt"]["islink"]
    assert by_name["demo/broken"]["type"] == "link"
    assert not fs.exists("demo/broken")


def test_what_is_not_there(fs: FluidFileSystem) -> None:
    assert not fs.exists("demo/missing")
    assert not fs.exists("demo/readme.txt/below")
    assert not fs.isfile("demo/missing")
    assert not fs.isdir("demo/missing")
    assert fs.isfile("demo/readme.txt")
    assert fs.isdir("demo/train")
    assert fs.glob("demo/missing*") == []
    for call in (fs.info, fs.ls, fs.cat_file, fs.open, fs.ukey):
        with pytest.raises(PathNotFoundError, match="missing"):
            call("demo/missing")


def test_a_dataset_that_is_not_there_says_where_it_was_looked_for(
    fs: FluidFileSystem, demo: Demo
) -> None:
    with pytest.raises(DatasetNotFoundError) as caught:
        fs.info("fluid://demi/readme.txt")
    assert demo.options["file"] in str(caught.value)
    assert "Did you mean demo?" in str(caught.value)
    assert not fs.exists("demi/readme.txt")


def test_ukey_and_checksum_change_with_the_version(own_demo: Demo) -> None:
    path = own_demo.source / "a"
    path.write_bytes(b"one")
    before = own_demo.fs.ukey("demo/a"), own_demo.fs.checksum("demo/a")
    assert (own_demo.fs.ukey("demo/a"), own_demo.fs.checksum("demo/a")) == before
    path.write_bytes(b"two")
    assert own_demo.fs.ukey("demo/a") != before[0]
    assert own_demo.fs.checksum("demo/a") != before[1]


def test_refresh_asks_the_source(tmp_path: Path, own_demo: Demo) -> None:
    (own_demo.source / "a").write_bytes(b"one")
    fs = own_demo.fs
    assert fs.ls("demo", detail=False) == ["demo/a"]
    (own_demo.source / "b").write_bytes(b"more")
    assert fs.ls("demo", detail=False, refresh=True) == ["demo/a", "demo/b"]
    os.unlink(own_demo.source / "a")
    assert not fs.exists("demo/a", refresh=True)
