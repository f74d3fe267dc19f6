"""The mount plug-ins of `runtimes/`, on real clients and servers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fluidpy.runtime.manifest import load_manifest

RUNTIMES = Path(__file__).parents[2] / "runtimes"
AUTHORS_LINES = 15


def missing(*programs: str) -> str:
    """Why a plug-in cannot be tried here; empty if it can."""
    if not Path("/dev/fuse").exists():
        return "there is no /dev/fuse"
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:{Path(sys.executable).parent}"
    absent = [one for one in programs if shutil.which(one, path=path) is None]
    return f"not installed: {', '.join(absent)}" if absent else ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "programs"), [("sshfs", ("sshfs", "sshd", "ssh-keyscan")), ("s3fs", ("s3fs", "weed"))]
)
def test_it_conforms(name: str, programs: tuple[str, ...]) -> None:
    if reason := missing(*programs):
        pytest.skip(reason)
    done = subprocess.run(
        [sys.executable, "-m", "fluidpy.testing.conformance", str(RUNTIMES / name)],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "conforms: 23 passed" in done.stdout


@pytest.mark.parametrize("name", ["sshfs", "s3fs", "starfs-mount"])
def test_its_author_wrote_a_few_lines(name: str) -> None:
    manifest = load_manifest(RUNTIMES / name)
    assert manifest.name == name
    text = (RUNTIMES / name / "runtime.yaml").read_text()
    section = (
        text[text.index("\nmount:") + 1 :].partition("\n# For")[0].partition("\nconformance:")[0]
    )
    lines = [line for line in section.splitlines() if line and not line.lstrip().startswith("#")]
    assert len(lines) <= AUTHORS_LINES
