"""Whether the kernel reads files of a mount by itself."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path


def is_passed_through(path: Path, content: bytes, server_pid: int, patience: float = 0.5) -> bool:
    """The same of one file."""
    return bool(passed_through({path: content}, server_pid, patience))


def passed_through(
    contents: Mapping[Path, bytes], server_pid: int, patience: float = 0.5
) -> set[Path]:
    """Opens all files and reads them, with the server stopped and the mount's own pages dropped.

    Those that still wait after `patience` seconds need the server, which then goes on. All must
    have the given bytes. None is passed through, too, where there is no such server any more.
    """
    got: dict[Path, bytes] = {}
    with ExitStack() as stack:
        streams = {path: stack.enter_context(path.open("rb", buffering=0)) for path in contents}
        for stream in streams.values():
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        readers = {
            path: threading.Thread(
                target=lambda path=path, stream=stream: got.update({path: stream.read(1 << 30)})
            )
            for path, stream in streams.items()
        }
        try:
            os.kill(server_pid, signal.SIGSTOP)
        except ProcessLookupError:
            return set()
        try:
            limit = time.monotonic() + patience
            for reader in readers.values():
                reader.start()
            for reader in readers.values():
                reader.join(max(0.0, limit - time.monotonic()))
            done = {path for path, reader in readers.items() if not reader.is_alive()}
        finally:
            with suppress(ProcessLookupError):  # the holder may have taken it for one that hangs
                os.kill(server_pid, signal.SIGCONT)
        for reader in readers.values():
            reader.join(60)
    assert got == contents
    return done
