"""What the build does on machines that lack something, with fakes of what it calls."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = [ROOT / ".ci" / "run", *sorted((ROOT / "tools").glob("*.sh"))]


def _fake(folder: Path, **programs: str) -> dict[str, str]:
    folder.mkdir(exist_ok=True)
    for name, body in programs.items():
        program = folder / name.replace("_", "-")
        program.write_text(f"#!/bin/bash\n{body}\n")
        program.chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}


def _run(
    environment: dict[str, str], script: str, *arguments: str | Path
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "tools" / script, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_strict_and_executable(script: Path) -> None:
    assert "set -euo pipefail" in script.read_text()
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", script], check=True)


def test_the_full_check_runs_tests_first_then_everything_else() -> None:
    steps = re.findall(r"^\s*step make (\w+)", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    assert steps == ["test", "lint", "slow", "heavy"]


def test_a_user_is_told_the_command(tmp_path: Path) -> None:
    environment = _fake(tmp_path / "bin", id="echo 1000", apt_get="exit 1")
    optional = _run(environment, "install_system_package.sh", "fuse3")
    assert optional.returncode == 0
    assert "sudo apt-get install -y fuse3" in optional.stderr
    required = _run(environment, "install_system_package.sh", "python3.11-venv", "required")
    assert required.returncode == 1


def test_root_gets_it_installed_after_an_update(tmp_path: Path) -> None:
    log = tmp_path / "log"
    apt = f'echo "$@" >> {log}; [ "$1" = update ] || [ "$(wc -l < {log})" -gt 2 ]'
    environment = _fake(tmp_path / "bin", id="echo 0", apt_get=apt)
    assert _run(environment, "install_system_package.sh", "fuse3", "required").returncode == 0
    assert [line.split()[0] for line in log.read_text().splitlines()] == [
        "install",
        "update",
        "install",
    ]


def test_an_old_python_is_refused_with_the_cure(tmp_path: Path) -> None:
    old = {f"python3{suffix}": "exit 1" for suffix in ("", ".11", ".12", ".13")}
    environment = _fake(tmp_path / "bin", **old)
    finished = _run(environment, "create_environment.sh", tmp_path / "venv")
    assert finished.returncode == 1
    assert "make PYTHON=" in finished.stderr
    assert not (tmp_path / "venv").exists()
