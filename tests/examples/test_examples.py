"""Every example is valid, and does what it says when its places are real ones."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pandas
import pytest

from fluidpy.api.document import load_documents
from fluidpy.testing.servers.seaweedfs import SeaweedServer

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
FILES = sorted(EXAMPLES.rglob("*.yaml"))


class FluidpyHere:
    """Runs commands with directories of their own, on an example whose places were replaced."""

    def __init__(self, directory: Path, runtime: str) -> None:
        self.directory = directory
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("FLUIDPY_")}
        self.environment |= {
            "FLUIDPY_CACHE_DIR": str(directory / "cache"),
            "FLUIDPY_RUNTIME_DIR": runtime,
            "FLUIDPY_CONFIG": str(directory / "no-config.toml"),
        }

    def example(self, name: str, places: dict[str, str]) -> Path:
        text = (EXAMPLES / name).read_text()
        for place, real in places.items():
            assert place in text
            text = text.replace(place, real)
        file = self.directory / Path(name).name
        file.write_text(text)
        return file

    def python(self, *arguments: str | Path, check: bool = True) -> str:
        finished = subprocess.run(
            [sys.executable, *map(str, arguments)],
            capture_output=True,
            env=self.environment,
            timeout=100,
            check=False,
        )
        assert not check or finished.returncode == 0, finished.stderr.decode()
        return finished.stdout.decode()

    def cat(self, url: str, file: Path) -> str:
        return self.python("-m", "fluidpy", "cat", url, "-f", file)

    def ls(self, url: str, file: Path) -> list[str]:
        return self.python("-m", "fluidpy", "ls", url, "-f", file).split()


@pytest.fixture
def here(tmp_path: Path) -> Iterator[FluidpyHere]:
    with tempfile.TemporaryDirectory(prefix="fluidpy-", dir="/tmp") as runtime:
        commands = FluidpyHere(tmp_path, runtime)
        try:
            yield commands
        finally:
            commands.python("-m", "fluidpy", "worker", "--stop", check=False)


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize("file", FILES, ids=lambda path: str(path.relative_to(EXAMPLES)))
def test_it_is_valid(file: Path) -> None:
    result = load_documents(file)
    assert result.problems == []
    assert result.objects


def test_the_list_of_examples_is_complete() -> None:
    listed = set(re.findall(r"\]\(([^)]+)\)", (EXAMPLES / "README.md").read_text()))
    there = {path.name for path in EXAMPLES.iterdir()} - {"README.md", "__pycache__"}
    assert {name.rstrip("/") for name in listed} == there


def test_local_directory(here: FluidpyHere, tmp_path: Path) -> None:
    source = write(tmp_path / "nas", {"a.txt": "a", "b/c.txt": "c"})
    file = here.example("local-directory.yaml", {"/nas/photos": str(source)})
    assert here.ls("fluid://photos", file) == ["a.txt", "b/"]
    assert here.cat("fluid://photos/b/c.txt", file) == "c"


def test_a_bucket_with_its_key_in_the_file(
    here: FluidpyHere, seaweedfs_server: SeaweedServer, bucket: str
) -> None:
    seaweedfs_server.put_objects(bucket, {"train/1.txt": b"one"})
    file = here.example("s3.yaml", _places(seaweedfs_server, bucket, with_key=True))
    assert here.cat("fluid://imagenet/train/1.txt", file) == "one"


@pytest.mark.parametrize("way", ["directory", "environment"])
def test_a_bucket_with_its_key_elsewhere(
    here: FluidpyHere, seaweedfs_server: SeaweedServer, bucket: str, tmp_path: Path, way: str
) -> None:
    seaweedfs_server.put_objects(bucket, {"train/1.txt": b"one"})
    file = here.example("secret-directory.yaml", _places(seaweedfs_server, bucket))
    key = {"id": seaweedfs_server.reader_key, "secret": seaweedfs_server.reader_secret}
    if way == "directory":
        write(tmp_path / "secrets", {f"bucket-key/{name}": text for name, text in key.items()})
        here.environment["FLUIDPY_SECRET_DIRECTORY"] = str(tmp_path / "secrets")
    else:
        for name, text in key.items():
            here.environment[f"FLUIDPY_SECRET_BUCKET_KEY_{name.upper()}"] = text
    assert here.cat("fluid://imagenet/train/1.txt", file) == "one"


def _places(server: SeaweedServer, bucket: str, *, with_key: bool = False) -> dict[str, str]:
    places = {"http://127.0.0.1:9000": server.endpoint, "s3://imagenet": f"s3://{bucket}"}
    if with_key:
        places["EXAMPLE-KEY-ID"] = server.reader_key
        places["EXAMPLE-SECRET"] = server.reader_secret
    return places


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextmanager
def web_server(directory: Path) -> Iterator[str]:
    handler = partial(_QuietHandler, directory=str(directory))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_a_web_server(here: FluidpyHere, tmp_path: Path) -> None:
    source = write(tmp_path / "web", {"releases/a.txt": "a", "releases/1.0/b.txt": "b"})
    with web_server(source) as url:
        file = here.example("http.yaml", {"http://127.0.0.1:8000": url})
        assert here.ls("fluid://releases", file) == ["1.0/", "a.txt"]
        assert here.cat("fluid://releases/1.0/b.txt", file) == "b"


def test_an_fsspec_protocol(here: FluidpyHere, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "corpus.zip", "w") as archive:
        archive.writestr("texts/a.txt", "a")
        archive.writestr("texts/b/c.txt", "c")
    places = {"/nas/corpus.zip": str(tmp_path / "corpus.zip")}
    file = here.example("fsspec-protocol.yaml", places)
    assert here.ls("fluid://corpus", file) == ["a.txt", "b/"]
    assert here.cat("fluid://corpus/b/c.txt", file) == "c"


def test_a_store_of_ones_own(here: FluidpyHere, tmp_path: Path) -> None:
    here.python(
        "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation",
        "--disable-pip-version-check", "--target", tmp_path / "site", EXAMPLES / "own-store",
    )  # fmt: skip
    here.environment["PYTHONPATH"] = str(tmp_path / "site")
    file = here.example("own-store/dataset.yaml", {"hello": "good evening"})
    assert here.ls("fluid://stars", file) == ["rigel.txt", "sirius.txt", "vega.txt"]
    assert here.cat("fluid://stars/vega.txt", file) == "good evening vega\n"


def _nas(tmp_path: Path) -> dict[str, str]:
    write(tmp_path, {"train/cats/1.txt": "cat", "extra/2.txt": "more", "labels/l.csv": "l"})
    return {f"/nas/{name}": str(tmp_path / name) for name in ("train", "extra", "labels")}


def test_nested_mounts(here: FluidpyHere, tmp_path: Path) -> None:
    file = here.example("nested-mounts.yaml", _nas(tmp_path))
    assert here.ls("fluid://mixture", file) == ["labels/", "train/"]
    assert here.ls("fluid://mixture/train", file) == ["cats/", "extra/"]
    assert here.cat("fluid://mixture/train/extra/2.txt", file) == "more"


def test_a_dataset_in_another(here: FluidpyHere, tmp_path: Path) -> None:
    places = _nas(tmp_path)
    del places["/nas/extra"]
    file = here.example("dataset-reference.yaml", places)
    assert here.cat("fluid://cats/1.txt", file) == "cat"
    assert here.cat("fluid://everything/labels/l.csv", file) == "l"


def test_tiers(here: FluidpyHere, tmp_path: Path) -> None:
    source = write(tmp_path / "nas", {"a.txt": "a"})
    places = {
        "/nas/photos": str(source),
        "/dev/shm/fluidpy-photos": str(tmp_path / "memory"),
        "/nvme/fluidpy-photos": str(tmp_path / "disk"),
    }
    file = here.example("tiered-store.yaml", places)
    assert here.cat("fluid://photos/a.txt", file) == "a"
    usage = here.python("-m", "fluidpy", "cache", "usage", "-f", file)
    assert "64.0 MiB" in usage
    assert "1.0 GiB" in usage
    assert str(tmp_path / "memory") in usage


@pytest.mark.slow
def test_a_pool(here: FluidpyHere, tmp_path: Path) -> None:
    """Runs the commands that docs/cluster.md shows."""
    source = write(tmp_path / "nas", {"a.txt": "a", "b/c.txt": "c"})
    here.environment["FLUIDPY_STATE_DIR"] = str(tmp_path / "state")
    places = {"/nas/photos": str(source), "/nvme/fluidpy-pool": str(tmp_path / "disk")}
    file = here.example("pool.yaml", places)
    page = (ROOT / "docs" / "cluster.md").read_text()
    commands = page.partition("```console\n")[2].partition("```")[0].splitlines()
    said = {}
    try:
        for command in commands:
            words = command.replace("examples/pool.yaml", str(file)).split()
            assert words[0] == "fluidpy"
            said[words[1]] = here.python("-m", *words)
            limit = time.monotonic() + 60
            while words[1] == "get" and "100.0%" not in said["get"]:  # it is counted meanwhile
                assert time.monotonic() < limit, said["get"]
                said["get"] = here.python("-m", *words)
    finally:
        here.python("-m", "fluidpy", "down", "--force", check=False)
    assert said["ls"].split() == ["a.txt", "b/"]
    assert [f"worker-{n}" in said["status"] for n in range(4)] == [True, True, True, False]
    assert len(list((tmp_path / "disk").iterdir())) == 3


def test_pandas(here: FluidpyHere, tmp_path: Path) -> None:
    source = tmp_path / "nas"
    source.mkdir()
    pandas.DataFrame({"x": [1, 2], "y": [3.0, 4.0]}).to_parquet(source / "t.parquet")
    file = here.example("local-directory.yaml", {"/nas/photos": str(source)})
    script = EXAMPLES / "read_with_pandas.py"
    assert here.python(script, file, "fluid://photos/t.parquet").splitlines() == [
        "2 rows: x, y",
        "photos/t.parquet",
    ]
