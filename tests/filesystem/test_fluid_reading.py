from __future__ import annotations

import gzip
import io
import mmap
import os
import pickle
import tarfile
import time
import zipfile
from pathlib import Path

import fsspec
import pytest

from fluidpy.client.file import DatasetFile
from fluidpy.errors import IsADirectoryInDatasetError, PathNotFoundError, SourceChangedError
from fluidpy.filesystem import FluidFileSystem
from tests.filesystem.conftest import Demo, source_files


def test_all_bytes_are_those_of_the_source(fs: FluidFileSystem, demo: Demo) -> None:
    for path, data in source_files(demo.source).items():
        assert fs.cat_file(f"demo/{path}") == data
        with fs.open(f"demo/{path}") as file:
            assert file.read() == data
            assert file.size == len(data)


def test_slices_and_ends(fs: FluidFileSystem, demo: Demo) -> None:
    data = (demo.source / "train/4.bin").read_bytes()
    assert fs.cat_file("demo/train/4.bin", 10, 20) == data[10:20]
    assert fs.cat_file("demo/train/4.bin", start=-7) == data[-7:]
    assert fs.cat_file("demo/train/4.bin", end=-7) == data[:-7]
    assert fs.head("demo/train/4.bin", 5) == data[:5]
    assert fs.tail("demo/train/4.bin", 5) == data[-5:]
    assert fs.read_block("demo/readme.txt", 2, 4, delimiter=b"\n") == b"two\n"


def test_ranges_come_in_the_order_asked_with_errors_in_their_places(
    fs: FluidFileSystem, demo: Demo
) -> None:
    large, small = "demo/train/large.bin", "demo/train/1.bin"
    data = (demo.source / "train/large.bin").read_bytes()
    paths = [large, small, large, "demo/missing", large]
    starts, ends = [4_000_000, 0, 5, 0, -10], [4_000_100, 10, 5, 1, None]
    found = fs.cat_ranges(paths, starts, ends)
    assert found[0] == data[4_000_000:4_000_100]
    assert found[1] == (demo.source / "train/1.bin").read_bytes()[:10]
    assert found[2] == b""
    assert isinstance(found[3], PathNotFoundError)
    assert found[4] == data[-10:]
    with pytest.raises(PathNotFoundError):
        fs.cat_ranges(paths, starts, ends, on_error="raise")
    assert fs.cat_ranges([small, large], 0, 3) == [found[1][:3], data[:3]]
    with pytest.raises(ValueError, match="of one length"):
        fs.cat_ranges([small], [0, 1], [1])


def test_cat_reads_many_files(fs: FluidFileSystem, demo: Demo) -> None:
    wanted = {f"demo/{p}": d for p, d in source_files(demo.source).items() if p.startswith("train")}
    assert fs.cat("demo/train", recursive=True, on_error="omit") == wanted
    assert fs.cat(["demo/train/0.bin", "demo/missing"], on_error="omit") == {
        "demo/train/0.bin": wanted["demo/train/0.bin"]
    }
    with pytest.raises(PathNotFoundError):
        fs.cat(["demo/train/0.bin", "demo/missing"])


def test_an_open_file_is_what_fsspec_users_expect(fs: FluidFileSystem, demo: Demo) -> None:
    file = fs.open("fluid://demo/train/large.bin")
    assert isinstance(file, DatasetFile)
    assert issubclass(DatasetFile, io.BufferedReader)
    assert (file.path, file.name, file.mode) == (
        "demo/train/large.bin",
        "demo/train/large.bin",
        "rb",
    )
    assert file.full_name == "fluid://demo/train/large.bin"
    assert file.fs is fs
    assert file.details == fs.info("demo/train/large.bin") == file.info()
    assert file.readable() and file.seekable() and not file.writable()  # noqa: PT018
    file.close()
    assert file.closed
    with pytest.raises(ValueError, match="closed"):
        file.read()


