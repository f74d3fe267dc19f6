"""The quickstart: it runs, says what it must, and leaves nothing behind however it ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from fluidpy.api.document import YamlText, load_documents
from fluidpy.quickstart import declaration, report, walkthrough

COMMAND = [sys.executable, "-u", "-m", "fluidpy.quickstart"]


def _left_behind() -> set[str]:
    folders = {str(path) for path in Path(tempfile.gettempdir()).glob("fluidpy-quickstart-*")}
    mounts = set(re.findall(r"\S*fluidpy-quickstart-\S*", Path("/proc/self/mounts").read_text()))
    return folders | mounts


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_it_shows_three_stores_cold_and_warm() -> None:
    before = _left_behind()
    finished = subprocess.run(COMMAND, capture_output=True, text=True, timeout=360, check=False)
    assert finished.returncode == 0, finished.stderr
    text = finished.stdout
    ways = ("mount", "URL") if os.access("/dev/fuse", os.R_OK | os.W_OK) else ("URL",)
    for way in ways:
        for part in ("images", "tables", "shards"):
            assert re.search(rf"^{part} .* {way} .* [\d.]+ s +[\d.]+ s ", text, re.MULTILINE)
        assert re.search(rf"^{way}, warm .* 100%$", text, re.MULTILINE)
    assert "reader-secret" not in text + finished.stderr
    assert _left_behind() <= before


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
