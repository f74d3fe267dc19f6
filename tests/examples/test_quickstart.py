"""The quickstart: it runs, says what it must, and leaves nothing behind however it ends."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from fluidpy.api.document import YamlText, load_documents
from fluidpy.quickstart import declaration, report, walkthrough

FILES = {"images": 720, "tables": 1, "shards": 4}
"""Files of each part."""
COMMAND = [sys.executable, "-u", "-m", "fluidpy.quickstart"]


def _left_behind() -> set[str]:
    folders = {str(path) for path in Path(tempfile.gettempdir()).glob("fluidpy-quickstart-*")}
    mounts = set(re.findall(r"\S*fluidpy-quickstart-\S*", Path("/proc/self/mounts").read_text()))
    return folders | mounts


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_it_shows_three_stores_cold_and_warm(capsys: pytest.CaptureFixture[str]) -> None:
    before = _left_behind()
    finished = subprocess.run(COMMAND, capture_output=True, text=True, timeout=360, check=False)
    assert finished.returncode == 0, finished.stderr
    text = finished.stdout
    can_mount = os.access("/dev/fuse", os.R_OK | os.W_OK) and (
        os.geteuid() == 0 or shutil.which("fusermount3")
    )
    for way in ("mount", "URL") if can_mount else ("URL",):
        cold, warm = _seconds(text, way)
        assert warm < cold  # the sources give 10 MB/s, the cache as much as it can
        assert re.search(rf"^{way}, cold .* 0%$", text, re.MULTILINE)
        assert re.search(rf"^{way}, warm .* 100%$", text, re.MULTILINE)
    lying = text.partition("== What lies in the cache")[2]
    tier = re.search(r"^(/\S+) +[\d.]+ MiB +", lying, re.MULTILINE)
    assert tier
    for part, files in FILES.items():
        row = rf"^{part} +{files} +[1-9][\d.]* MiB +{re.escape(tier[1])}$"
        assert re.search(row, lying, re.MULTILINE), lying
    assert "reader-secret" not in text + finished.stderr
    assert _left_behind() <= before
    done = re.search(r"^Done in (\d+) s\.$", text, re.MULTILINE)
    assert done
    with capsys.disabled():  # two minutes are promised; what a busy machine takes is told only
        print(f" quickstart: {done[1]} s")


def _seconds(text: str, way: str) -> tuple[float, float]:
    """Seconds of all parts together, cold and warm; each part has its row."""
    cold = warm = 0.0
    for part in FILES:
        row = re.search(rf"^{part} .* {way} .* ([\d.]+) s +([\d.]+) s ", text, re.MULTILINE)
        assert row, part
        cold, warm = cold + float(row[1]), warm + float(row[2])
    return cold, warm


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_without_fuse_it_says_so_and_reads_by_url(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    before = _left_behind()
    monkeypatch.setattr(walkthrough, "FUSE_DEVICE", Path("/dev/no-fuse"))
    walkthrough.run()
    text = capfd.readouterr().out
    assert "Nothing can be mounted here: /dev/no-fuse is missing" in text
    assert "Going on with fluid:// URLs" in text
    assert re.search(r"^URL, warm .* 100%$", text, re.MULTILINE)
    assert "fluidpy mount" not in text
    assert _left_behind() <= before


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_an_interrupt_cleans_up() -> None:
    before = _left_behind()
    process = subprocess.Popen(
        COMMAND,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    watchdog = threading.Timer(280, process.kill)
    watchdog.start()
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("== Reading everything"):
                os.killpg(process.pid, signal.SIGINT)
                break
        process.stdout.read()
        assert process.wait() == 130
    finally:
        watchdog.cancel()
        process.kill()
        process.communicate()
    assert _left_behind() <= before


def test_its_dataset_is_valid_and_holds_no_secret() -> None:
    text = declaration.dataset_yaml("http://127.0.0.1:1", Path("/nas"), Path("/archive"))
    result = load_documents(YamlText(text))
    assert result.problems == []
    assert len(result.objects) == 1


def test_its_tables() -> None:
    times = {"images": (2.0, 2**20), "tables": (1.0, 2**20), "shards": (4.0, 2**20)}
    fast = {part: (seconds / 10, size) for part, (seconds, size) in times.items()}
    cold = report.Pass("URL", False, times, {"bytes_from_source": 3 * 2**20})
    warm = report.Pass("URL", True, fast, {"bytes_from_source": 0})
    lines = report.time_lines([cold, warm])
    assert lines[1].split()[-6:] == ["2.00", "s", "0.20", "s", "10", "×"]
    counts = report.count_lines([cold, warm])
    assert counts[1].endswith("0%")
    assert counts[2].endswith("100%")
    rows = [
        {"path": "a/1", "tier": "/t", "cached_bytes": 1024},
        {"path": "a/2", "tier": "/t", "cached_bytes": 1024},
    ]
    assert report.cached_lines(rows)[1].split() == ["a", "2", "2.0", "KiB", "/t"]
