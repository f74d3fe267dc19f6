"""What reads `fluid://` without knowing it: pandas, pyarrow, zarr, universal-pathlib."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as pyarrow_dataset
import pyarrow.parquet as pq
import pytest
import zarr
from pyarrow.fs import FSSpecHandler, PyFileSystem
from upath import UPath

from fluidpy.errors import PathNotFoundError, ReadOnlyDatasetError
from fluidpy.filesystem_path import FluidPath
from tests.filesystem.conftest import Demo


@pytest.fixture
def frame() -> pd.DataFrame:
    numbers = np.arange(50_000)
    return pd.DataFrame({"number": numbers, "square": numbers**2, "text": numbers.astype(str)})


def test_pandas_reads_parquet_and_csv(own_demo: Demo, frame: pd.DataFrame) -> None:
    frame.to_parquet(own_demo.source / "table.parquet", row_group_size=10_000)
    frame.to_csv(own_demo.source / "table.csv.gz", index=False)
    options = own_demo.options
    read = pd.read_parquet("fluid://demo/table.parquet", storage_options=options)
    pd.testing.assert_frame_equal(read, frame)
    columns = ["square"]
    read = pd.read_parquet("fluid://demo/table.parquet", columns=columns, storage_options=options)
    pd.testing.assert_frame_equal(read, frame[columns])
    read = pd.read_csv("fluid://demo/table.csv.gz", storage_options=options, dtype={"text": str})
    pd.testing.assert_frame_equal(read, frame, check_dtype=False)
    with pytest.raises(ReadOnlyDatasetError):
        frame.to_csv("fluid://demo/new.csv", storage_options=options)


def test_pyarrow_reads_a_partitioned_dataset(own_demo: Demo, frame: pd.DataFrame) -> None:
    table = pa.Table.from_pandas(frame.assign(part=frame["number"] % 3), preserve_index=False)
    pq.write_to_dataset(table, own_demo.source / "parts", partition_cols=["part"])
    handler: Any = FSSpecHandler  # its stubs call it abstract, which it is not
    filesystem = PyFileSystem(handler(own_demo.fs))
    dataset = pyarrow_dataset.dataset(
        "demo/parts", filesystem=filesystem, format="parquet", partitioning="hive"
    )
    assert dataset.count_rows() == len(frame)
    chosen = dataset.to_table(filter=pyarrow_dataset.field("part") == 1)
    assert set(chosen["number"].to_pylist()) == set(range(1, len(frame), 3))
    assert len(chosen) == len(range(1, len(frame), 3))


def test_zarr_reads_an_array(own_demo: Demo) -> None:
    values = np.arange(10_000).reshape(100, 100)
    array = zarr.create_array(
        str(own_demo.source / "array.zarr"), shape=values.shape, chunks=(10, 10), dtype="int64"
    )
    array[:] = values
    opened: Any = zarr.open(
        "fluid://demo/array.zarr", mode="r", storage_options=dict(own_demo.options)
    )
    np.testing.assert_array_equal(opened[:], values)
    np.testing.assert_array_equal(opened[37:55, 3], values[37:55, 3])


def test_universal_pathlib(own_demo: Demo) -> None:
    (own_demo.source / "a/b").mkdir(parents=True)
    (own_demo.source / "a/b/c.txt").write_text("text")
    path = UPath("fluid://demo/a/b/c.txt", **own_demo.options)
    assert isinstance(path, FluidPath)
    assert path.read_text() == "text"
    assert path.exists()
    assert path.is_file()
    assert (path.name, path.suffix) == ("c.txt", ".txt")
    assert str(path.parent / "x") == "fluid://demo/a/b/x"
    assert [child.name for child in path.parent.iterdir()] == ["c.txt"]
    root = UPath("fluid://demo", **own_demo.options)
    assert [str(found) for found in root.glob("**/*.txt")] == ["fluid://demo/a/b/c.txt"]
    assert path.stat().st_size == 4
    with pytest.raises(PathNotFoundError):
        (root / "missing").read_bytes()
    with pytest.raises(ReadOnlyDatasetError):
        path.write_text("new")
    with pytest.raises(ReadOnlyDatasetError):
        path.unlink()
