"""Where YAML comes from: files, directories, standard input, texts at hand."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeAlias

from fluidpy.api.problem import Problem

MAX_TEXT_BYTES = 8 * 2**20
"""Largest file that is read; a Kubernetes object has 1.5 MiB at most (etcd's request limit)."""
SUFFIXES = (".yaml", ".yml", ".json")
"""Files of a directory that are read, as kubectl does."""
_WIDE_MARKS = (b"\xff\xfe", b"\xfe\xff")


class YamlText(NamedTuple):
    """YAML at hand, and the name that problems give it."""

    text: str
    name: str = "<text>"


YamlSource: TypeAlias = str | os.PathLike[str] | YamlText
"""A path, `-` for standard input, or a text: a `YamlText`, or a `str` with a line end in it."""


def gather_texts(
    sources: YamlSource | Iterable[YamlSource],
    problems: list[Problem],
    read_stdin: Callable[[], bytes] | None = None,
) -> Iterator[YamlText]:
    """The texts of all sources; what cannot be read is added to `problems`."""
    if isinstance(sources, str | os.PathLike | YamlText):
        sources = [sources]
    for source in sources:
        if isinstance(source, YamlText):
            yield source
        elif isinstance(source, str) and "\n" in source:
            yield YamlText(source)
        elif source == "-":
            yield from _decoded((read_stdin or _stdin_bytes)(), "<stdin>", problems)
        else:
            yield from _path_texts(Path(source), problems)


def _stdin_bytes() -> bytes:
    return sys.stdin.buffer.read(MAX_TEXT_BYTES + 1)


def _path_texts(path: Path, problems: list[Problem]) -> Iterator[YamlText]:
    if not path.is_dir():
        yield from _file_text(path, problems)
        return
    try:
        files = sorted(p for p in path.iterdir() if p.suffix in SUFFIXES and p.is_file())
    except OSError as error:
        problems.append(_unreadable(path, error))
        return
    if not files:
        message = "the directory has no .yaml, .yml or .json file"
        problems.append(Problem(str(path), 0, 0, "", message, "name the directory that has them"))
    for file in files:
        yield from _file_text(file, problems)


def _file_text(path: Path, problems: list[Problem]) -> Iterator[YamlText]:
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_TEXT_BYTES + 1)
    except (OSError, ValueError) as error:
        problems.append(_unreadable(path, error))
        return
    yield from _decoded(data, str(path), problems)


def _unreadable(path: Path, error: OSError | ValueError) -> Problem:
    if isinstance(error, FileNotFoundError):
        return Problem(str(path), 0, 0, "", "there is no such file", "check the path")
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return Problem(str(path), 0, 0, "", f"cannot be read: {reason}", "check path and permissions")


def _decoded(data: bytes, name: str, problems: list[Problem]) -> Iterator[YamlText]:
    if len(data) > MAX_TEXT_BYTES:
        message = f"is larger than {MAX_TEXT_BYTES // 2**20} MiB"
        problems.append(Problem(name, 0, 0, "", message, "split it into several files"))
        return
    if data.startswith(_WIDE_MARKS):
        problems.append(Problem(name, 1, 1, "", "is UTF-16 or UTF-32", "save it as UTF-8"))
        return
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line = before.count(b"\n") + 1
        column = len(before[before.rfind(b"\n") + 1 :].decode("utf-8", "replace")) + 1
        message = f"byte 0x{data[error.start]:02x} is not UTF-8"
        problems.append(Problem(name, line, column, "", message, "save the file as UTF-8"))
        return
    if name.endswith(".json"):
        # JSON may indent with tabs, YAML may not; inside JSON's strings there can be none.
        text = text.replace("\t", " ")
    yield YamlText(text, name)
