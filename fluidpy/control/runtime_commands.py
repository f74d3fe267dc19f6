"""Commands that a runtime's driver asks for, each run to its end and within its deadline."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Final

from fluidpy.control.process_end import kill_group
from fluidpy.control.process_supervisor import PASSED_ON
from fluidpy.control.redaction import Redactor
from fluidpy.errors import ControlPlaneError, ControlPlaneTimeoutError
from fluidpy.runtime.driver import Command

_SHOWN_CHARACTERS: Final = 500


async def start_command(
    command: Command,
    arguments: Sequence[str],
    *,
    errors: int = asyncio.subprocess.PIPE,
    longest_line: int = 1 << 16,
) -> asyncio.subprocess.Process:
    """The process of a command, in a group of its own, its output to be read from pipes.

    `arguments` may put another program before the command's own; `errors` says where stderr goes;
    `longest_line` is in bytes. It has the command's variables and a few of ours, no more.
    Raises ControlPlaneError.
    """
    kept = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    try:
        return await asyncio.create_subprocess_exec(
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            cwd="/",
            env={**kept, **command.environment},
            start_new_session=True,
            limit=longest_line,
        )
    except OSError as error:
        raise ControlPlaneError(
            f"{command.name} cannot be started: {error.strerror}",
            cure=f"Install {command.arguments[0]}.",
        ) from error


async def run_command(command: Command) -> str:
    """What a command prints, then what it says beside.

    Raises ControlPlaneError with the end of that should it fail.
    It is killed with all it has started when the deadline passes or nobody waits for it any more.
    """
    process = await start_command(command, command.arguments)
    try:
        async with asyncio.timeout(command.deadline_seconds):
            output, talk = await process.communicate()
    except TimeoutError:
        raise ControlPlaneTimeoutError(
            f"{command.name} did not end within {command.deadline_seconds:g} s",
            cure="Look whether what it talks to can be reached.",
        ) from None
    finally:
        await kill_group(process)
    if process.returncode != 0:
        said = _clean(command, talk or output)
        raise ControlPlaneError(
            f"{command.name} failed with exit status {process.returncode}: {said}",
            cure="Correct what it says.",
        )
    return (output + talk).decode("utf-8", "replace")


def _clean(command: Command, output: bytes) -> str:
    redactor = Redactor(command.redacted)
    lines = [*redactor.lines(output), *redactor.end()]
    return b"".join(lines).decode("utf-8", "replace").strip()[-_SHOWN_CHARACTERS:]
