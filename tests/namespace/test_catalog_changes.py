"""A catalog's mark tells of every commit of another process, and of nothing else."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from fluidpy.namespace.catalog import CatalogReader
from fluidpy.namespace.catalog_schema import TABLES, connect_writer

ADD = "INSERT INTO entry VALUES(NULL,1,?,1,1,1,NULL,NULL,x'01',0,NULL)"

WRITER = f"""
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
for line in sys.stdin:
    name = line.strip()
    connection.execute("BEGIN IMMEDIATE")
    connection.execute({ADD!r}, (name.encode(),))
    if name != "undone":
        connection.execute("COMMIT")
    else:
        connection.execute("ROLLBACK")
    if name.startswith("checkpoint"):
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    print(flush=True)
"""


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    path = tmp_path / "catalog.sqlite"
    with closing(connect_writer(path)) as writer:
        writer.executescript(TABLES)
    return path


class Writer:
    """Another process that writes to the catalog."""

    def __init__(self, catalog: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(catalog)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def add(self, name: str) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{name}\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "\n"

    def close(self) -> None:
        self._process.communicate(timeout=60)


def test_a_mark_changes_with_each_commit_of_another_process_only(catalog: Path) -> None:
    with closing(Writer(catalog)) as writer, closing(CatalogReader(catalog)) as reader:
        marks = [reader.mark()]
        for name in ("a", "b", "checkpoint 1", "c", "checkpoint 2", "d"):
            writer.add(name)
            marks.append(reader.mark())
            assert reader.lookup(1, name.encode())
            assert reader.mark() == marks[-1]
        writer.add("undone")
        assert reader.mark() == marks[-1]
        assert all(marks)
        assert len(set(marks)) == len(marks), "two states have the same mark"


def test_a_catalog_that_was_replaced_has_other_marks(catalog: Path) -> None:
    with closing(CatalogReader(catalog)) as reader:
        before = reader.mark()
        for path in catalog.parent.glob("catalog.sqlite*"):
            path.rename(path.with_name(f"old-{path.name}"))
        with closing(connect_writer(catalog)) as writer:
            writer.executescript(TABLES)
            assert reader.reopen()
            assert reader.mark() not in (b"", before)


def test_a_first_mark_never_names_a_catalog_that_has_come_since(catalog: Path) -> None:
    reader = CatalogReader(catalog)
    catalog.rename(catalog.with_name("aside"))
    Path(f"{catalog}-shm").rename(catalog.with_name("aside-shm"))
    with closing(connect_writer(catalog)) as writer:
        writer.executescript(TABLES)
        assert reader.mark() == b""
        assert reader.reopen()
        assert reader.mark() != b""
        reader.close()


def test_a_catalog_without_a_log_has_an_empty_mark(catalog: Path) -> None:
    with closing(sqlite3.connect(catalog)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
    with closing(CatalogReader(catalog)) as reader:
        assert reader.mark() == b""
        assert reader.get(1) is None
