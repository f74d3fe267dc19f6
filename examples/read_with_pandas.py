"""Reads a table and lists a folder of a Dataset, without a mount.

python examples/read_with_pandas.py DATASET.yaml fluid://NAME/PATH/TABLE.parquet
"""

from __future__ import annotations

import sys

import fsspec
import pandas


def main(file: str, url: str) -> None:
    options = {"file": file}
    table = pandas.read_parquet(url, storage_options=options)
    print(f"{len(table)} rows: {', '.join(table.columns)}")
    files = fsspec.filesystem("fluid", **options)
    for name in files.ls(url.rsplit("/", 1)[0], detail=False):
        print(name)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
