"""The texts that a runtime's driver wants to see: heads of files, and what commands print.

A file may lie in an engine's mount, which may never answer. So each is read in a thread of its own
that nobody waits for longer than a deadline, nor at the end of this process.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from fluidpy.control.runtime_commands import run_command
from fluidpy.errors import ControlPlaneError, ControlPlaneTimeoutError, FluidpyError
from fluidpy.runtime.driver import Reading

_log = logging.getLogger(__name__)

TEXT_BYTES: Final = 1 << 20
"""How much of a file is read for a driver."""

FILE_SECONDS: Final = 5.0
"""How long a file may take to be read: a mount that answers does so sooner."""


class RuntimeReadings:
    """What was read last of each text of one runtime."""

    def __init__(self, key: str, *, file_seconds: float = FILE_SECONDS) -> None:
        """`key`: what messages call the runtime. Reads nothing yet."""
        self.texts: dict[str, str] = {}
        self._key, self._file_seconds = key, file_seconds
        self._read_at: dict[str, float] = {}
        self._threads: dict[Path, threading.Thread] = {}

    async def read(self, readings: Sequence[Reading]) -> None:
        """Reads what is due; what cannot be read, or is not asked for, is not among the texts."""
        self.texts = {one.name: self.texts[one.name] for one in readings if one.name in self.texts}
        for one in readings:
            if time.monotonic() - self._read_at.get(one.name, -1e9) < one.every_seconds:
                continue
            try:
                self.texts[one.name] = await self._text(one)
            except (FluidpyError, OSError) as error:
                _log.info("%s of %s cannot be read: %s", one.name, self._key, error)
                self.texts.pop(one.name, None)
            self._read_at[one.name] = time.monotonic()

    async def _text(self, one: Reading) -> str:
        if one.command is not None:
            return await run_command(one.command)
        assert one.file is not None
        return await self._head(one.file)

    async def _head(self, path: Path) -> str:
        """The beginning of a file. Raises OSError, ControlPlaneError."""
        if (earlier := self._threads.get(path)) is not None and earlier.is_alive():
            raise ControlPlaneError(
                f"{path} does not answer since it was read before",
                cure="Look whether what is mounted there can reach its store.",
            )
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[str] = loop.create_future()

        def work() -> None:
            try:
                text, failure = _head(path), None
            except Exception as error:  # noqa: BLE001 - raised where it is awaited
                text, failure = "", error
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(_settle, answer, text, failure)

        thread = threading.Thread(target=work, name="runtime-reading", daemon=True)
        self._threads[path] = thread
        thread.start()
        try:
            async with asyncio.timeout(self._file_seconds):
                return await answer
        except TimeoutError:
            raise ControlPlaneTimeoutError(
                f"{path} was not read within {self._file_seconds:g} s",
                cure="Look whether what is mounted there can reach its store.",
            ) from None


def _settle(answer: asyncio.Future[str], text: str, failure: Exception | None) -> None:
    if answer.done():  # nobody waits any more
        return
    if failure is None:
        answer.set_result(text)
    else:
        answer.set_exception(failure)


def _head(path: Path) -> str:
    with path.open("rb") as stream:
        return stream.read(TEXT_BYTES).decode("utf-8", "replace")
