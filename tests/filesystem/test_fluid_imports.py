from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path

from tests.filesystem.conftest import Demo

FORBIDDEN = ("obstore", "aiohttp", "pydantic", "yaml", "sqlite3", "http.client", "tomllib")
IMPORT_BUDGET_SECONDS = 0.060


def _seconds(code: str, compiled: Path) -> float:
    """Processor time, so that a busy machine does not decide; of modules that are compiled.

    As installed ones are; an environment that writes no byte code would have each run compile.
    """
    environment = os.environ | {"PYTHONPYCACHEPREFIX": str(compiled)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)


def test_importing_costs_little_beyond_fsspec(tmp_path: Path) -> None:
    theirs, ours = "import fsspec", "import fsspec, fluidpy.filesystem"
    _seconds(ours, tmp_path)  # compiles
    pairs = [(_seconds(theirs, tmp_path), _seconds(ours, tmp_path)) for _ in range(9)]
    assert statistics.median(ours - theirs for theirs, ours in pairs) <= IMPORT_BUDGET_SECONDS


def test_importing_loads_no_heavy_library() -> None:
    code = "import sys, fluidpy.filesystem; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout
    assert not set(FORBIDDEN) & set(loaded.decode().split())


def test_reading_loads_no_object_store_library(demo: Demo) -> None:
    code = (
        "import sys, json, fsspec\n"
        "options = json.loads(sys.argv[1])\n"
        "fs = fsspec.filesystem('fluid', **options)\n"
        "assert fs.cat_file('demo/readme.txt') and fs.find('demo')\n"
        "assert fs.open('demo/train/large.bin').read()\n"
        "print(*sys.modules)\n"
    )
    command = [sys.executable, "-c", code, json.dumps(demo.options)]
    loaded = subprocess.run(command, check=True, capture_output=True).stdout.decode().split()
    assert not {"obstore", "aiohttp", "s3fs", "ossfs", "fluidpy.worker"} & set(loaded)
