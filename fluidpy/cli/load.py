"""`load`: warms a Dataset, or some of its paths, into this machine's cache."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from fluidpy.cli.attachment import ask
from fluidpy.cli.datasets import session_of
from fluidpy.cli.load_object import data_load, declaring_client, load_declared
from fluidpy.cli.options import FileOption, NamespaceOption, OutputFormat, OutputOption
from fluidpy.cli.printers import counted, omission_line, print_json, print_yaml, talk
from fluidpy.cli.progress import TransferProgress
from fluidpy.cli.resources import DEFAULT_NAMESPACE
from fluidpy.errors import UsageError
from fluidpy.settings import load_settings

if TYPE_CHECKING:
    from fluidpy.client.session import DatasetSession

# A load of a large Dataset takes days; each request to the source has its own deadline. poll(2)
# counts milliseconds in 31 bits, so no wait may be longer than 24 days.
LOAD_SECONDS: Final = 14 * 24 * 3600.0
# Paths of one request, in bytes of JSON; half of the longest message of the worker's protocol.
BATCH_BYTES: Final = 64 * 1024
SHOWN_FAILURES: Final = 20
_COUNTS: Final = ("files", "bytes", "done_files", "done_bytes", "failed")


@dataclass
class LoadResult:
    """What a load did: files and bytes that are cached now, and what could not be read.

    `omitted` counts by reason the names of the sources that cannot be shown.
    """

    files: int = 0
    bytes: int = 0
    done_files: int = 0
    done_bytes: int = 0
    failed: int = 0
    omitted: dict[str, int] = field(default_factory=dict)
    failures: list[list[str]] = field(default_factory=list)

    def plus(self, answer: Mapping[str, Any]) -> dict[str, int]:
        """The counts with those of another answer, which may lack some."""
        return {name: getattr(self, name) + int(answer.get(name, 0)) for name in _COUNTS}

    def add(self, answer: Mapping[str, Any]) -> None:
        """Adds the final answer of one request."""
        for name, count in self.plus(answer).items():
            setattr(self, name, count)
        self.omitted = dict(Counter(self.omitted) + Counter(answer.get("omitted", {})))
        self.failures += answer.get("failures", [])


def load(
    name: Annotated[str | None, typer.Argument(hidden=True)] = None,
    file: FileOption = None,
    namespace: NamespaceOption = None,
    path: Annotated[
        list[str] | None,
        typer.Option("--path", metavar="PATH", help="A path or glob; may be given many times."),
    ] = None,
    file_list: Annotated[
        Path | None,
        typer.Option("--file-list", metavar="FILE", help="Paths, one a line; - reads stdin."),
    ] = None,
    metadata: Annotated[
        bool, typer.Option("--metadata", help="List only: names and sizes, no bytes.")
    ] = False,
    replicas: Annotated[
        int,
        typer.Option("--replicas", metavar="N", min=1, help="Workers that keep each file."),
    ] = 1,
    wait: Annotated[
        bool,
        typer.Option("--wait/--no-wait", help="Wait for the end, the default."),
    ] = True,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Fetch a Dataset, or some of its paths, into the cache.

    Run it again after an interruption: what is cached already is not fetched again. Exit code 1
    if something could not be read. What the control plane knows is loaded by its workers, as a
    DataLoad. Examples:

    fluidpy load -f imagenet.yaml

    fluidpy load imagenet --path 'train/*.tar' --path labels.csv
    """
    paths = [*(path or []), *(read_file_list(file_list) if file_list else [])] or ["/"]
    if file is None and name is not None:
        place = namespace or DEFAULT_NAMESPACE
        if (client := declaring_client(load_settings(), place, name)) is not None:
            order = data_load(place, name, paths, replicas=replicas, metadata=metadata)
            load_declared(client, order, wait=wait, output=output)
            return
    if replicas > 1 or not wait:
        raise UsageError(
            "--replicas and --no-wait need a control plane that knows the Dataset",
            cure="Start it (fluidpy up), declare the Dataset (fluidpy apply -f FILE), and load it "
            "by its name.",
        )
    begin = time.monotonic()
    verb = "listing" if metadata else "loading"
    with (
        session_of(name, file, namespace, say_unserved=True) as session,
        TransferProgress(verb) as progress,
    ):
        result = _load(session, paths, metadata, progress)
    _report(result, progress.summary(time.monotonic() - begin), output, metadata)


def read_file_list(file: Path) -> list[str]:
    """The paths of a list, one a line; blank lines do not count. Raises UsageError."""
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(errors="surrogateescape")
    except OSError as error:
        raise UsageError(
            f"{file} cannot be read: {error.strerror}", cure="Name a file with one path a line."
        ) from error
    paths = [line for line in text.splitlines() if line.strip()]
    if not paths:
        raise UsageError(f"{file} lists no path", cure="Write one path a line.")
    return paths


def batches(paths: Iterable[str], limit: int = BATCH_BYTES) -> Iterator[list[str]]:
    """Paths in their order, in groups of at most `limit` bytes of JSON; none is empty."""
    group: list[str] = []
    size = 0
    for path in paths:
        length = len(json.dumps(path)) + 1
        if group and size + length > limit:
            yield group
            group, size = [], 0
        group.append(path)
        size += length
    if group:
        yield group


def _load(
    session: DatasetSession, paths: Sequence[str], metadata: bool, progress: TransferProgress
) -> LoadResult:
    result = LoadResult()
    for group in batches(paths):

        def show(message: Mapping[str, Any]) -> None:
            progress.update(**result.plus(message))

        answer = ask(
            session,
            "load",
            deadline=LOAD_SECONDS,
            on_progress=show,
            on_resume=lambda: talk("the worker ended; going on with a new one"),
            paths=group,
            metadata_only=metadata,
        )
        result.add(answer)
        progress.update(**result.plus({}))
    return result


def _report(result: LoadResult, summary: str, output: OutputFormat, metadata: bool) -> None:
    if output in (OutputFormat.JSON, OutputFormat.YAML):
        (print_json if output is OutputFormat.JSON else print_yaml)(vars(result))
    elif metadata:
        talk(f"{counted(result.files, 'file')} listed")
    else:
        talk(summary)
    if result.omitted and output not in (OutputFormat.JSON, OutputFormat.YAML):
        talk(omission_line(result.omitted))
    if not result.failed:
        return
    for path, message in result.failures[:SHOWN_FAILURES]:
        talk(f"not read: {path}: {message}")
    hidden = result.failed - min(len(result.failures), SHOWN_FAILURES)
    if hidden > 0:
        talk(f"… and {hidden} more; all of the first 1000 with -o json")
    talk(f"fluidpy: {counted(result.failed, 'file')} could not be read")
    talk("cure: mend what the lines above say, then run the same command again")
    raise typer.Exit(1)
