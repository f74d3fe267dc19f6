"""Walking big trees: fresh folders cost no request, stale ones are asked for."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fluidpy.client.connection import WorkerConnection
from fluidpy.client.session import DatasetSession
from fluidpy.filesystem import FluidFileSystem
from tests.filesystem.conftest import Demo, serve


@pytest.fixture
def fresh_demo(tmp_path: Path) -> Iterator[Demo]:
    """A Dataset of this test alone, whose listings are fresh for the usual time."""
    source = tmp_path / "source"
    source.mkdir()
    with serve(source) as served:
        yield served


class Calls:
    """Counts a process's requests by operation."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[str] = []
        genuine = WorkerConnection.call

        def call(connection: WorkerConnection, operation: str, **fields: Any) -> Any:
            self.made.append(str(getattr(operation, "value", operation)))
            return genuine(connection, operation, **fields)

        monkeypatch.setattr(WorkerConnection, "call", call)


def test_a_walk_of_fresh_folders_asks_the_worker_nothing(
    fresh_demo: Demo, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(30):
        (fresh_demo.source / "tree" / f"{number:02}" / "deep").mkdir(parents=True)
        (fresh_demo.source / "tree" / f"{number:02}" / "deep" / "file").write_bytes(b"12345")
    fs = fresh_demo.fs
    expected = [f"demo/tree/{number:02}/deep/file" for number in range(30)]
    assert fs.find("demo/tree") == expected
    calls = Calls(monkeypatch)
    assert fs.find("demo/tree") == expected
    assert fs.du("demo/tree") == 150
    assert len(list(fs.walk("demo/tree"))) == 61
    assert fs.glob("demo/tree/1*/deep/file") == expected[10:20]
    assert calls.made.count("list") == 0


def test_what_changed_is_seen_by_a_refresh(fresh_demo: Demo) -> None:
    (fresh_demo.source / "fresh").mkdir()
    (fresh_demo.source / "fresh" / "a").write_bytes(b"a")
    fs = fresh_demo.fs
    assert fs.ls("demo/fresh", detail=False) == ["demo/fresh/a"]
    (fresh_demo.source / "fresh" / "b").write_bytes(b"b")
    assert fs.ls("demo/fresh", detail=False, refresh=True) == ["demo/fresh/a", "demo/fresh/b"]
    assert fs.ls("demo/fresh", detail=False) == ["demo/fresh/a", "demo/fresh/b"]


def test_a_stale_folder_is_asked_for(fresh_demo: Demo, monkeypatch: pytest.MonkeyPatch) -> None:
    (fresh_demo.source / "stale").mkdir()
    fs = fresh_demo.fs
    assert fs.ls("demo/stale") == []
    later = time.time() + 400
    monkeypatch.setattr("fluidpy.client.catalog_view.time.time", lambda: later)
    calls = Calls(monkeypatch)
    fs.ls("demo/stale")
    assert calls.made.count("list") == 1


def test_a_catalog_that_is_gone_is_the_workers_business(fresh_demo: Demo) -> None:
    fs = fresh_demo.fs
    before = fs.ls("demo/", detail=False)
    session: DatasetSession = fs._session("demo")
    os.unlink(session.attachment().catalog)
    assert fs.ls("demo/", detail=False) == before


def _list_in_child(fs: FluidFileSystem, path: str) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if fs.ls(path) else 1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_forked_child_opens_a_view_of_its_own(fresh_demo: Demo) -> None:
    (fresh_demo.source / "folder").mkdir()
    (fresh_demo.source / "folder" / "a").write_bytes(b"a")
    fs = fresh_demo.fs
    assert fs.ls("demo/folder")
    assert _list_in_child(fs, "demo/folder") == 0
    assert fs.ls("demo/folder")


TREE = {"top": ["a", "b", "c"], "top/a": ["x"], "top/b": ["y"], "top/c": ["z"]}


def breaking(broken: OSError) -> FluidFileSystem:
    """A tree in which the folder `top/b` cannot be listed."""

    class Walked(FluidFileSystem):
        cachable = False

        def ls(self, path: str, detail: bool = True, refresh: bool = False, **_: Any) -> list[Any]:
            if path == "top/b":
                raise broken
            kind = "directory" if path == "top" else "file"
            return [{"name": f"{path}/{name}", "type": kind} for name in TREE[path]]

    return Walked()


def walked(broken: OSError, **options: Any) -> list[str]:
    """The folders that a walk shows."""
    return [folder for folder, _, _ in breaking(broken).walk("top", **options)]


def awaited(broken: OSError, **options: Any) -> list[str]:
    """The folders that an awaited walk shows."""

    async def walk() -> list[str]:
        return [folder async for folder, _, _ in breaking(broken)._walk("top", **options)]

    return asyncio.run(walk())


both = pytest.mark.parametrize("walk", [walked, awaited])


@both
def test_a_folder_that_cannot_be_listed_is_no_empty_one(walk: Callable[..., list[str]]) -> None:
    """`find` went on without its files, and so would a training."""
    with pytest.raises(TimeoutError):
        walk(TimeoutError("no answer"))
    with pytest.raises(FileNotFoundError):
        walk(FileNotFoundError("gone"), on_error="raise")
    assert walk(FileNotFoundError("gone")) == ["top", "top/a", "top/c"]
    assert walk(TimeoutError("no answer"), on_error="omit") == ["top", "top/a", "top/c"]


@both
def test_a_walk_tells_errors_goes_bottom_up_and_so_deep(walk: Callable[..., list[str]]) -> None:
    told: list[tuple[OSError, int]] = []

    def tell(error: OSError) -> None:
        told.append((error, threading.get_ident()))

    error = TimeoutError("no answer")
    assert walk(error, on_error=tell, topdown=False) == ["top/a", "top/c", "top"]
    assert told == [(error, threading.get_ident())], "told by another thread"
    assert walk(error, maxdepth=1) == ["top"]
    with pytest.raises(ValueError, match="maxdepth"):
        walk(error, maxdepth=0)


async def test_an_awaited_walk_leaves_out_what_its_caller_takes_out_and_ends_with_an_error() -> (
    None
):
    fs = breaking(TimeoutError("no answer"))
    seen: list[str] = []
    async for folder, folders, _ in fs._walk("top", detail=True):
        seen.append(folder)
        folders.pop("b", None)
    assert seen == ["top", "top/a", "top/c"]

    def refuse(error: OSError) -> None:
        raise RuntimeError from error

    with pytest.raises(RuntimeError):
        [_ async for _ in fs._walk("top", on_error=refuse)]
