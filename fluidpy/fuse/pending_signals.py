"""Whether a thread that waits for us is to end or to stop waiting: what signals it has pending.

The kernel sends INTERRUPT for any signal, also for one that a program merely takes note of (a child
ended, a profiler's timer, Ctrl-Z). EINTR from `stat`, or from a page that is mapped, is what hardly
any program expects of a file, so such signals wait until the answer has come.
"""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Final

ENDING: Final = frozenset(
    {signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGKILL, signal.SIGTERM}
)
"""Signals that ask a program to end or to give up. One that a program does not handle and that ends
it counts as SIGKILL: the kernel adds that to each of its threads."""

_MASK: Final = sum(1 << (number - 1) for number in ENDING)


def wants_to_end(status: str) -> bool:
    """Whether the `status` file of a thread (proc(5)) shows such a signal that is not blocked."""
    masks = {"SigPnd": 0, "ShdPnd": 0, "SigBlk": 0}
    for line in status.splitlines():
        name, _, value = line.partition(":")
        if name in masks:
            masks[name] = int(value, 16)
    return bool((masks["SigPnd"] | masks["ShdPnd"]) & ~masks["SigBlk"] & _MASK)


def thread_wants_to_end(thread: int) -> bool:
    """The same of a thread by its id; one that cannot be looked at (0: of a container) does."""
    try:
        return wants_to_end(Path(f"/proc/{thread}/status").read_text())
    except (OSError, ValueError):
        return True
