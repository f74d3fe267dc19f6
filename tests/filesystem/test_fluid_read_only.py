from __future__ import annotations

import errno
import inspect

import fsspec
import pytest
from fsspec.asyn import AsyncFileSystem
from fsspec.spec import AbstractFileSystem

from fluidpy.client.read_only import WRITING_COROUTINES, WRITING_METHODS
from fluidpy.errors import ReadOnlyDatasetError, errno_of
from fluidpy.filesystem import FluidFileSystem

READING = {
    "cat", "cat_file", "cat_ranges", "checksum", "clear_instance_cache", "created", "current",
    "disk_usage", "download", "du", "exists", "expand_path", "find", "from_dict", "from_json",
    "fsid", "get", "get_file", "get_mapper", "glob", "head", "info", "invalidate_cache", "isdir",
    "isfile", "lexists", "listdir", "loop", "ls", "modified", "open", "open_async", "read_block",
    "read_bytes", "read_text", "sign", "size", "sizes", "stat", "tail", "to_dict", "to_json",
    "transaction", "transaction_type", "tree", "ukey", "unstrip_protocol", "walk",
}  # fmt: skip
"""What fsspec's classes offer that changes nothing."""


@pytest.fixture
def nowhere() -> FluidFileSystem:
    """A file system without a Dataset: a refusal must not depend on one."""
    return FluidFileSystem(file="/nonexistent.yaml", skip_instance_cache=True)


def test_every_method_of_fsspec_is_known_to_read_or_is_refused() -> None:
    public = {
        name
        for base in (AbstractFileSystem, AsyncFileSystem)
        for name, value in inspect.getmembers(base)
        if not name.startswith("_") and (callable(value) or isinstance(value, property))
    }
    assert public - READING == set(WRITING_METHODS) & public
    writers = {name.removeprefix("_") for name in WRITING_COROUTINES}
    coroutines = {
        name
        for name, value in inspect.getmembers(AsyncFileSystem, inspect.iscoroutinefunction)
        if name.startswith("_")
    }
    assert {name for name in coroutines if name[1:] not in READING} - {
        "_expand_path",
        "_process_limits",
    } == set(WRITING_COROUTINES) & coroutines
    assert writers - {"rmdir", "touch"} <= {name[1:] for name in coroutines}


@pytest.mark.parametrize("name", WRITING_METHODS)
def test_writing_is_erofs(nowhere: FluidFileSystem, name: str) -> None:
    with pytest.raises(ReadOnlyDatasetError, match=r"demo/a.*read-only") as caught:
        getattr(nowhere, name)("demo/a", "demo/b")
    assert errno_of(caught.value) == errno.EROFS
    assert isinstance(caught.value, OSError)


@pytest.mark.parametrize("name", WRITING_COROUTINES)
async def test_writing_is_erofs_when_awaited(nowhere: FluidFileSystem, name: str) -> None:
    with pytest.raises(ReadOnlyDatasetError) as caught:
        await getattr(nowhere, name)("demo/a", "demo/b")
    assert errno_of(caught.value) == errno.EROFS


@pytest.mark.parametrize("mode", ["wb", "ab", "xb", "r+b", "w", "a", "x", "w+"])
def test_opening_for_writing_is_erofs(nowhere: FluidFileSystem, mode: str) -> None:
    with pytest.raises(ReadOnlyDatasetError, match=r"open\(mode="):
        nowhere.open("demo/a", mode)


def test_a_mode_that_is_none_is_a_value_error(nowhere: FluidFileSystem) -> None:
    with pytest.raises(ValueError, match="mode is"):
        nowhere.open("demo/a", "qb")


def test_fsspec_open_for_writing_is_erofs() -> None:
    with pytest.raises(ReadOnlyDatasetError):
        fsspec.open("fluid://demo/a", "wb", file="/nonexistent.yaml")
