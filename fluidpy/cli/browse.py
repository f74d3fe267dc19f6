"""`ls`, `cat`, `cp`, `du` on `fluid://` URLs: look into a Dataset without mounting it."""

from __future__ import annotations

import os
import posixpath
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fluidpy.cli.datasets import DatasetPath, is_url, parse_dataset_url, session_of
from fluidpy.cli.main import report
from fluidpy.cli.options import FileOption, OutputFormat, OutputOption
from fluidpy.cli.printers import (
    Column,
    Row,
    counted,
    human_bytes,
    omission_line,
    print_line,
    print_rows,
    talk,
)
from fluidpy.errors import (
    FluidpyError,
    IsADirectoryInDatasetError,
    ReadOnlyDatasetError,
    UsageError,
)

if TYPE_CHECKING:
    from fluidpy.client.protocol import RemoteEntry
    from fluidpy.client.session import DatasetSession

# How much is in memory at once; several blocks, so that one request fetches them together.
COPY_BYTES = 8 * 1024 * 1024
_KINDS = {1: "file", 2: "directory", 3: "symlink"}
_MODES = {1: stat.S_IFREG | 0o444, 2: stat.S_IFDIR | 0o555, 3: stat.S_IFLNK | 0o777}

UrlArgument = Annotated[str, typer.Argument(metavar="fluid://NAME/PATH", show_default=False)]


def ls(
    url: UrlArgument,
    file: FileOption = None,
    long: Annotated[bool, typer.Option("-l", help="Mode, size and time as well.")] = False,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """List a folder of a Dataset.

    Example: fluidpy ls -l fluid://imagenet/train
    """
    target = parse_dataset_url(url)
    with session_of(target.dataset, file, target.namespace) as session:
        entry = session.entry(target.path)
        is_folder = entry.kind == 2
        found = session.listdir(target.path) if is_folder else [entry]
        omitted = session.omitted(entry.id) if is_folder else {}
        parent = target.path if is_folder else posixpath.dirname(target.path)
        rows = [entry_row(each, parent) for each in found]
    if output is OutputFormat.TABLE and not long:
        for row in rows:
            print_line(row["name"] + ("/" if row["type"] == "directory" else ""))
    else:
        print_rows(rows, _LONG_COLUMNS, output, name="path")
    if omitted:
        talk(omission_line(omitted))


def entry_row(entry: RemoteEntry, parent: str) -> Row:
    """What is printed of one entry; times in seconds since the epoch, sizes in bytes."""
    name = os.fsdecode(entry.name)
    return {
        "name": name,
        "path": f"{parent}/{name}" if parent and name else parent or name,
        "type": _KINDS[entry.kind],
        "size": entry.size if entry.kind == 1 else 0,
        "mode": stat.filemode(_MODES[entry.kind] if entry.mode is None else _mode(entry)),
        "modified": entry.mtime_ns / 1e9,
    }


def _mode(entry: RemoteEntry) -> int:
    return stat.S_IFMT(_MODES[entry.kind]) | (entry.mode or 0)


def _local_time(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds)) if seconds else "-"


_LONG_COLUMNS = (
    Column("MODE", lambda row: row["mode"]),
    Column("SIZE", lambda row: str(row["size"])),
    Column("MODIFIED", lambda row: _local_time(row["modified"])),
    Column("NAME", lambda row: row["name"] + ("/" if row["type"] == "directory" else "")),
)


def cat(
    urls: Annotated[list[str] | None, typer.Argument(hidden=True)] = None,
    file: FileOption = None,
) -> None:
    """Write files of a Dataset to stdout; what cannot be read is told, and the rest is written.

    Example: fluidpy cat fluid://imagenet/labels.csv
    """
    if not urls:
        raise UsageError("no file is named", cure="fluidpy cat fluid://NAME/PATH…")
    failures: list[FluidpyError] = []
    for target in [parse_dataset_url(url) for url in urls]:
        try:
            _write_out(target, file)
        except FluidpyError as error:
            failures.append(error)
    sys.stdout.buffer.flush()
    for failure in failures[:-1]:
        report(failure)
    if failures:
        raise failures[-1]


def _write_out(target: DatasetPath, file: Path | None) -> None:
    with session_of(target.dataset, file, target.namespace) as session:
        if session.entry(target.path).kind == 2:
            raise IsADirectoryInDatasetError(
                f"{target} is a folder", cure="Name a file, or use fluidpy ls."
            )
        for piece in read_pieces(session, target.path):
            sys.stdout.buffer.write(piece)


def read_pieces(session: DatasetSession, path: str) -> Iterator[bytes]:
    """The bytes of one file, in pieces of `COPY_BYTES` at most."""
    from fluidpy.client.file import ObjectReader

    with ObjectReader(session, session.open_object(path)) as reader:
        for start in range(0, reader.size, COPY_BYTES):
            yield reader.read_range(start, min(start + COPY_BYTES, reader.size))


