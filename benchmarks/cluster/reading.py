"""Readers on the workers of a pool, each a process: for some passes, or for as long as it takes."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.cluster.bed import WorkerPool

LONGEST_SECONDS = 900.0
"""No reader takes longer; a busy machine needs a tenth of it."""


class Readers:
    """Processes that read; `outcomes` are theirs, a list for each, once they have ended."""

    def __init__(self, pool: WorkerPool, workers: Sequence[str], count: int, passes: int) -> None:
        """Starts them, in turn on these workers; with `passes` 0 they read until `end`."""
        self._ending = pool.directory / "ending"
        self._ending.unlink(missing_ok=True)
        self.outcomes: list[list[dict[str, Any]]] = []
        self._processes = [
            pool.start_reader(workers[number % len(workers)], number, passes, self._ending)
            for number in range(count)
        ]

    def end(self) -> None:
        """Tells them to end after the file they read, and waits for it."""
        self._ending.touch()
        self.wait()

    def wait(self) -> None:
        """Waits until they have ended, and takes what they say."""
        for process in self._processes:
            process.wait(LONGEST_SECONDS)  # what it says fits in the pipe
        for process in self._processes:
            assert process.stdout is not None
            if process.returncode:
                raise RuntimeError(f"a reader ended with {process.returncode}")
            self.outcomes.append([json.loads(line) for line in process.stdout])

    def close(self) -> None:
        """Ends what has not ended."""
        for process in self._processes:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()

    @property
    def bad(self) -> int:
        """Files with errors or wrong bytes."""
        return sum(each["errors"] + each["wrong"] for each in self._all())

    @property
    def slowest(self) -> float:
        """Longest time that a read took, in seconds."""
        return max(float(each["slowest"]) for each in self._all())

    @property
    def bytes(self) -> int:
        """Bytes that all of them got."""
        return sum(int(each["bytes"]) for each in self._all())

    def _all(self) -> Iterator[dict[str, Any]]:
        for outcome in self.outcomes:
            yield from outcome


@contextlib.contextmanager
def reading(
    pool: WorkerPool, count: int, passes: int = 0, workers: Sequence[str] = ()
) -> Iterator[Readers]:
    """Readers on these workers (by default all); none is left behind."""
    readers = Readers(pool, workers or list(pool.workers), count, passes)
    try:
        yield readers
    finally:
        readers.close()
