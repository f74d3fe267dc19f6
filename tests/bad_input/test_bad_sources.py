"""Sources that cannot work are told of when they are mounted, not by errors of the mount."""

from __future__ import annotations

import functools
import http.server
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fluidpy.testing.servers.seaweedfs import SeaweedServer
from tests.bad_input.conftest import WITHOUT_RIGHTS, Refusals, dataset


def mount(refusals: Refusals, text: str) -> str:
    """What `mount` says of a Dataset that cannot be."""
    file, directory = refusals.line.directory / "d.yaml", refusals.line.directory / "data"
    file.write_text(text)
    directory.mkdir(exist_ok=True)
    return refusals.said("mount", "-f", file, directory)


def test_a_directory_that_is_missing(refusals: Refusals, tmp_path: Path) -> None:
    assert mount(refusals, dataset(f"local://{tmp_path}/nas")) == (
        f"mount nas: the directory {tmp_path}/nas is not there\n"
        "cure: Check mountPoint, and that its file system is mounted on this machine."
    )


def test_a_directory_that_is_a_file(refusals: Refusals, tmp_path: Path) -> None:
    (tmp_path / "nas").write_bytes(b"")
    assert mount(refusals, dataset(f"local://{tmp_path}/nas")) == (
        f"mount nas: {tmp_path}/nas is a file, not a directory\n"
        "cure: Give the directory that holds it."
    )


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """A directory that this user may not read."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    return closed


def may_not_be_read(closed: Path, joint: str = "\ncure: ") -> str:
    return (
        f"{closed} may not be read by this user{joint}"
        f"Give user id {os.geteuid()} the right to read it."
    )


def test_a_directory_without_permission(refusals: Refusals, tmp_path: Path, closed: Path) -> None:
    (tmp_path / "d.yaml").write_text(dataset(f"local://{closed}"))
    words = ("ls", "-f", "d.yaml", "fluid://pets/")
    assert refusals.said(*words, attached=True, run_by=WITHOUT_RIGHTS) == may_not_be_read(closed)
    refusals.line.run_by = WITHOUT_RIGHTS
    loaded = refusals.line.run("load", "-f", "d.yaml")
    assert loaded.returncode == 1
    assert loaded.stdout == b""
    assert loaded.stderr.decode().splitlines()[1:] == [
        f"not read: /: {may_not_be_read(closed, '. ')}",
        "fluidpy: 1 file could not be read",
        "cure: mend what the lines above say, then run the same command again",
    ]


@pytest.mark.parametrize("path", ["/", "/below"])
def test_a_directory_without_permission_is_not_mounted(
    refusals: Refusals, tmp_path: Path, closed: Path, path: str
) -> None:
    """A mount that showed it below its root once came up, and said nothing."""
    (tmp_path / "d.yaml").write_text(
        dataset(f"local://{closed}").replace("path: /", f"path: {path}")
    )
    (tmp_path / "data").mkdir()
    said = refusals.said("mount", "-f", "d.yaml", "data", run_by=WITHOUT_RIGHTS)
    assert said == f"mount nas: {may_not_be_read(closed)}"


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """A web server with one page."""
    pages = tmp_path / "pages"
    pages.mkdir()
    (pages / "a.txt").write_bytes(b"a")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    handler = functools.partial(Quiet, directory=str(pages))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("path", ["/none/", "/none"])
def test_a_page_that_is_missing(refusals: Refusals, web: str, path: str) -> None:
    wanted = f"mount nas: {web}{path} is not there (404)\ncure: Check the URL."
    assert mount(refusals, dataset(web + path)) == wanted


@pytest.fixture
def silent() -> Iterator[str]:
    """An endpoint that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_an_endpoint_that_is_silent(refusals: Refusals, silent: str) -> None:
    refusals.line.environment["FLUIDPY_SOURCE_DEADLINE_SECONDS"] = "4"
    text = dataset("s3://bucket", more=f"      options: {{endpoint: '{silent}'}}\n")
    file, directory = refusals.line.directory / "d.yaml", refusals.line.directory / "data"
    file.write_text(text)
    directory.mkdir()
    finished = refusals.line.run("mount", "-f", file, directory, timeout=100)
    lines = finished.stderr.decode().splitlines()
    assert finished.returncode == 1
    assert lines[0] == "still waiting for mount nas: s3://bucket"
    assert lines[1].startswith("fluidpy: mount nas: looking at / ")
    assert "4 s" in lines[1]
    assert lines[2].startswith("cure: ")
    refusals.assert_clean()


def bucket_dataset(server: SeaweedServer, point: str) -> str:
    more = (
        f"      options: {{endpoint: '{server.endpoint}'}}\n"
        "      encryptOptions:\n"
        "        - {name: access_key_id, valueFrom: {secretKeyRef: {name: k, key: id}}}\n"
        "        - {name: secret_access_key, valueFrom: {secretKeyRef: {name: k, key: secret}}}\n"
        "---\napiVersion: v1\nkind: Secret\nmetadata: {name: k}\n"
        f"stringData: {{id: {server.access_key}, secret: {server.secret_key}}}\n"
    )
    return dataset(point, more=more)


def test_a_mount_of_one_object(
    refusals: Refusals, seaweedfs_server: SeaweedServer, bucket: str, tmp_path: Path
) -> None:
    seaweedfs_server.put_objects(bucket, {"folder/b.txt": b"b"})
    text = bucket_dataset(seaweedfs_server, f"s3://{bucket}/folder/b.txt")
    wanted = (
        f"s3://{bucket}/folder/b.txt is one object, and a mount is a folder of objects\n"
        f"cure: Give the folder that holds it: mountPoint s3://{bucket}/folder"
    )
    assert mount(refusals, text) == f"mount nas: {wanted}"
    words = ("ls", "-f", tmp_path / "d.yaml", "fluid://pets/")
    assert refusals.said(*words, attached=True) == wanted


def test_a_prefix_without_objects(
    refusals: Refusals, seaweedfs_server: SeaweedServer, bucket: str
) -> None:
    assert mount(refusals, bucket_dataset(seaweedfs_server, f"s3://{bucket}/none")) == (
        f"mount nas: s3://{bucket}/none/ holds no object\n"
        "cure: Check the prefix in mountPoint; a bucket's root may be empty, a prefix may not."
    )
