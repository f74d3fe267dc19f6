"""A process that loads files of a Dataset, others each time, for as long as it lives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fluidpy.client.start import worker_environment
from fluidpy.settings import Settings

FILES_A_LOAD = 8

_PROGRAM = """\
import os, random, sys, time
from fluidpy.cli.main import main

file, pause, count, *paths = sys.argv[1:]
while True:
    while os.path.exists(pause):
        time.sleep(0.01)
    chosen = random.sample(paths, int(count))
    main(["load", "-f", file, *(word for path in chosen for word in ("--path", path))])
"""
"""`fluidpy load` again and again, in one process. One that fails, as its worker was killed, is
followed by the next."""


class Loader:
    """The process, which is to be killed, and started when it is needed and not there."""

    def __init__(self, settings: Settings, file: Path, paths: Sequence[str]) -> None:
        """Starts nothing yet."""
        self.log = file.with_suffix(".log")
        self._environment = worker_environment(settings)
        self._pause = file.with_suffix(".pause")
        words = [os.fspath(file), os.fspath(self._pause), str(FILES_A_LOAD), *paths]
        self._command = [sys.executable, "-c", _PROGRAM, *words]
        self._process: subprocess.Popen[bytes] | None = None

    @contextmanager
    def running(self) -> Iterator[None]:
        """It loads inside the block; after it, it ends the load under way and waits.

        It is not stopped by a signal: it may be about to start a worker, which others wait for.
        """
        self._pause.unlink(missing_ok=True)
        if self._process is None:
            null = subprocess.DEVNULL
            with self.log.open("ab") as log:
                self._process = subprocess.Popen(
                    self._command, env=self._environment, stdin=null, stdout=null, stderr=log
                )
        try:
            yield
        finally:
            self._pause.touch()

    def kill(self) -> None:
        """Kills it, which must be there, and waits for its end."""
        process, self._process = self._process, None
        assert process is not None
        process.kill()
        assert process.wait(60) == -signal.SIGKILL

    def close(self) -> None:
        """Kills it if it is there."""
        if self._process is not None:
            self.kill()
