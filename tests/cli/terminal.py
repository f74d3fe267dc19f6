"""A command at a terminal: what it draws, and keys typed while it runs."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path

from tests.cli.conftest import CommandLine

COLUMNS = 120
INTERRUPT = b"\x03"
"""What Ctrl-C sends."""


class Terminal:
    """A running command and the screen side of its terminal."""

    def __init__(self, process: subprocess.Popen[bytes], screen: int, seconds: float) -> None:
        self.process = process
        self.shown = b""
        self._screen = screen
        self._limit = time.monotonic() + seconds

    def type(self, keys: bytes) -> None:
        os.write(self._screen, keys)

    def read_until(self, text: bytes) -> None:
        """Reads until `text` was shown. Raises AssertionError when it is not."""
        while text not in self.shown:
            assert self._read(), f"{text!r} was not shown: {self.shown!r}"

    def end(self) -> int:
        """The exit code, after all that was shown was read."""
        while self._read():
            pass
        return self.process.wait(max(1.0, self._limit - time.monotonic()))

    def _read(self) -> bool:
        """More of what is shown; False at its end."""
        left = self._limit - time.monotonic()
        ready, _, _ = select.select([self._screen], [], [], max(0.0, left))
        assert ready, f"the command goes on: {self.shown!r}"
        try:
            data = os.read(self._screen, 1 << 16)
        except OSError:  # EIO: nobody has the other side any more
            return False
        self.shown += data
        return bool(data)


@contextlib.contextmanager
def at_terminal(line: CommandLine, *arguments: str | Path, seconds: float) -> Iterator[Terminal]:
    """Runs `fluidpy` with a terminal of its own; it is killed when it is left running."""
    screen, keyboard = pty.openpty()
    fcntl.ioctl(screen, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
    # Whoever runs the tests in the background lets their children ignore SIGINT.
    defaults = ["env", "--default-signal=INT,QUIT"]
    command = [*defaults, "setsid", "--ctty", line.python, "-m", "fluidpy", *map(str, arguments)]
    with open(screen, "rb", buffering=0), contextlib.ExitStack() as ends:
        with open(keyboard, "rb", buffering=0):
            process = subprocess.Popen(
                command,
                stdin=keyboard,
                stdout=keyboard,
                stderr=keyboard,
                env=line.environment | {"TERM": "xterm"},
                cwd=line.directory,
            )
        ends.callback(process.wait)
        ends.callback(process.kill)
        yield Terminal(process, screen, seconds)
