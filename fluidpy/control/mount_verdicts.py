"""What is said of a program that does not mount as it should: what is wrong, and the cure. Pure."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Sequence

from fluidpy.control.process_order import ProcessOrder

_TYPE_FIELD = "filesystemType in runtime.yaml (fileSystemType in a ThinRuntimeProfile)"


def not_started(order: ProcessOrder, error: OSError) -> str:
    """The program could not be started at all."""
    program = order.arguments[0]
    if error.errno == errno.ENOENT:
        return (
            f"{order.name}: the program {program} is not there. Install it, or correct the first "
            "word of mount.command"
        )
    if error.errno == errno.EACCES:
        return f"{order.name}: {program} is not executable. Run: chmod +x {program}"
    if error.errno == errno.ENOEXEC:
        return (
            f"{order.name}: {program} is no program. A script begins with a line such as #!/bin/sh"
        )
    return f"{order.name} cannot be started: {error.strerror or error}"


def ended_early(order: ProcessOrder, code: int, said: str) -> str:
    """It ended before its mount was there."""
    if code == 0:
        return (
            f"{order.name} ended with exit status 0 before anything was mounted at "
            f"{order.target}{_said(said)}. The program has to stay in the foreground as long as "
            "the mount lives: give it the option for that (often -f), or exec it"
        )
    return (
        f"{order.name} {_ended(code)} before anything was mounted at {order.target}{_said(said)}. "
        "Correct what it says; all its output is in its log"
    )


def not_mounted(order: ProcessOrder, elsewhere: Sequence[str], said: str) -> str:
    """It runs, and no mount came in time."""
    instead = [place for place in elsewhere if place != order.target]
    if instead:
        return (
            f"{order.name} mounted at {instead[-1]} and not at {order.target} within "
            f"{order.ready_seconds:g} s. Mount at {{target}} (targetPath of config.json)"
        )
    return (
        f"{order.name} runs, and nothing was mounted at {order.target} within "
        f"{order.ready_seconds:g} s{_said(said)}. Mount at {{target}} (targetPath of config.json), "
        "or raise mount.readySeconds"
    )


def wrong_type(order: ProcessOrder, kind: str) -> str:
    """Another file system type than was declared."""
    return (
        f"{order.name} mounted a file system of type {kind}, and {order.filesystem_type} is "
        f"declared. Write {kind} as {_TYPE_FIELD} if that is right"
    )


def silent(order: ProcessOrder) -> str:
    """The mount is in the table, and listing it hangs."""
    return (
        f"{order.name} mounted, and listing {order.target} was not answered within "
        f"{order.ready_seconds:g} s. Look whether its server can be reached, and that the program "
        "answers requests as soon as it has mounted"
    )


def unreadable(order: ProcessOrder, code: int, said: str) -> str:
    """The mount is there, and listing it fails."""
    return (
        f"{order.name} mounted, and listing {order.target} fails: {os.strerror(code)}{_said(said)}"
        ". The user of fluidpy must be able to read it (FUSE: mount as that user, or allow_other)"
    )


def ended(order: ProcessOrder, code: int, said: str) -> str:
    """It was ready and has ended."""
    if code == 0:
        return (
            f"{order.name} ended with exit status 0 while its mount was in use{_said(said)}. If it "
            "went to the background, keep it in the foreground (often -f)"
        )
    return f"{order.name} {_ended(code)} while its mount was in use{_said(said)}"


def unmounted(order: ProcessOrder) -> str:
    """The program is there, its mount is not."""
    return f"the mount at {order.target} went away while {order.name} ran"


def ignored_sigterm(order: ProcessOrder) -> str:
    """It had to be killed."""
    return (
        f"{order.name} did not end within {order.stop_seconds:g} s of SIGTERM and was killed. Let "
        "it unmount and end on SIGTERM (in a shell script: exec the program), or raise "
        "mount.stopSeconds"
    )


def _ended(code: int) -> str:
    if code >= 0:
        return f"ended with exit status {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def _said(line: str) -> str:
    return f'; it said last: "{line}"' if line else ""
