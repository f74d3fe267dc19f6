"""Whether the kernel reads a file of a mount by itself."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress
from pathlib import Path


def is_passed_through(path: Path, content: bytes, server_pid: int, patience: float = 0.5) -> bool:
    """Opens a file and reads it all, with the server stopped and the mount's own pages dropped.

    Who still waits after `patience` seconds needs the server, which then goes on. The bytes must be
    `content` either way. False, too, where there is no such server any more.
    """
    got: list[bytes] = []
    with path.open("rb", buffering=0) as stream:
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        try:
            os.kill(server_pid, signal.SIGSTOP)
        except ProcessLookupError:
            return False
        try:
            reader = threading.Thread(target=lambda: got.append(stream.read(1 << 30)))
            reader.start()
            reader.join(patience)
            done = not reader.is_alive()
        finally:
            with suppress(ProcessLookupError):  # the holder may have taken it for one that hangs
                os.kill(server_pid, signal.SIGCONT)
        reader.join(60)
    assert got == [content]
    return done
