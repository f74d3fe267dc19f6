"""The process in which a storage plug-in's code runs under test.

Reads an order (JSON) from stdin and writes one JSON value a line to the fd that is its argument:
what it begins, and what came of it. So whoever watches sees a plug-in that hangs, ends the process
or writes where it should not.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from fluidpy.errors import FluidpyError
from fluidpy.settings import Settings, load_settings
from fluidpy.storage.factory import plugin_storage
from fluidpy.storage.plugins import InstalledPlugin, load_plugin_class, with_plugin_options
from fluidpy.storage.retry_policy import RetryPolicy
from fluidpy.storage.under_storage import UnderStorage
from fluidpy.testing.conformance.bed import TestBed
from fluidpy.testing.conformance.report import Outcome, Result
from fluidpy.testing.conformance.storage_clauses import (
    CLAUSES,
    REFUSAL,
    REFUSAL_CURE,
    AllowedError,
    BrokenPromiseError,
    NothingToTestError,
    refuses_wrong_secrets,
)
from fluidpy.testing.sample_tree import TREE

CALL_SECONDS: Final = 6.0
"""How long one call of the plug-in may take here; the store lies on this machine."""
CLAUSE_SECONDS: Final = 20.0

LOADING: Final = "the class can be imported and made"
LOADING_CURE: Final = "Name it as MODULE:NAME under storage.class; its module lies in this folder."
HANGING_CURE: Final = "Give each request of the store a time limit, and do not block in async code."


class _Lines:
    """The pipe to whoever watches."""

    def __init__(self, fd: int) -> None:
        self._stream = os.fdopen(fd, "w", encoding="utf-8", buffering=1)

    def say(self, **values: Any) -> None:
        """One line."""
        self._stream.write(json.dumps(values) + "\n")


def main() -> int:
    """Does what the order says: `clauses`, `fingerprint` or `reading` (until it is killed)."""
    lines = _Lines(int(sys.argv[1]))
    order = json.loads(sys.stdin.buffer.read())
    bed = TestBed.from_wire(order["bed"])
    plugin = InstalledPlugin.from_record(order["plugin"], Path(order["place"]))
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    asyncio.run(_run(order["task"], lines, bed, plugin))
    return 0


async def _run(task: str, lines: _Lines, bed: TestBed, plugin: InstalledPlugin) -> None:
    def opened(secrets: dict[str, str] | None = None) -> UnderStorage:
        return _open(plugin, bed, secrets, load_settings())

    loaded = await _tried(lines, LOADING, LOADING_CURE, lambda: _load(opened))
    if loaded.result is not Result.PASSED:
        return
    storage = opened()
    try:
        if task == "clauses":
            await _clauses(lines, storage, bed, opened)
        elif task == "fingerprint":
            lines.say(fingerprint=await _fingerprint(storage))
        else:
            await _read_on(lines, storage)
    finally:
        await storage.close()


def _open(
    plugin: InstalledPlugin, bed: TestBed, secrets: dict[str, str] | None, settings: Settings
) -> UnderStorage:
    source = with_plugin_options(plugin, bed.source(secrets))
    policy = RetryPolicy(source.label, deadline_seconds=CALL_SECONDS)
    policy = replace(policy, retries=0)
    return plugin_storage(load_plugin_class(plugin), source, settings, policy)


async def _load(opened: Callable[[], UnderStorage]) -> str:
    storage = opened()
    try:
        if not isinstance(storage, UnderStorage):
            raise BrokenPromiseError("what it returns is no UnderStorage")
        if not storage.source_id or len(storage.identity) != 16:
            raise BrokenPromiseError("source_id is empty, or identity has not 16 bytes")
        await storage.stat("")
    finally:
        await storage.close()
    return ""


async def _clauses(
    lines: _Lines,
    storage: UnderStorage,
    bed: TestBed,
    opened: Callable[[dict[str, str] | None], UnderStorage],
) -> None:
    for clause in CLAUSES:
        check = clause.check
        outcome = await _tried(lines, clause.promise, clause.cure, lambda c=check: c(storage, bed))  # type: ignore[misc]  # bound at once
        if outcome.cure == HANGING_CURE:
            return  # each clause that follows would wait as long
    await _tried(lines, REFUSAL, REFUSAL_CURE, lambda: refuses_wrong_secrets(opened, bed))
    await _tried(
        lines,
        "source and identity name no secret",
        "Leave secrets out of source_id; use fluidpy's identity_digest for the identity.",
        lambda: _names_no_secret(storage, bed),
    )


async def _names_no_secret(storage: UnderStorage, bed: TestBed) -> str:
    shown = f"{storage.source_id} {storage!r} {getattr(storage, '_fs', None)!r}"
    if any(secret and secret in shown for secret in bed.all_secrets):
        raise BrokenPromiseError("source_id or repr shows a secret")
    return ""


async def _tried(
    lines: _Lines, promise: str, cure: str, check: Callable[[], Awaitable[str]]
) -> Outcome:
    lines.say(begins=promise)
    began = time.monotonic()
    outcome = await _outcome(promise, cure, check)
    outcome = replace(outcome, seconds=time.monotonic() - began)
    lines.say(outcome=outcome.to_wire())
    return outcome


async def _outcome(promise: str, cure: str, check: Callable[[], Awaitable[str]]) -> Outcome:
    try:
        async with asyncio.timeout(CLAUSE_SECONDS):
            said = await check()
    except BrokenPromiseError as error:
        return Outcome(promise, Result.FAILED, str(error), cure)
    except NothingToTestError as error:
        return Outcome(promise, Result.LEFT_OUT, str(error))
    except AllowedError as error:
        return Outcome(promise, Result.WARNED, str(error), cure)
    except TimeoutError as error:
        said = error.message if isinstance(error, FluidpyError) else "a call did not return"
        return Outcome(promise, Result.FAILED, said, HANGING_CURE)
    except FluidpyError as error:
        return Outcome(promise, Result.FAILED, error.message, cure)
    except Exception as error:  # noqa: BLE001  # foreign code may raise anything; it is reported
        said = f"{type(error).__name__} was raised: {error}"
        return Outcome(promise, Result.FAILED, said, cure)
    return Outcome(promise, Result.PASSED, said)


async def _fingerprint(storage: UnderStorage) -> dict[str, str]:
    """What cache keys are made of: it has to be the same in each process."""
    found = {"source_id": storage.source_id, "identity": storage.identity.hex()}
    for path in TREE:
        found[path] = (await storage.stat(path)).version.hex()
    return found


async def _read_on(lines: _Lines, storage: UnderStorage) -> None:
    """Reads until somebody ends the process."""
    while True:
        for path, data in TREE.items():
            await storage.read(path, 0, len(data), b"")
        lines.say(reading=True)


if __name__ == "__main__":
    sys.exit(main())
