"""`cache ls|pin|unpin|evict|usage`: what is cached of a Dataset, and where."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fluidpy.cli.attachment import ask
from fluidpy.cli.datasets import session_of
from fluidpy.cli.options import FileOption, NamespaceOption, OutputFormat, OutputOption
from fluidpy.cli.printers import Column, Row, counted, human_bytes, print_rows, talk
from fluidpy.cli.usage import command_with_usage
from fluidpy.errors import UsageError

if TYPE_CHECKING:
    from fluidpy.client.session import DatasetSession

WordsArgument = Annotated[list[str] | None, typer.Argument(hidden=True)]


def group() -> typer.Typer:
    """The commands under `cache`."""
    commands = typer.Typer(no_args_is_help=True, help="See, keep or drop what is cached.")
    for name, command in (
        ("ls", list_cached),
        ("usage", usage),
        ("pin", pin),
        ("unpin", unpin),
        ("evict", evict),
    ):
        commands.command(name, cls=command_with_usage("(-f FILE [NAME] | NAME) [/PATH]"))(command)
    return commands


def split_words(words: Sequence[str] | None, file: Path | None) -> tuple[str | None, str]:
    """The Dataset's name (None where the file has only one) and the path, `/` when none is given.

    With a file the name may be left out; the path then starts with `/`. Raises UsageError.
    """
    rest = list(words or [])
    if len(rest) > 2:
        raise UsageError("too many words are given", cure="Give one Dataset and one path.")
    name = rest.pop(0) if rest and not rest[0].startswith("/") else None
    if name is None and file is None:
        raise UsageError("no Dataset is named", cure="Give NAME, or -f FILE.")
    if len(rest) > 1:
        raise UsageError("two paths are given", cure="Give one Dataset and one path.")
    return name, rest[0] if rest else "/"


def list_cached(
    words: WordsArgument = None,
    file: FileOption = None,
    namespace: NamespaceOption = None,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """List what is cached: how much of each file, and on which tier.

    Example: fluidpy cache ls imagenet /train
    """
    name, path = split_words(words, file)
    with session_of(name, file, namespace) as session:
        rows = list(_cached_below(session, path.strip("/")))
    print_rows(rows, _LIST_COLUMNS, output, name="path")


def _cached_below(session: DatasetSession, path: str) -> Iterator[Row]:
    """What is cached below a path, asked for in pages."""
    answer = ask(session, "cache_list", path=path)
    yield from answer["objects"]
    while answer["truncated"]:
        answer = ask(session, "cache_list", path=path, after=answer["after"])
        yield from answer["objects"]


_LIST_COLUMNS = (
    Column("CACHED", lambda row: human_bytes(row["cached_bytes"])),
    Column("SIZE", lambda row: human_bytes(row["size"])),
    Column("PINNED", lambda row: "yes" if row["pinned"] else "no"),
    Column("TIER", lambda row: str(row["tier"])),
    Column("PATH", lambda row: str(row["path"])),
)


def usage(
    words: WordsArgument = None,
    file: FileOption = None,
    namespace: NamespaceOption = None,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Show how full each tier is that the Dataset uses.

    Example: fluidpy cache usage imagenet
    """
    name, _ = split_words(words, file)
    with session_of(name, file, namespace) as session:
        rows = ask(session, "usage")["tiers"]
    print_rows(rows, _USAGE_COLUMNS, output, name="directory")


_USAGE_COLUMNS = (
    Column("TIER", lambda row: str(row["directory"])),
    Column("USED", lambda row: human_bytes(row["used_bytes"])),
    Column("QUOTA", lambda row: human_bytes(row["quota_bytes"])),
    Column("OBJECTS", lambda row: str(row["objects"])),
)


def pin(
    words: WordsArgument = None, file: FileOption = None, namespace: NamespaceOption = None
) -> None:
    """Keep what is cached at or below a path: it is not evicted until unpinned.

    Example: fluidpy cache pin imagenet /val
    """
    _set_pinned(words, file, namespace, on=True)


def unpin(
    words: WordsArgument = None, file: FileOption = None, namespace: NamespaceOption = None
) -> None:
    """Let what was pinned at or below a path be evicted again.

    Example: fluidpy cache unpin imagenet /val
    """
    _set_pinned(words, file, namespace, on=False)


def _set_pinned(
    words: Sequence[str] | None, file: Path | None, namespace: str | None, *, on: bool
) -> None:
    answer = _change("pin", words, file, namespace, on=on)
    talk(f"{counted(answer['objects'], 'file')} {'pinned' if on else 'unpinned'}")


def evict(
    words: WordsArgument = None, file: FileOption = None, namespace: NamespaceOption = None
) -> None:
    """Drop what is cached at or below a path; the next read fetches it again.

    Example: fluidpy cache evict imagenet /train
    """
    answer = _change("evict", words, file, namespace)
    talk(f"{counted(answer['objects'], 'file')} evicted, {human_bytes(answer['bytes'])} freed")


def _change(
    operation: str,
    words: Sequence[str] | None,
    file: Path | None,
    namespace: str | None,
    **fields: Any,
) -> dict[str, Any]:
    name, path = split_words(words, file)
    with session_of(name, file, namespace) as session:
        return ask(session, operation, path=path, **fields)
