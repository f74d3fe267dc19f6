from __future__ import annotations

import io
import os
import random
import shutil
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fluidpy.client.connection import close_connections, connection_for
from fluidpy.client.locate import Locator
from fluidpy.client.start import connect
from fluidpy.filesystem import FluidFileSystem
from fluidpy.settings import Settings

YAML = """\
apiVersion: data.fluid.io/v1alpha1
kind: Dataset
metadata:
  name: demo
spec:
  mounts:
    - name: data
      path: /
      mountPoint: local://{source}
"""


@dataclass(frozen=True)
class Demo:
    """A Dataset `demo` over the local directory `source`."""

    source: Path
    options: dict[str, Any]

    @property
    def settings(self) -> Settings:
        directories = {k: self.options[k] for k in ("cache_dir", "runtime_dir")}
        return Locator.from_options(self.options["file"], None, directories).settings

    @property
    def fs(self) -> FluidFileSystem:
        return FluidFileSystem(**self.options)

    def stop_worker(self) -> None:
        """Ends the worker, if one runs, and waits until it is gone."""
        listening = connect(self.settings)
        if listening is None:
            return
        listening.close()
        connection = connection_for(self.settings)
        ok, _ = connection.call("status", deadline=60)
        connection.call("stop", deadline=60)
        wait_for_end(int(ok["pid"]))


def wait_for_end(pid: int) -> None:
    """Waits until a process is gone, or a zombie of ours."""
    limit = time.monotonic() + 60
    while time.monotonic() < limit:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return
        if state == "Z":
            return
        time.sleep(0.01)  # it is not always our child, so there is nothing to wait on
    raise AssertionError(f"process {pid} does not end")


@contextmanager
def serve(source: Path) -> Iterator[Demo]:
    """A Dataset over a directory, with cache, sockets and a worker of its own."""
    with tempfile.TemporaryDirectory(prefix="fluidpy-", dir="/tmp") as scratch:
        base = Path(scratch)
        file = base / "demo.yaml"
        file.write_text(YAML.format(source=source))
        (base / "run").mkdir(mode=0o700)
        options = {
            "file": str(file),
            "cache_dir": str(base / "cache"),
            "runtime_dir": str(base / "run"),
        }
        demo = Demo(source, options)
        try:
            yield demo
        finally:
            demo.stop_worker()
            close_connections()
            FluidFileSystem.clear_instance_cache()


def make_tree(directory: Path) -> None:
    """Files of many sizes and kinds, always the same."""
    noise = random.Random(7)
    (directory / "train/deep/er").mkdir(parents=True)
    (directory / "readme.txt").write_text("one\ntwo\nthree\n")
    (directory / "empty").write_bytes(b"")
    (directory / "ünï code.txt").write_text("ä\n")
    for number in range(5):
        (directory / f"train/{number}.bin").write_bytes(noise.randbytes(1000 * number + 10))
    (directory / "train/large.bin").write_bytes(noise.randbytes(5 * 1024 * 1024 + 77))
    (directory / "train/deep/er/file.txt").write_text("deep")
    (directory / "link.txt").symlink_to("train/deep/er/file.txt")
    (directory / "broken").symlink_to("nowhere")
    with tarfile.open(directory / "shard.tar", "w") as tar:
        for number in range(3):
            member = tarfile.TarInfo(f"{number}.txt")
            member.size = 6
            tar.addfile(member, io.BytesIO(b"text %d" % number))
    with zipfile.ZipFile(directory / "archive.zip", "w") as archive:
        archive.writestr("inside.txt", "zipped")


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """One Dataset for all tests that change nothing; its files are old enough to be kept."""
    source = tmp_path_factory.mktemp("source")
    make_tree(source)
    time.sleep(2.1)  # a file changed in the last 2 s is served and not kept
    with serve(source) as served:
        yield served
    shutil.rmtree(source)


@pytest.fixture
def own_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Demo]:
    """A Dataset of this test alone, whose listings are never fresh."""
    monkeypatch.setenv("FLUIDPY_METADATA_TTL_SECONDS", "0.000001")
    source = tmp_path / "source"
    source.mkdir()
    with serve(source) as served:
        yield served


@pytest.fixture
def fs(demo: Demo) -> FluidFileSystem:
    return demo.fs


def source_files(source: Path) -> dict[str, bytes]:
    """All regular files of a tree, by path."""
    return {
        os.path.relpath(os.path.join(folder, name), source): Path(folder, name).read_bytes()
        for folder, _, names in os.walk(source)
        for name in names
        if not os.path.islink(os.path.join(folder, name))
    }
