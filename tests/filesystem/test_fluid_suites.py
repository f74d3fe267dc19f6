"""fsspec's own suite for reading; seeding goes to the source, every read through the real path."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem, make_path_posix
from fsspec.tests.abstract import AbstractFixtures, AbstractGetTests

from fluidpy.filesystem import FluidFileSystem
from tests.filesystem.conftest import Demo, serve

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def suite_demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """One Dataset for the suite, whose listings are never fresh."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLUIDPY_METADATA_TTL_SECONDS", "0.000001")
        with serve(tmp_path_factory.mktemp("suite")) as served:
            yield served


class SeedingFileSystem(FluidFileSystem):
    """Reads like its base; what fsspec's suite writes goes straight to the source directory."""

    source: Path

    def _at_source(self, path: Any) -> Path:
        return self.source / str(self._strip_protocol(path)).partition("/")[2]

    def mkdir(self, path: Any, *_: Any, **__: Any) -> None:
        self._at_source(path).mkdir(parents=True, exist_ok=True)

    makedirs = mkdir

    def touch(self, path: Any, *_: Any, **__: Any) -> None:
        self._at_source(path).parent.mkdir(parents=True, exist_ok=True)
        self._at_source(path).touch()

    def pipe(self, path: Any, value: bytes = b"", **_: Any) -> None:
        self._at_source(path).parent.mkdir(parents=True, exist_ok=True)
        self._at_source(path).write_bytes(value)

    def rm(self, path: Any, *_: Any, **__: Any) -> None:
        for one in path if isinstance(path, list) else [path]:
            target = self._at_source(one)
            if target.is_dir():
                shutil.rmtree(target)
            else:
                target.unlink()


class FluidFixtures(AbstractFixtures):  # type: ignore[misc]  # fsspec has no types
    @pytest.fixture
    def fs(self, suite_demo: Demo) -> FluidFileSystem:
        fs = SeedingFileSystem(**suite_demo.options, skip_instance_cache=True)
        fs.source = suite_demo.source
        return fs

    @pytest.fixture
    def fs_path(self, suite_demo: Demo) -> str:
        """A folder of the test's own."""
        name = f"test-{next(_numbers)}"
        (suite_demo.source / name).mkdir()
        return f"demo/{name}"

    @pytest.fixture
    def fs_join(self) -> Any:
        return lambda *parts: "/".join(parts)

    @pytest.fixture
    def local_fs(self) -> LocalFileSystem:
        return LocalFileSystem(auto_mkdir=True)

    @pytest.fixture
    def local_path(self, tmp_path: Path) -> str:
        target = tmp_path / "local"
        target.mkdir()
        return str(make_path_posix(os.fspath(target)))

    @pytest.fixture
    def supports_empty_directories(self) -> bool:
        return True


class TestGet(FluidFixtures, AbstractGetTests):  # type: ignore[misc]  # fsspec has no types
    pass
