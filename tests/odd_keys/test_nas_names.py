"""A NAS directory with everything that a POSIX tree may hold."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bad_input.conftest import dataset
from tests.cli.conftest import CommandLine, command_line_in
from tests.odd_keys.conftest import files_below, mounted

FILES = {
    b"no\xffutf-8": b"raw",
    b"line\nfeed": b"line",
    b"escape\x1b[31m": b"escape",
    b"back\\slash": b"back",
    b"%41": b"percent",
    b"A": b"upper",
    b"a": b"lower",
    b" lead": b"lead",
    b"trail ": b"trail",
    b"q?x#y": b"query",
    "emoji😀".encode(): b"emoji",
    b"n" * 255: b"long",
    b"sub/f": b"below",
    b"hard1": b"hard" * 100,
    b"hard2": b"hard" * 100,
}
LINKS = {
    "dangling": "nowhere", "loop1": "loop2", "loop2": "loop1", "absolute": "/etc/passwd",
    "climbing": "../../../../etc/passwd", "good": "A", "folder": "sub", "self": ".",
    "sub/up": "../A", "sub/out": "../../d.yaml",
}  # fmt: skip
LONG = b"L" * 250
DEPTH = 18
"""Folders of 250 bytes below each other: 4,518 bytes of path, PATH_MAX is 4,096."""


@pytest.fixture(scope="module")
def command_line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """One worker for all tests here: they only read."""
    with command_line_in(tmp_path_factory.mktemp("commands")) as line:
        yield line


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("nas")
    top = directory / "source"
    (top / "sub").mkdir(parents=True)
    for name, data in FILES.items():
        if name != b"hard2":
            Path(os.fsdecode(os.path.join(os.fsencode(top), name))).write_bytes(data)
    (top / "hard2").hardlink_to(top / "hard1")
    for link, target in LINKS.items():
        (top / link).symlink_to(target)
    os.mkfifo(top / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        folder = os.open(top, os.O_RDONLY)
        listener.bind(f"/proc/self/fd/{folder}/socket")  # a unix socket's path is short
        os.close(folder)
    _make_deep(top)
    file = directory / "d.yaml"
    file.write_text(dataset(f"local://{top}"))
    return file


def _make_deep(top: Path) -> None:
    folder = os.open(top, os.O_RDONLY)
    for _ in range(DEPTH):
        os.mkdir(LONG, dir_fd=folder)
        below = os.open(LONG, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = below
    with open(os.open("deep", os.O_WRONLY | os.O_CREAT, dir_fd=folder), "wb") as stream:
        stream.write(b"deep")
    os.close(folder)


def test_all_ways_show_the_same(command_line: CommandLine, file: Path) -> None:
    wanted = FILES | {(LONG + b"/") * DEPTH + b"deep": b"deep"}
    with mounted(command_line, file) as directory:
        assert files_below(directory) == wanted
        for name, target in LINKS.items():
            assert os.readlink(directory / name) == target
        assert not (directory / "fifo").exists()
        assert (directory / "folder" / "f").read_bytes() == b"below"
    metadata = json.loads(command_line.done("load", "--metadata", "-f", file, "-o", "json"))
    assert metadata["files"] == len(wanted)
    assert metadata["omitted"] == {"a device, socket or pipe": 2}
    listed = command_line.run("ls", "-f", file, "fluid://pets/")
    assert listed.stderr == b"2 names are left out: 2 a device, socket or pipe\n"
    assert b"no\xffutf-8" in listed.stdout  # not a terminal: the bytes as they are


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("good", b"upper"),
        ("folder/f", b"below"),
        ("sub/up", b"upper"),
        ("self/self/A", b"upper"),
        ("folder/../a", b"lower"),
    ],
)
def test_links_inside_are_followed(
    command_line: CommandLine, file: Path, name: str, said: bytes
) -> None:
    assert command_line.run("cat", "-f", file, f"fluid://pets/{name}").stdout == said


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("absolute", "points out of the Dataset"),
        ("climbing", "leads out of the Dataset"),
        ("sub/out", "leads out of the Dataset"),
        ("dangling", "/nowhere does not exist"),
        ("loop1", "is a loop of symlinks"),
        ("fifo", "/fifo does not exist"),
    ],
)
def test_nothing_outside_is_read(
    command_line: CommandLine, file: Path, name: str, why: str
) -> None:
    finished = command_line.run("cat", "-f", file, f"fluid://pets/{name}")
    assert finished.returncode == 1
    assert finished.stdout == b""
    assert why in finished.stderr.decode()


def test_names_are_copied_as_they_are(
    command_line: CommandLine, file: Path, tmp_path: Path
) -> None:
    for name in (b"n" * 255, b"no\xffutf-8", b"line\nfeed"):
        target = Path(os.fsdecode(os.fsencode(tmp_path) + b"/copied"))
        target.mkdir(exist_ok=True)
        command_line.done("cp", "-f", file, f"fluid://pets/{os.fsdecode(name)}", target)
        assert Path(os.fsdecode(os.fsencode(target) + b"/" + name)).read_bytes() == FILES[name]
    assert len(list((tmp_path / "copied").iterdir())) == 3


def test_messages_do_not_steer_the_terminal(command_line: CommandLine, file: Path) -> None:
    finished = command_line.run("cat", "-f", file, "fluid://pets/none\x1b[31m")
    assert finished.returncode == 1
    assert finished.stderr.startswith(b"fluidpy: /none\\x1b[31m does not exist\n")