def cp(
    source: Annotated[str, typer.Argument(metavar="fluid://NAME/PATH", show_default=False)],
    destination: Annotated[str, typer.Argument(metavar="LOCAL", show_default=False)],
    file: FileOption = None,
    recursive: Annotated[bool, typer.Option("-r", "--recursive", help="Copy a folder.")] = False,
) -> None:
    """Copy out of a Dataset to a local file or folder.

    Example: fluidpy cp -r fluid://imagenet/train/cats ./cats
    """
    if is_url(destination):
        raise ReadOnlyDatasetError(
            f"{destination} cannot be written: Datasets are read-only",
            cure="Write to the source itself, then: fluidpy load --metadata NAME",
        )
    target = parse_dataset_url(source)
    with session_of(target.dataset, file, target.namespace) as session:
        entry = session.entry(target.path)
        if entry.kind == 2 and not recursive:
            raise UsageError(f"{target} is a folder", cure="Add -r to copy it with all in it.")
        place = place_for(target, Path(destination), entry.kind == 2)
        _copy(session, list(files_below(session, target.path, entry)), target.path, place)


def place_for(target: DatasetPath, destination: Path, is_folder: bool) -> Path:
    """Where `cp` writes: into a folder that is there under the source's own name, else as named."""
    name = posixpath.basename(target.path) or target.dataset
    if destination.is_dir():
        return destination / name
    if is_folder or destination.parent.is_dir():
        return destination
    raise UsageError(
        f"the folder {destination.parent} is not there", cure=f"mkdir -p {destination.parent}"
    )


def files_below(
    session: DatasetSession, path: str, entry: RemoteEntry
) -> Iterator[tuple[str, RemoteEntry]]:
    """Each file and symbolic link at or below a path, with its path; folders are not followed."""
    if entry.kind != 2:
        yield path, entry
        return
    pending = [path]
    while pending:
        folder = pending.pop()
        for child in session.listdir(folder):
            name = os.fsdecode(child.name)
            below = f"{folder}/{name}" if folder else name
            if child.kind == 2:
                pending.append(below)
            else:
                yield below, child


def _copy(
    session: DatasetSession, files: list[tuple[str, RemoteEntry]], root: str, place: Path
) -> None:
    from fluidpy.cli.progress import TransferProgress

    failures: list[str] = []
    with TransferProgress("copying") as progress:
        progress.update(files=len(files), bytes=sum(entry.size for _, entry in files))
        for path, entry in files:
            local = place / path[len(root) :].lstrip("/") if path != root else place
            try:
                _copy_file(session, path, entry, local, progress.advance)
            except (FluidpyError, OSError) as error:
                failures.append(f"{path}: {getattr(error, 'message', error)}")
                progress.fail()
            else:
                progress.finish_file()
    if failures:
        raise FluidpyError(
            f"{len(failures)} of {counted(len(files), 'file')} could not be copied:\n  "
            + "\n  ".join(failures[:20]),
            cure="Run the same command again once the cause is gone.",
        )


def _copy_file(
    session: DatasetSession, path: str, entry: RemoteEntry, local: Path, advance: Any
) -> None:
    """A half file never stands under the name, and a device is written to (`whole_file`)."""
    from fluidpy.client.download import whole_file

    local.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(os.fspath(local), entry.mtime_ns) as stream:
        for piece in read_pieces(session, path):
            stream.write(piece)
            advance(len(piece))


def du(
    url: UrlArgument,
    file: FileOption = None,
    human: Annotated[bool, typer.Option("-h", help="Sizes as 1.5 MiB.")] = False,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Sum up sizes: a line for each folder, and the total.

    Example: fluidpy du -h fluid://imagenet/train
    """
    target = parse_dataset_url(url)
    sums: dict[str, list[int]] = {}
    with session_of(target.dataset, file, target.namespace) as session:
        for path, entry in files_below(session, target.path, session.entry(target.path)):
            for folder in (first_folder(path, target.path), str(target)):
                total = sums.setdefault(folder, [0, 0])
                total[0] += 1
                total[1] += entry.size
    rows = [
        {"path": path, "files": files, "bytes": size}
        for path, (files, size) in sums.items()
        if path and path != str(target)
    ]
    files, size = sums.get(str(target), [0, 0])
    rows.append({"path": str(target), "files": files, "bytes": size})
    columns = (
        Column("SIZE", lambda row: human_bytes(row["bytes"]) if human else str(row["bytes"])),
        Column("FILES", lambda row: str(row["files"])),
        Column("PATH", lambda row: str(row["path"])),
    )
    print_rows(rows, columns, output, name="path")


def first_folder(path: str, root: str) -> str:
    """The folder directly below `root` in which `path` lies; empty for `root` itself."""
    below = path[len(root) :].lstrip("/") if root else path
    head, separator, _ = below.partition("/")
    if not separator:
        return ""
    return f"{root}/{head}" if root else head
