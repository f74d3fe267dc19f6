"""`runtime build` with buildah, without network: what is built runs, what fails leaves nothing."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import CommandLine, command_line_in
from tests.runtime.image_store import (
    ROOT,
    SMALL_BASE,
    done,
    image_store,
    in_store,
    make_small_base,
    unmount,
    why_none_can_be_built,
    why_none_runs,
)

WHY_NOT = why_none_can_be_built()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT),
]
INSTALL = (
    "RUN --mount=type=bind,target=/plugin "
    "fluidpy runtime install --to $FLUIDPY_RUNTIME_PATH /plugin\n"
)
FROM = f"ARG BASE={SMALL_BASE}\nFROM ${{BASE}}\n"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A store of images that has a small base."""
    folder = tmp_path_factory.mktemp("images") / "store"
    environment = image_store(folder)
    try:
        make_small_base(folder.parent / "base", environment)
        if problem := why_none_runs(environment):
            pytest.skip(problem)
        yield folder
    finally:
        unmount(folder)
        shutil.rmtree(folder.parent, ignore_errors=True)  # hundreds of MB


@pytest.fixture
def line(store: Path, tmp_path: Path) -> Iterator[CommandLine]:
    with command_line_in(tmp_path) as line:
        line.environment |= image_store(store)
        yield line


def plugin(tmp_path: Path, name: str, dockerfile: str) -> Path:
    """A shipped plug-in with another Dockerfile."""
    folder = shutil.copytree(ROOT / "runtimes" / name, tmp_path / name)
    (folder / "Dockerfile").write_text(dockerfile)
    return folder


def refused(line: CommandLine, *words: str | Path, base: str = SMALL_BASE) -> str:
    """What is told of a build that has to fail; it leaves all as it was."""
    before = in_store(line.environment)
    finished = line.run("runtime", "build", *words, "--base", base, timeout=200)
    assert finished.returncode == 1, finished.stderr
    assert finished.stdout == b""
    assert in_store(line.environment) == before
    told = finished.stderr.decode()
    assert "Traceback" not in told
    assert "\ncure: " in told
    return told[told.index("fluidpy: ") :]


def test_an_image_is_built_and_run(line: CommandLine) -> None:
    before, _ = in_store(line.environment)
    finished = line.run(
        "runtime", "build", ROOT / "runtimes/starfs", "--base", SMALL_BASE, timeout=200
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout == b"localhost/starfs:1.0.0\n"
    assert b" MB): it has starfs 1.0.0" in finished.stderr
    assert in_store(line.environment) == (sorted([*before, "localhost/starfs:1.0.0"]), [])
    container = done(line.environment, "buildah", "from", "localhost/starfs:1.0.0").strip()
    try:
        run = ("buildah", "run", container, "--")
        there = done(line.environment, *run, "fluidpy", "runtime", "list", "-o", "json")
        assert '"origin": "FLUIDPY_RUNTIME_PATH"' in there
        who = done(line.environment, *run, "python3", "-c", "import os; print(os.geteuid())")
        assert who == "10001\n"
    finally:
        done(line.environment, "buildah", "rm", container)


def test_what_a_wrong_dockerfile_says_is_told(line: CommandLine, tmp_path: Path) -> None:
    failing = FROM + "RUN echo the client is too old >&2; exit 3\n"
    told = refused(line, plugin(tmp_path, "sshfs", failing))
    assert "the client is too old" in told
    assert "exit status 3" in told
    assert "cure: Run it by hand: buildah build" in told


def test_a_missing_base_is_told_with_what_makes_it(line: CommandLine) -> None:
    told = refused(line, ROOT / "runtimes/starfs", base="localhost/nowhere:1")
    assert "the base localhost/nowhere:1 is not among the images of buildah" in told
    assert "cure: `tools/build_base_image.sh localhost/nowhere:1` makes it" in told


def test_an_image_without_the_program_gets_no_name(line: CommandLine, tmp_path: Path) -> None:
    told = refused(line, plugin(tmp_path, "sshfs", FROM + INSTALL))
    assert "localhost/sshfs:0.1.0: the program sshfs is not installed" in told


def test_without_network_it_is_told_what_to_do(line: CommandLine) -> None:
    words = ("runtime", "build", ROOT / "runtimes/starfs", "--base", "registry.example/fluidpy:1")
    finished = subprocess.run(
        ["unshare", "--net", sys.executable, "-m", "fluidpy", *words],
        env=line.environment, capture_output=True, timeout=200, check=False,
    )  # fmt: skip
    assert finished.returncode == 1
    assert b"cure: Without network, name a base that is here (--base)" in finished.stderr
    assert in_store(line.environment)[1] == []


def test_a_full_disk_is_told(store: Path, line: CommandLine, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    done({}, "mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", small)
    try:
        line.environment |= image_store(small, shared=store)
        folder = plugin(tmp_path, "starfs", FROM + "COPY large /\n")
        (folder / "large").write_bytes(bytes(16 << 20))
        assert "cure: Free room on the disk of the builder's images" in refused(line, folder)
    finally:
        unmount(small)
        done({}, "umount", "-l", small)


def test_a_build_that_is_ended_leaves_nothing(line: CommandLine, tmp_path: Path) -> None:
    before = in_store(line.environment)
    folder = plugin(tmp_path, "starfs", FROM + "RUN echo it runs; read forever < /dev/zero\n")
    with subprocess.Popen(
        [sys.executable, "-m", "fluidpy", "runtime", "build", folder],
        env=line.environment, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        for said in process.stderr:
            if said == b"it runs\n":
                break
        process.send_signal(signal.SIGTERM)
        process.stderr.read()  # its end: nothing that was started has it open
        assert process.wait(60) == 128 + signal.SIGTERM
    assert in_store(line.environment) == before
