"""Prints rows: tables for people, JSON and YAML for programs; data to stdout, talk to stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fluidpy.cli.control_characters import without_controls
from fluidpy.cli.options import OutputFormat

Row = Mapping[str, Any]
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its heading, the row's value as text, and whether only `wide` has it."""

    heading: str
    text: Callable[[Row], str]
    wide: bool = False


def print_rows(
    rows: Sequence[Row], columns: Sequence[Column], output: OutputFormat, *, name: str
) -> None:
    """Prints rows as asked; `name` is the key of the row that `-o name` prints."""
    if output is OutputFormat.JSON:
        print_json([dict(row) for row in rows])
    elif output is OutputFormat.YAML:
        print_yaml([dict(row) for row in rows])
    elif output is OutputFormat.NAME:
        for row in rows:
            print_text(str(row[name]))
    else:
        shown = [c for c in columns if output is OutputFormat.WIDE or not c.wide]
        for line in table_lines(
            [c.heading for c in shown], [[c.text(r) for c in shown] for r in rows]
        ):
            print_line(line)


def omission_line(omitted: Mapping[str, int]) -> str:
    """What to say of names that a source has and no file system can show; counts by reason."""
    count = sum(omitted.values())
    reasons = ", ".join(f"{number} {reason}" for reason, number in sorted(omitted.items()))
    return f"{count} {'name is' if count == 1 else 'names are'} left out: {reasons}"


def print_json(value: Any) -> None:
    """One JSON document; names that are not UTF-8 come out as lone surrogates, escaped."""
    print(json.dumps(value, indent=2, default=str))


def print_yaml(value: Any) -> None:
    """One YAML document in block style, keys in the order given."""
    import yaml

    text = yaml.safe_dump(json.loads(json.dumps(value, default=str)), sort_keys=False)
    print_text(text.rstrip("\n"))


def print_text(line: str) -> None:
    """One line of data; a file name that is not UTF-8 goes out as the bytes it is.

    A terminal gets control characters escaped: a file's name must not move its cursor.
    """
    sys.stdout.flush()
    if sys.stdout.isatty():
        line = without_controls(line)
    binary = getattr(sys.stdout, "buffer", None)
    if binary is None:
        print(line)
        return
    binary.write(os.fsencode(line) + b"\n")


def print_line(line: str) -> None:
    """The same of what is one line: on a terminal a line feed in a name is shown as `\\n`."""
    print_text(line.replace("\n", "\\n") if sys.stdout.isatty() else line)


def talk(line: str) -> None:
    """One line for the person at the terminal, on stderr."""
    print(without_controls(line), file=sys.stderr)


def table_lines(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table as kubectl prints it: columns as wide as their longest text, three blanks between."""
    lines = [list(headings), *(list(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(headings))]
    return [
        "   ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]


def counted(count: int, noun: str) -> str:
    """`1 file`, `2 files`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def human_bytes(count: float) -> str:
    """A size for people, in binary units: `1.5 MiB`; exact below 1 KiB."""
    size = float(count)
    for unit in _UNITS[:-1]:
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} {_UNITS[-1]}"


def human_seconds(seconds: float) -> str:
    """A duration for people: `0.8 s`, `42 s`, `3 min 05 s`, `2 h 10 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def styled(text: str, style: str) -> str:
    """The text in a colour where stdout is a terminal and NO_COLOR is not set; else as it is."""
    codes = {"red": "31", "green": "32", "yellow": "33", "bold": "1"}
    if os.environ.get("NO_COLOR") or not sys.stdout.isatty():
        return text
    return f"\033[{codes[style]}m{text}\033[0m"
