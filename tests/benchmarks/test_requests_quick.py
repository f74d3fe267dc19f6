"""What the mount asks its server, counted by the kernel; and the command that prints it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from benchmarks.mount.request_trace import recorded, tracing
from tests.benchmarks.test_mount_quick import ROOT, left_behind, short_path
from tests.cli.conftest import CommandLine, command_line

__all__ = ["command_line", "short_path"]

FOLDERS, FILES = 3, 100
TURNS = 3
"""Somebody else may empty the kernel's caches in between, but hardly each time."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.skipif(os.geteuid() != 0, reason="traces the kernel"),
]

Counted = Callable[[Callable[[Path], object]], dict[str, int]]
"""Does something below the mount; answers how many requests came, by opcode."""


@pytest.fixture
def trace() -> Iterator[Path]:
    with ExitStack() as stack:
        try:
            instance = stack.enter_context(tracing())
        except RuntimeError as error:
            pytest.skip(str(error))
        yield instance


@pytest.fixture(params=["no-open", "passthrough"])
def counted(
    request: pytest.FixtureRequest, command_line: CommandLine, tmp_path: Path, trace: Path
) -> Iterator[Counted]:
    """A mount of small files, all of them cached; nothing of it is known to the kernel."""
    source, directory = tmp_path / "source", tmp_path / "data"
    for folder in range(FOLDERS):
        (source / f"{folder}").mkdir(parents=True)
        for number in range(FILES):
            (source / f"{folder}" / f"{number}").write_bytes(b"%d" % number * 1000)
    file = tmp_path / "dataset.yaml"
    file.write_text(
        "apiVersion: data.fluid.io/v1alpha1\nkind: Dataset\n"
        "metadata: {name: counted, annotations: {fluidpy.io/metadata-ttl: 1h}}\n"
        f"spec: {{mounts: [{{mountPoint: 'local://{source}', name: n, path: /}}]}}\n"
    )
    directory.mkdir()
    command_line.done("load", "-f", file)
    command_line.done("mount", "-f", file, "--read-mode", request.param, directory)

    def count(job: Callable[[Path], object]) -> dict[str, int]:
        with recorded(trace, directory) as recording:
            job(directory)
        return {name: found.count for name, found in recording.requests.items()}

    try:
        yield count
    finally:
        command_line.done("umount", "--lazy", directory)


def find(directory: Path) -> None:
    """Asks for the attributes of each file, as `ls -l` does."""
    command = ["find", os.fspath(directory), "-type", "f", "-printf", "%s\\n"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert len(found.stdout.split()) == FOLDERS * FILES


def read(directory: Path) -> None:
    for folder in range(FOLDERS):
        for number in range(FILES):
            path = directory / f"{folder}" / f"{number}"
            assert path.read_bytes() == b"%d" % number * 1000


def ask_for_missing(directory: Path) -> None:
    for number in range(FILES):
        assert not (directory / "0" / f"missing-{number}").exists()


def fewest(counted: Counted, job: Callable[[Path], object], *opcodes: str) -> int:
    """Requests of these kinds for a job that was done before, at the best of some turns."""
    found = [counted(job) for _ in range(TURNS)]
    assert not any("FLUSH" in one for one in found), found
    return min(sum(one.get(opcode, 0) for opcode in opcodes) for one in found)


def test_what_is_known_is_not_asked_again(counted: Counted, request: pytest.FixtureRequest) -> None:
    """Names with their attributes at once, then never; names that are not there once, too."""
    listed = counted(find)
    assert 0 < listed["READDIRPLUS"] < FOLDERS * FILES / 10
    assert listed.get("LOOKUP", 0) + listed.get("GETATTR", 0) < FOLDERS * FILES / 10
    assert fewest(counted, find, "READDIRPLUS", "READDIR", "LOOKUP", "GETATTR") == 0
    assert counted(ask_for_missing)["LOOKUP"] >= FILES
    assert fewest(counted, ask_for_missing, "LOOKUP") == 0
    opened = counted(read)
    mode = request.node.callspec.params["counted"]
    assert opened["OPEN"] <= 1 if mode == "no-open" else opened["OPEN"] >= FOLDERS * FILES
    # The first FLUSH of a mount without opens is answered with ENOSYS; there is never another.
    assert opened.get("FLUSH", 0) <= (mode == "no-open")
    # Without opens the kernel keeps the pages; passed through, it reads the cache's own file.
    assert fewest(counted, read, "READ", "LOOKUP", "GETATTR") == 0
    if mode == "no-open":
        assert fewest(counted, read, "OPEN", "RELEASE") == 0


def test_the_command_counts_and_cleans_up(trace: Path, short_path: Path) -> None:
    del trace  # only whether there is any
    command = [sys.executable, "-m", "benchmarks", "requests", "--quick", "--peers", "none"]
    results = short_path / "results"
    run = subprocess.run(
        [*command, "--mode", "no-open", "--results", str(results)],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(short_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    document = json.loads((results / "requests.json").read_text())
    assert len(document["jobs"]) == 8
    for name, systems in document["jobs"].items():
        assert systems["fluidpy no-open"]["units"] > 0, name
        assert "FLUSH" not in systems["fluidpy no-open"]["requests"]
        assert f"\n{name}\n" in f"\n{run.stdout}"
    assert document["jobs"]["find, first"]["fluidpy no-open"]["requests"]["READDIRPLUS"]["count"]
    assert left_behind(short_path) == []
    assert [path.name for path in short_path.iterdir()] == ["results"]
