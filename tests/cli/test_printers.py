from __future__ import annotations

import json
import sys

import pytest
import yaml

from fluidpy.cli import printers
from fluidpy.cli.options import OutputFormat
from fluidpy.cli.printers import Column, human_bytes, human_seconds, print_rows, table_lines
from fluidpy.cli.progress import TransferProgress

ROWS = [{"name": "a", "size": 10}, {"name": "long", "size": 2}]
COLUMNS = (
    Column("NAME", lambda row: str(row["name"])),
    Column("SIZE", lambda row: str(row["size"]), wide=True),
)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 * 1024**3, "5.0 GiB")],
)
def test_sizes(count: int, text: str) -> None:
    assert human_bytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.84, "0.8 s"), (42, "42 s"), (185, "3 min 05 s"), (7800, "2 h 10 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert human_seconds(seconds) == text


def test_columns_line_up_and_nothing_trails() -> None:
    assert table_lines(["A", "B"], [["x", "1"], ["long", ""]]) == ["A      B", "x      1", "long"]


def test_every_output(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    def printed(output: OutputFormat) -> str:
        print_rows(ROWS, COLUMNS, output, name="name")
        return capfdbinary.readouterr().out.decode()

    assert json.loads(printed(OutputFormat.JSON)) == ROWS
    assert yaml.safe_load(printed(OutputFormat.YAML)) == ROWS
    assert printed(OutputFormat.NAME) == "a\nlong\n"
    assert printed(OutputFormat.TABLE) == "NAME\na\nlong\n"
    assert printed(OutputFormat.WIDE).startswith("NAME   SIZE\n")


def test_no_bar_off_a_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    with TransferProgress("copy") as progress:
        progress.update(files=2, bytes=10)
        progress.advance(10)
        progress.finish_file()
        progress.fail()
    assert capfd.readouterr() == ("", "")
    assert progress.counts() == "1/2 files, 1 failed"
    assert progress.summary(2.0) == "1 file, 10 B in 2.0 s (5 B/s)"


def test_a_line_feed_in_a_name_makes_no_line_of_its_own_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    printers.print_line("two\nlines")
    assert capsys.readouterr().out == "two\nlines\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    printers.print_line("two\nlines")
    assert capsys.readouterr().out == "two\\nlines\n"
