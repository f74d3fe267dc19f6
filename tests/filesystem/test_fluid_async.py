from __future__ import annotations

import asyncio

import pytest

from fluidpy.errors import PathNotFoundError
from fluidpy.filesystem import FluidFileSystem
from tests.filesystem.conftest import Demo


@pytest.fixture
def awaited(demo: Demo) -> FluidFileSystem:
    return FluidFileSystem(asynchronous=True, **demo.options)


async def test_everything_can_be_awaited_on_any_loop(awaited: FluidFileSystem, demo: Demo) -> None:
    large = (demo.source / "train/large.bin").read_bytes()
    assert (await awaited._info("demo/train/0.bin"))["size"] == 10
    assert [info["name"] for info in await awaited._ls("demo/train/deep")] == ["demo/train/deep/er"]
    assert await awaited._cat_file("demo/train/large.bin", 5, -5) == large[5:-5]
    assert await awaited._cat("demo/readme.txt") == b"one\ntwo\nthree\n"
    assert await awaited._exists("demo/readme.txt")
    assert not await awaited._exists("demo/missing")
    assert await awaited._isdir("demo/train")
    assert await awaited._isfile("demo/readme.txt")
    assert await awaited._glob("demo/*.txt") == [
        "demo/link.txt",
        "demo/readme.txt",
        "demo/ünï code.txt",
    ]
    assert await awaited._find("demo/train/deep") == ["demo/train/deep/er/file.txt"]
    assert [names async for _, _, names in awaited._walk("demo/train/deep/er")] == [["file.txt"]]
    assert await awaited._du("demo/train/deep") == 4
    assert await awaited._cat_ranges(["demo/readme.txt"] * 2, [0, 4], [3, 7]) == [b"one", b"two"]


async def test_many_at_once(awaited: FluidFileSystem, demo: Demo) -> None:
    large = (demo.source / "train/large.bin").read_bytes()
    starts = range(0, len(large) - 1000, 50_000)
    path = "demo/train/large.bin"
    found = await asyncio.gather(*(awaited._cat_file(path, at, at + 1000) for at in starts))
    assert found == [large[at : at + 1000] for at in starts]


async def test_an_open_file_is_read_by_await(awaited: FluidFileSystem) -> None:
    async with await awaited.open_async("demo/readme.txt") as file:
        assert file.size == 14
        assert await file.read(4) == b"one\n"
        assert file.seek(8) == file.tell() == 8
        assert await file.read() == b"three\n"
    assert file.closed
    with pytest.raises(PathNotFoundError):
        await awaited.open_async("demo/missing")
    with pytest.raises(ValueError, match="binary"):
        await awaited.open_async("demo/readme.txt", "r")


async def test_the_sync_methods_work_inside_a_running_loop(fs: FluidFileSystem) -> None:
    assert fs.cat_file("demo/readme.txt", 0, 3) == b"one"
    assert fs.ls("demo/train/deep", detail=False) == ["demo/train/deep/er"]
    assert fs.cat(["demo/readme.txt", "demo/empty"]) == {
        "demo/readme.txt": b"one\ntwo\nthree\n",
        "demo/empty": b"",
    }
