"""One DataMigrate under way: its command as often as it takes, and its figures meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import aiohttp

from fluidpy.control import linux_processes as linux
from fluidpy.control.data_migrate import MigrationSeen
from fluidpy.control.process_end import kill_group
from fluidpy.control.redaction import Redactor
from fluidpy.control.runtime_commands import start_command
from fluidpy.errors import ControlPlaneError, ControlPlaneTimeoutError, FluidpyError
from fluidpy.runtime.driver import Command
from fluidpy.runtime.migration import MigratingDriver

_log = logging.getLogger(__name__)

PAUSES: Final = (0.5, 1.5, 4.0)
"""Seconds before each further attempt: as many as Fluid's Jobs have (backoffLimit 3)."""

LOOK_SECONDS: Final = 0.5
"""Time between two looks at the figures."""

ANSWER_SECONDS: Final = 5.0
"""How long figures may take; without them the progress stays where it was."""

KEPT_LINES: Final = 200
"""Lines of output, the last ones, that are kept: the result and some failures."""

LINE_BYTES: Final = 1 << 20
"""The longest line that is read; a name is 4 KiB at most."""


class MigrationRun:
    """Runs in the loop that makes it, from now on; `seen` tells how far it is."""

    def __init__(
        self, driver: MigratingDriver, command: Command, on_change: Callable[[], None]
    ) -> None:
        """`on_change` is called when it has ended."""
        self.seen = MigrationSeen()
        self._driver, self._command, self._on_change = driver, command, on_change
        self._figures_at = ""
        self._task = asyncio.get_running_loop().create_task(self._run())

    def stop(self) -> asyncio.Task[None]:
        """Gives it up; its program ends before the returned task does."""
        self._task.cancel()
        return self._task

    async def _run(self) -> None:
        """A deadline that passed is not tried again; a failure is, for what was copied is kept."""
        try:
            for pause in (*PAUSES, None):
                error = await self._attempt()
                if error is None or pause is None or isinstance(error, ControlPlaneTimeoutError):
                    break
                await asyncio.sleep(pause)
            self.seen = replace(self.seen, finished=True, error=error.message if error else "")
        except Exception as error:  # noqa: BLE001 - a foreign driver may raise anything
            _log.error("%s failed in a way it should not", self._command.name, exc_info=error)
            self.seen = replace(self.seen, finished=True, error=f"{type(error).__name__}: {error}")
        finally:
            self._on_change()

    async def _attempt(self) -> FluidpyError | None:
        try:
            output = await self._output()
        except FluidpyError as error:
            return error
        copied = self._driver.migrated(output.text)
        before = self.seen.copied
        if copied.done == before.done and copied.found == before.found:
            copied = replace(copied, bytes=before.bytes)  # to the byte
        if copied.found or not output.status:
            self.seen = replace(self.seen, copied=copied)
        if output.status == 0 or copied.failed:
            return _failed(copied.failed) if copied.failed else None
        return ControlPlaneError(
            f"{self._command.name} failed with exit status {output.status}: {output.last}",
            cure="Correct what it says.",
        )

    async def _output(self) -> _Output:
        """What the command printed. Raises ControlPlaneError."""
        command, limit = self._command, self._command.deadline_seconds
        process = await start_command(
            command,
            linux.ending_with(os.getpid(), command.arguments),
            errors=asyncio.subprocess.STDOUT,
            longest_line=LINE_BYTES,
        )
        looking = asyncio.get_running_loop().create_task(self._look())
        output = _Output(command)
        try:
            async with asyncio.timeout(limit):
                assert process.stdout is not None
                while line := await process.stdout.readline():
                    output.add(line)
                    self._figures_at = self._driver.figures_at(output.last) or self._figures_at
                output.status = await process.wait()
        except TimeoutError:
            raise ControlPlaneTimeoutError(
                f"{command.name} did not end within {limit:g} s, which its option timeout gives it",
                cure="Give it more time by the option timeout, and apply the DataMigrate again.",
            ) from None
        except ValueError as error:
            raise ControlPlaneError(
                f"{command.name} printed a line that is too long", cure="Look at its source."
            ) from error
        finally:
            looking.cancel()
            await kill_group(process)
        return output

    async def _look(self) -> None:
        """Asks for the figures again and again; what does not answer is asked again later."""
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as session:
            while True:
                await asyncio.sleep(LOOK_SECONDS)
                if not self._figures_at:
                    continue
                with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                    async with session.get(self._figures_at) as answer:
                        found = self._driver.figures(await answer.text())
                        self.seen = replace(self.seen, copied=found)


class _Output:
    """The last lines of what a command printed, without secrets."""

    def __init__(self, command: Command) -> None:
        self.status = 0
        self._redactor = Redactor(command.redacted)
        self._lines: list[str] = []

    def add(self, line: bytes) -> None:
        for one in (*self._redactor.lines(line), *self._redactor.end()):
            self._lines.append(one.decode("utf-8", "replace").rstrip())
        del self._lines[:-KEPT_LINES]

    @property
    def last(self) -> str:
        return self._lines[-1] if self._lines else "it said nothing"

    @property
    def text(self) -> str:
        return "\n".join(self._lines)


def _failed(number: int) -> FluidpyError:
    what = "1 object" if number == 1 else f"{number} objects"
    return ControlPlaneError(
        f"{what} could not be copied", cure="Correct what is said of each, and apply it again."
    )