def test_a_cached_file_can_be_mapped(fs: FluidFileSystem, demo: Demo) -> None:
    data = (demo.source / "train/large.bin").read_bytes()
    assert fs.cat_file("demo/train/large.bin") == data
    with (
        fs.open("demo/train/large.bin") as file,
        mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped,
    ):
        assert mapped[:] == data


def test_text_blocks_and_compression(own_demo: Demo) -> None:
    (own_demo.source / "lines.txt").write_text("ä\nb\n", encoding="utf-8")
    (own_demo.source / "lines.txt.gz").write_bytes(gzip.compress(b"zipped\n"))
    fs = own_demo.fs
    with fs.open("demo/lines.txt", "r", encoding="utf-8") as text:
        assert list(text) == ["ä\n", "b\n"]
    assert fs.read_text("demo/lines.txt", encoding="utf-8") == "ä\nb\n"
    url = "fluid://demo/lines.txt.gz"
    with fsspec.open(url, "rt", compression="infer", **own_demo.options) as packed:
        assert packed.read() == "zipped\n"


def test_archives_on_an_open_file(fs: FluidFileSystem, demo: Demo) -> None:
    with fs.open("demo/shard.tar") as file, tarfile.open(fileobj=file) as tar:
        member = tar.extractfile("2.txt")
        assert member is not None
        assert member.read() == b"text 2"
    with fs.open("demo/archive.zip") as file, zipfile.ZipFile(file) as archive:
        assert archive.read("inside.txt") == b"zipped"
    chained = "zip://inside.txt::fluid://demo/archive.zip"
    with fsspec.open(chained, fluid=demo.options) as inside:
        assert inside.read() == b"zipped"


def test_a_folder_cannot_be_opened(fs: FluidFileSystem) -> None:
    with pytest.raises(IsADirectoryInDatasetError):
        fs.open("demo/train")
    with pytest.raises(IsADirectoryInDatasetError):
        fs.cat_file("demo")


def test_an_open_file_is_pickled_with_its_version_and_place(own_demo: Demo) -> None:
    path = own_demo.source / "a"
    path.write_bytes(b"0123456789")
    with own_demo.fs.open("demo/a") as file:
        file.read(3)
        pickled = pickle.dumps(file)
    with pickle.loads(pickled) as again:
        assert again.read() == b"3456789"
    path.write_bytes(b"another")
    with pytest.raises(SourceChangedError, match="since the open file was pickled"):
        pickle.loads(pickled)


def test_get_copies_trees_and_leaves_no_halves(
    fs: FluidFileSystem, demo: Demo, tmp_path: Path
) -> None:
    fs.get("demo/train", str(tmp_path / "copy"), recursive=True)
    wanted = {p: d for p, d in source_files(demo.source).items() if p.startswith("train/")}
    assert {f"train/{p}": d for p, d in source_files(tmp_path / "copy").items()} == wanted
    target = io.BytesIO()
    fs.get_file("demo/readme.txt", "", outfile=target)
    assert target.getvalue() == b"one\ntwo\nthree\n"
    with pytest.raises(PathNotFoundError):
        fs.get_file("demo/missing", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_device_or_pipe_is_written_to_and_not_replaced(
    fs: FluidFileSystem, demo: Demo, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with open(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK), "rb") as reader:
        fs.get_file("demo/readme.txt", str(pipe))
        assert reader.read() == b"one\ntwo\nthree\n"
    assert pipe.is_fifo()
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_reading_never_mixes_two_versions(own_demo: Demo) -> None:
    path = own_demo.source / "a"
    old, new = b"o" * 3_000_000, b"n" * 3_000_000
    path.write_bytes(old)
    time.sleep(2.1)  # younger files have no version yet
    with own_demo.fs.open("demo/a") as file:
        first = file.read(10)
        assert first == b"o" * 10
        path.write_bytes(new)
        try:
            rest = file.read()
        except SourceChangedError:
            rest = b"o" * (len(old) - 10)
        assert first + rest == old
    assert own_demo.fs.cat_file("demo/a") == new
