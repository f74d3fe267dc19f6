"""The whole command with tiny sizes, without peers: it runs, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "benchmarks", "mount", "--quick", "--peers", "none"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.skipif(os.geteuid() != 0, reason="mounts file systems and drops caches"),
]


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory for everything; the path of a unix socket below it has to be short."""
    with tempfile.TemporaryDirectory(prefix="fp-") as name:
        yield Path(name)


def left_behind(temporary: Path) -> list[str]:
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    loops = subprocess.run(["losetup", "--list"], capture_output=True, text=True, check=True)
    return [line for line in [*mounts, *loops.stdout.splitlines()] if str(temporary) in line]


def test_quick_mode_compares_and_cleans_up(short_path: Path) -> None:
    results = short_path / "results"
    done = subprocess.run(
        [*COMMAND, "--mode", "default", "--results", str(results)],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(short_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    document = json.loads((results / "mount.json").read_text())
    assert document["systems"]["fluidpy default"].get("failure") is None, done.stderr
    assert len(document["scenarios"]) == 11
    for scenario in document["scenarios"]:
        plain, ours = scenario["systems"]
        assert plain["comparison"]["ratio"] == 1.0
        assert ours["failure"] == ""
        assert ours["comparison"]["ratio"] > 0
        assert ours["source_requests"] == 0
    assert "find + stat of 1,000 files, second time" in done.stdout
    assert (results / "mount.svg").read_text().startswith("<svg")
    assert left_behind(short_path) == []
    assert [path.name for path in short_path.iterdir()] == ["results"]


def test_ctrl_c_ends_everything_that_was_started(short_path: Path) -> None:
    process = subprocess.Popen(
        COMMAND,
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(short_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    with process.stderr:
        for line in process.stderr:
            if line.startswith("round 1/"):
                break
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert process.wait(timeout=60) == 130
    assert rest.splitlines()[-1] == "stopped; ending all that was started", rest
    assert left_behind(short_path) == []
    assert list(short_path.iterdir()) == []
