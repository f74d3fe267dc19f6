"""What a user installs: the wheel's files, entry points and version."""

from __future__ import annotations

import configparser
import re
import subprocess
import sys
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

import fluidpy

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    directory = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", directory],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (file,) = directory.glob("*.whl")
    return zipfile.ZipFile(file)


def _metadata(wheel: zipfile.ZipFile, name: str) -> bytes:
    return wheel.read(f"fluidpy-{fluidpy.__version__}.dist-info/{name}")


def test_it_holds_the_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    modules = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "fluidpy").rglob("*.py")
        if "__pycache__" not in path.parts
    }
    assert modules <= names
    assert "fluidpy/py.typed" in names
    assert {name.split("/")[0] for name in names} == {
        "fluidpy",
        f"fluidpy-{fluidpy.__version__}.dist-info",
    }
    assert not [name for name in names if name.endswith(".pyc")]


def test_its_entry_points(wheel: zipfile.ZipFile) -> None:
    points = configparser.ConfigParser()
    points.read_string(_metadata(wheel, "entry_points.txt").decode())
    assert dict(points["console_scripts"]) == {
        "fluidpy": "fluidpy.cli.main:main",
        "kubectl-fluidpy": "fluidpy.cli.main:main",
    }
    assert points["fsspec.specs"]["fluid"] == "fluidpy.filesystem:FluidFileSystem"
    assert "fluid" in points["universal_pathlib.implementations"]


def test_its_metadata(wheel: zipfile.ZipFile) -> None:
    metadata = message_from_bytes(_metadata(wheel, "METADATA"))
    assert metadata["Version"] == fluidpy.__version__
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert b"Apache License" in _metadata(wheel, "licenses/LICENSE")
    plain = {
        re.split(r"[<>=;\[ ]", line)[0].lower()
        for line in metadata.get_all("Requires-Dist", [])
        if "extra ==" not in line
    }
    # A training image installs little.
    assert plain == {"fsspec", "pydantic", "pyyaml"}
