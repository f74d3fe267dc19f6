"""Commands on a real Dataset through a real worker: a directory as the source."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.cli.conftest import CommandLine, needs_fuse, write_dataset
from tests.model.place import until


def test_ls(command_line: CommandLine, dataset_file: Path) -> None:
    root = command_line.done("ls", "fluid://pets", "-f", dataset_file)
    assert root == "labels.csv\ntrain/\n"
    rows = json.loads(
        command_line.done("ls", "fluid://pets/train", "-f", dataset_file, "-o", "json")
    )
    assert [(row["path"], row["type"], row["size"]) for row in rows] == [
        ("train/cats", "directory", 0),
        ("train/dogs.txt", "file", 4),
    ]
    long = command_line.done("ls", "-l", "fluid://pets/train", "-f", dataset_file).splitlines()
    assert long[0].split() == ["MODE", "SIZE", "MODIFIED", "NAME"]
    assert long[2].split()[1] == "4"
    one = command_line.done("ls", "fluid://pets/labels.csv", "-f", dataset_file, "-o", "name")
    assert one == "labels.csv\n"


def test_cat(command_line: CommandLine, dataset_file: Path, tree: Path) -> None:
    finished = command_line.run(
        "cat", "fluid://pets/labels.csv", "fluid://pets/train/cats/2.txt", "-f", dataset_file
    )
    assert finished.returncode == 0
    expected = (tree / "labels.csv").read_bytes() + (tree / "train/cats/2.txt").read_bytes()
    assert finished.stdout == expected
    some = ("fluid://pets/nothing", "fluid://pets/labels.csv", "fluid://pets/train")
    partly = command_line.run("cat", *some, "-f", dataset_file)
    assert partly.returncode == 1
    assert partly.stdout == (tree / "labels.csv").read_bytes()
    said = partly.stderr.decode().splitlines()
    assert [line.split(" ")[1] for line in said[::2]] == ["/nothing", "fluid://pets/train"]
    folder = command_line.run("cat", "fluid://pets/train", "-f", dataset_file)
    assert folder.returncode == 1
    assert b"fluid://pets/train is a folder" in folder.stderr


def test_what_is_not_there(command_line: CommandLine, dataset_file: Path) -> None:
    finished = command_line.run("cat", "fluid://pets/nothing", "-f", dataset_file)
    assert finished.returncode == 1
    message = finished.stderr.decode().splitlines()[0]
    assert message.startswith("fluidpy: ")
    assert "nothing" in message
    unknown = command_line.run("ls", "fluid://nobody/x")
    assert unknown.returncode == 1
    assert b"no Dataset nobody" in unknown.stderr


def test_cp(command_line: CommandLine, dataset_file: Path, tree: Path, tmp_path: Path) -> None:
    command_line.done("cp", "fluid://pets/labels.csv", tmp_path / "x.csv", "-f", dataset_file)
    assert (tmp_path / "x.csv").read_bytes() == (tree / "labels.csv").read_bytes()
    command_line.done("cp", "-r", "fluid://pets/train", tmp_path / "out", "-f", dataset_file)
    copied = {p.relative_to(tmp_path / "out"): p for p in (tmp_path / "out").rglob("*.txt")}
    assert sorted(map(str, copied)) == ["cats/1.txt", "cats/2.txt", "dogs.txt"]
    for name, path in copied.items():
        original = tree / "train" / name
        assert path.read_bytes() == original.read_bytes()
        assert path.stat().st_mtime_ns == original.stat().st_mtime_ns
    assert not list(tmp_path.rglob(".*fluidpy-part"))
    refused = command_line.run("cp", "fluid://pets/train", tmp_path / "no", "-f", dataset_file)
    assert refused.returncode == 2
    assert b"Add -r" in refused.stderr
    assert not (tmp_path / "no").exists()


def test_cp_follows_links_to_files_and_names_those_it_cannot(
    command_line: CommandLine, tmp_path: Path
) -> None:
    source = tmp_path / "linked"
    (source / "folder").mkdir(parents=True)
    (source / "folder" / "file").write_text("text")
    (source / "good").symlink_to("folder/file")
    (source / "bad").symlink_to("nothing")
    file = write_dataset(tmp_path / "linked.yaml", f"local://{source}")
    finished = command_line.run("cp", "-r", "fluid://pets", tmp_path / "out", "-f", file)
    assert finished.returncode == 1
    assert b"1 of 3 files could not be copied:\n  bad: " in finished.stderr
    assert (tmp_path / "out" / "good").read_text() == "text"
    assert not (tmp_path / "out" / "bad").exists()


def test_cp_writes_to_what_is_no_file_and_through_links(
    command_line: CommandLine, dataset_file: Path, tree: Path, tmp_path: Path
) -> None:
    """A copy to /dev/null by root once left a file in its place."""
    text = (tree / "labels.csv").read_bytes()
    copy = ("cp", "-f", dataset_file, "fluid://pets/labels.csv")
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        command_line.done(*copy, tmp_path / "pipe")
        assert os.read(reader, 1000) == text
    finally:
        os.close(reader)
    assert (tmp_path / "pipe").is_fifo()
    (tmp_path / "link").symlink_to("named")
    for _ in range(2):  # to nothing yet, then to a file
        command_line.done(*copy, tmp_path / "link")
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "named").read_bytes() == text
    refused = command_line.run(*copy, tmp_path / ("n" * 256))
    assert refused.returncode == 1
    assert b"File name too long" in refused.stderr
    assert b"Not expected" not in refused.stderr


def test_du(command_line: CommandLine, dataset_file: Path) -> None:
    rows = json.loads(command_line.done("du", "fluid://pets", "-f", dataset_file, "-o", "json"))
    assert rows == [
        {"path": "train", "files": 3, "bytes": 204_004},
        {"path": "fluid://pets/", "files": 4, "bytes": 204_021},
    ]
    human = command_line.done("du", "-h", "fluid://pets/train", "-f", dataset_file)
    assert human.splitlines()[-1].split()[:2] == ["199.2", "KiB"]


def test_load_then_what_is_cached(
    command_line: CommandLine, dataset_file: Path, tmp_path: Path
) -> None:
    loaded = json.loads(
        command_line.done("load", "-f", dataset_file, "--path", "train/cats/*", "-o", "json")
    )
    assert (loaded["done_files"], loaded["done_bytes"], loaded["failed"]) == (2, 204_000, 0)
    cached = json.loads(command_line.done("cache", "ls", "-f", dataset_file, "-o", "json"))
    assert {row["path"] for row in cached} == {"train/cats/1.txt", "train/cats/2.txt"}
    assert all(row["complete"] for row in cached)
    (tmp_path / "list").write_text("labels.csv\ntrain/dogs.txt\n")
    command_line.done("load", "-f", dataset_file, "--file-list", tmp_path / "list")
    usage = json.loads(command_line.done("cache", "usage", "-f", dataset_file, "-o", "json"))
    assert usage[0]["objects"] == 4
    evicted = command_line.run("cache", "evict", "-f", dataset_file, "/train")
    assert evicted.returncode == 0
    assert b"3 files evicted" in evicted.stderr
    left = command_line.done("cache", "ls", "-f", dataset_file, "-o", "name")
    assert left == "labels.csv\n"


def test_a_glob_that_matches_nothing_is_a_failure(
    command_line: CommandLine, dataset_file: Path
) -> None:
    paths = ("--path", "train/*.csv", "--path", "train/c*", "--path", "labels.*")
    finished = command_line.run("load", "-f", dataset_file, *paths)
    assert finished.returncode == 1
    assert b"not read: train/*.csv: no file matches" in finished.stderr
    assert finished.stderr.count(b"not read: ") == 1
    assert b"3 files, " in finished.stderr


def test_what_a_file_asks_for_in_vain_is_said(
    command_line: CommandLine, dataset_file: Path
) -> None:
    runtime = "apiVersion: data.fluid.io/v1alpha1\nkind: AlluxioRuntime\nmetadata: {name: pets}\n"
    dataset_file.write_text(f"{dataset_file.read_text()}---\n{runtime}spec: {{replicas: 2}}\n")
    loaded = command_line.run("load", "-f", dataset_file, "--metadata")
    assert loaded.returncode == 0
    assert b"spec.replicas: 2 workers are declared, and one serves this machine" in loaded.stderr
    looked = command_line.run("ls", "fluid://pets", "-f", dataset_file)
    assert looked.stderr == b""


def test_what_a_thin_runtime_mounts_is_to_be_applied(
    command_line: CommandLine, tmp_path: Path
) -> None:
    file = tmp_path / "thin.yaml"
    meta = "apiVersion: data.fluid.io/v1alpha1\nmetadata: {name: scans}\n"
    mounts = "spec: {mounts: [{mountPoint: 'scans://cluster', name: m}]}\n"
    profile = "spec: {profileName: scans}\n"
    file.write_text(f"{meta}kind: Dataset\n{mounts}---\n{meta}kind: ThinRuntime\n{profile}")
    finished = command_line.run("mount", "-f", file, tmp_path / "mnt")
    assert finished.returncode == 2
    message = finished.stderr.decode()
    assert "scans:// is mounted by the program of the ThinRuntime scans" in message
    assert f"fluidpy up; fluidpy apply -f {file}; fluidpy mount scans DIR" in message


def test_pinned_files_say_so(command_line: CommandLine, dataset_file: Path) -> None:
    command_line.done("load", "-f", dataset_file)
    pinned = command_line.run("cache", "pin", "-f", dataset_file, "/labels.csv")
    assert pinned.stderr == b"1 file pinned\n"
    again = command_line.run("cache", "pin", "-f", dataset_file, "/labels.csv")
    assert again.stderr == b"0 files pinned\n"
    rows = json.loads(command_line.done("cache", "ls", "-f", dataset_file, "-o", "json"))
    assert [row["path"] for row in rows if row["pinned"]] == ["labels.csv"]
    unpinned = command_line.run("cache", "unpin", "-f", dataset_file, "/")
    assert unpinned.stderr == b"1 file unpinned\n"  # of four
    rows = json.loads(command_line.done("cache", "ls", "-f", dataset_file, "-o", "json"))
    assert not [row for row in rows if row["pinned"]]


class _NoVersions(SimpleHTTPRequestHandler):
    """A web server that tells neither ETag nor Last-Modified."""

    def send_header(self, keyword: str, value: str) -> None:
        if keyword != "Last-Modified":
            super().send_header(keyword, value)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


def test_load_says_what_could_not_be_read(
    command_line: CommandLine, tree: Path, tmp_path: Path
) -> None:
    handler = partial(_NoVersions, directory=str(tree / "train"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}/"
            file = write_dataset(tmp_path / "pets.yaml", url)
            finished = command_line.run("load", "-f", file)
        finally:
            server.shutdown()
            thread.join()
    assert finished.returncode == 1
    said = finished.stderr.decode()
    assert "not read: dogs.txt: " in said
    assert "fluidpy: 3 files could not be read\ncure: " in said


def test_metadata_only_fetches_no_bytes(command_line: CommandLine, dataset_file: Path) -> None:
    finished = command_line.run("load", "-f", dataset_file, "--metadata")
    assert finished.returncode == 0
    assert b"4 files listed" in finished.stderr
    assert command_line.done("cache", "ls", "-f", dataset_file, "-o", "json") == "[]\n"


def test_status_starts_nothing(command_line: CommandLine) -> None:
    status = json.loads(command_line.done("status", "-o", "json"))
    assert status == {"mounts": [], "failed": [], "worker": None, "control": None, "workers": []}
    assert "worker: none runs" in command_line.done("status")
    assert not list(Path(command_line.environment["FLUIDPY_RUNTIME_DIR"]).glob("worker*"))


@contextmanager
def mounted(command_line: CommandLine, directory: Path, *words: str | Path) -> Iterator[None]:
    directory.mkdir()
    command_line.done("mount", *words, directory)
    try:
        yield
    finally:
        command_line.run("umount", directory, "--lazy")


def read_mode_is_told(command_line: CommandLine, directory: Path) -> None:
    """A file was opened: what was chosen, and why, stands wherever one looks."""
    found: dict[str, str] = {}

    def is_chosen() -> bool:  # the server tells it behind the first open
        found.update(json.loads(command_line.done("status", "-o", "json"))["mounts"][0])
        return found["readMode"] != "auto"

    assert until(is_chosen)
    mode, reason = found["readMode"], found["readModeReason"]
    assert mode == "no-open"
    assert reason.startswith(("small files matter most: 0 of 4 files", "no passthrough: "))
    wide = command_line.done("status", "-o", "wide")
    assert {f" {mode} " in wide, f" {reason} " in wide} == {True}
    doctor = json.loads(command_line.run("doctor", "-o", "json").stdout)
    said = [finding["message"] for finding in doctor if finding["check"] == "mounts"]
    assert f"{directory}: read mode {mode} ({reason})" in said


@needs_fuse
def test_mount_shows_the_tree_and_umount_ends_it(
    command_line: CommandLine, dataset_file: Path, tree: Path, tmp_path: Path
) -> None:
    directory = tmp_path / "data"
    with mounted(command_line, directory, "-f", dataset_file):
        assert sorted(os.listdir(directory)) == ["labels.csv", "train"]
        assert (directory / "train/cats/2.txt").read_bytes() == (
            tree / "train/cats/2.txt"
        ).read_bytes()
        status = json.loads(command_line.done("status", "-o", "json"))
        (record,) = status["mounts"]
        assert record["mountPoint"] == str(directory)
        assert record["dataset"] == "pets"
        assert record["serverPid"] > 0
        assert status["worker"]["pid"] > 0
        assert str(directory) in command_line.done("status")
        # A mounted Dataset is found by its name.
        assert command_line.done("cat", "fluid://pets/labels.csv").startswith("name,label")
        read_mode_is_told(command_line, directory)
        command_line.done("umount", directory)
        assert os.listdir(directory) == []
        assert json.loads(command_line.done("status", "-o", "json"))["mounts"] == []


@needs_fuse
def test_a_bare_url_is_mounted(command_line: CommandLine, tree: Path, tmp_path: Path) -> None:
    directory = tmp_path / "data"
    with mounted(command_line, directory, f"local://{tree}"):
        assert (directory / "labels.csv").read_text() == (tree / "labels.csv").read_text()
        (record,) = json.loads(command_line.done("status", "-o", "json"))["mounts"]
        assert record["url"] == f"local://{tree}"


@needs_fuse
def test_the_foreground_stays_until_it_is_interrupted(
    command_line: CommandLine, dataset_file: Path, tmp_path: Path
) -> None:
    directory = tmp_path / "data"
    directory.mkdir()
    words = ["-m", "fluidpy", "mount", "-f", str(dataset_file), str(directory), "--foreground"]
    process = subprocess.Popen(
        [command_line.python, *words], env=command_line.environment, stderr=subprocess.PIPE
    )
    try:
        assert process.stderr is not None
        assert b"is mounted on" in process.stderr.readline()
        assert sorted(os.listdir(directory)) == ["labels.csv", "train"]
        process.terminate()
        assert process.wait(30) == 0
        assert os.listdir(directory) == []
    finally:
        process.kill()
        process.communicate()
        command_line.run("umount", directory, "--lazy")


@needs_fuse
@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda d: None, "does not exist"),
        (lambda d: d.touch(), "is not a directory"),
        (lambda d: (d.mkdir(), (d / "x").touch()), "is not empty"),
    ],
)
def test_mount_points_that_cannot_be(
    command_line: CommandLine, dataset_file: Path, tmp_path: Path, prepare: object, message: str
) -> None:
    directory = tmp_path / "data"
    assert callable(prepare)
    prepare(directory)
    finished = command_line.run("mount", "-f", dataset_file, directory)
    assert finished.returncode == 1
    assert message in finished.stderr.decode()
    assert json.loads(command_line.done("status", "-o", "json"))["mounts"] == []


def test_what_is_cached_is_not_loaded_again(command_line: CommandLine, dataset_file: Path) -> None:
    command_line.done("load", "-f", dataset_file)
    again = json.loads(command_line.done("load", "-f", dataset_file, "-o", "json"))
    assert again["done_files"] == 4
    status = json.loads(command_line.done("status", "-o", "json"))
    assert status["worker"]["counters"]["loaded_files"] == 4
    assert status["worker"]["counters"]["bytes_from_source"] == 204_021


def test_the_worker_in_the_foreground_is_the_one_that_is_used(
    command_line: CommandLine, dataset_file: Path
) -> None:
    process = subprocess.Popen(
        [command_line.python, "-m", "fluidpy", "worker"],
        env=command_line.environment,
        stderr=subprocess.DEVNULL,
    )
    try:
        socket_path = Path(command_line.environment["FLUIDPY_RUNTIME_DIR"]) / "worker.sock"
        limit = time.monotonic() + 60
        while not socket_path.exists() and time.monotonic() < limit:
            time.sleep(0.02)  # a socket file cannot be waited for
        command_line.done("ls", "fluid://pets", "-f", dataset_file)
        worker = json.loads(command_line.done("status", "-o", "json"))["worker"]
        assert worker["pid"] == process.pid
        command_line.done("worker", "--stop")
        assert process.wait(60) == 0
        assert b"no worker runs" in command_line.run("worker", "--stop").stderr
    finally:
        process.kill()
        process.wait()
