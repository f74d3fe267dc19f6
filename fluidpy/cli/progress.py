"""Progress of transfers: a bar with files, bytes, rate and time left, on terminals only."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Self

from fluidpy.cli.printers import counted, human_bytes

if TYPE_CHECKING:
    from rich.progress import Progress


class TransferProgress:
    """A bar on stderr for one transfer; use as a context manager.

    `update` takes totals and what is done in absolute numbers, `advance` and `finish_file` count
    up. Off a terminal nothing is drawn.
    """

    def __init__(self, verb: str) -> None:
        self._verb = verb
        self._files = self._done_files = self._failed = 0
        self._bytes = self._done_bytes = 0
        self._bar: Progress | None = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            self._bar = _bar()
            self._bar.start()
            self._task = self._bar.add_task(self._verb, total=None, counts="")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(
        self,
        *,
        files: int | None = None,
        bytes: int | None = None,
        done_files: int | None = None,
        done_bytes: int | None = None,
        failed: int | None = None,
    ) -> None:
        """Sets totals and what is done so far."""
        self._files = self._files if files is None else files
        self._bytes = self._bytes if bytes is None else bytes
        self._done_files = self._done_files if done_files is None else done_files
        self._done_bytes = self._done_bytes if done_bytes is None else done_bytes
        self._failed = self._failed if failed is None else failed
        self._draw()

    def advance(self, count: int) -> None:
        """Counts bytes that were done."""
        self.update(done_bytes=self._done_bytes + count)

    def finish_file(self) -> None:
        """Counts a file that was done."""
        self.update(done_files=self._done_files + 1)

    def fail(self) -> None:
        """Counts a file that could not be done."""
        self.update(failed=self._failed + 1)

    def counts(self) -> str:
        """What stands beside the bar: `12/40 files`, and how many failed."""
        text = f"{self._done_files}/{counted(self._files, 'file')}"
        return f"{text}, {self._failed} failed" if self._failed else text

    def summary(self, seconds: float) -> str:
        """One line for the end: `40 files, 1.2 GiB in 3.0 s (410.0 MiB/s)`."""
        rate = human_bytes(self._done_bytes / seconds) if seconds > 0 else "?"
        return (
            f"{counted(self._done_files, 'file')}, {human_bytes(self._done_bytes)} "
            f"in {seconds:.1f} s ({rate}/s)"
        )

    def _draw(self) -> None:
        if self._bar is not None:
            self._bar.update(
                self._task,
                total=self._bytes or None,
                completed=self._done_bytes,
                counts=self.counts(),
            )


def _bar() -> Progress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[counts]}"),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
