"""The end of a process that a pidfd tells of."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from typing import Final

_log = logging.getLogger(__name__)

KILL_SECONDS: Final = 10.0
"""How long a process that was killed may take to be gone: one that the kernel holds stays."""


async def end_process(pid: int, ended: int, seconds: float) -> None:
    """Waits so many seconds for a process's end, then kills it. Closes `ended`, its pidfd."""
    loop = asyncio.get_running_loop()
    gone = asyncio.Event()
    loop.add_reader(ended, gone.set)
    try:
        try:
            async with asyncio.timeout(seconds):
                await gone.wait()
        except TimeoutError:
            _log.error("process %d did not end within %g s: it is killed", pid, seconds)
            signal.pidfd_send_signal(ended, signal.SIGKILL)
            try:
                async with asyncio.timeout(KILL_SECONDS):
                    await gone.wait()
            except TimeoutError:
                _log.error("process %d waits in the kernel, as for a dead disk: it is left", pid)
    finally:
        loop.remove_reader(ended)
        os.close(ended)
        reap(pid)


async def kill_group(process: asyncio.subprocess.Process) -> None:
    """Kills a process with all of its group, and waits until it is gone: it may be already."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    try:
        async with asyncio.timeout(KILL_SECONDS):
            await process.wait()
    except TimeoutError:
        _log.error("process %d waits in the kernel, as for a dead disk: it is left", process.pid)


def reap(pid: int) -> None:
    """Lets go of a process that has ended, if it was started from here."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
