"""All runtimes of this machine that need processes of their own: a keeper for each.

They outlive the control plane. The next one takes them over, and ends those that nobody wants.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from fluidpy.control.runtime_keeper import (
    PAUSES,
    Assignment,
    RuntimeKeeper,
    directory_of,
    place_of,
    remove_unmounted,
)
from fluidpy.errors import FluidpyError
from fluidpy.runtime.driver import RuntimeState
from fluidpy.settings import Settings

_log = logging.getLogger(__name__)

THREADS: Final = 16
"""Blocking calls under way at once: looks are short, an end may wait for a program."""


@dataclass(frozen=True, slots=True)
class _FailedEnd:
    """A keeper that did not end is tried again, after a pause."""

    times: int
    not_before: float
    """On the monotonic clock."""
    why: str


class RuntimeExecutor:
    """Carries out what is wanted of runtimes; nothing here blocks but `close`."""

    def __init__(self, settings: Settings, on_change: Callable[[], None]) -> None:
        """Looks for what an earlier control plane has left at the first `want`."""
        self._settings, self._on_change = settings, on_change
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="runtime")
        self._keepers: dict[str, RuntimeKeeper] = {}
        self._ending: dict[str, asyncio.Task[None]] = {}
        self._last: dict[str, RuntimeKeeper] = {}
        """Keepers of those that are ending."""
        self._failed_ends: dict[str, _FailedEnd] = {}
        self._deleted: dict[str, Assignment | None] = {}
        self._looked = False

    def want(
        self,
        wanted: Mapping[str, Assignment],
        *,
        unknown: Collection[str] = (),
        deleted: Mapping[str, Assignment | None] = MappingProxyType({}),
    ) -> None:
        """Has these runtimes run, by `namespace/name` of their Datasets, and no others.

        Of `unknown` ones it cannot be said how they are to run: they go on as they do. Of `deleted`
        ones nothing is to stay, also of what an earlier control plane has left.
        """
        self._deleted = dict(deleted)
        if not self._looked:
            self._looked = True
            for key in self._left(deleted):
                if key not in wanted:
                    self._keepers[key] = self._keeper(key)
        for key in self._failed_ends.keys() & wanted.keys() & self._keepers.keys():
            del self._failed_ends[key]
            self._keepers[key] = self._keeper(key)  # what has begun to end keeps nothing running
        for key in self._keepers.keys() - wanted.keys() - set(unknown):
            failed = self._failed_ends.get(key)
            if failed is not None and time.monotonic() < failed.not_before:
                continue
            self._last[key] = keeper = self._keepers.pop(key)
            self._ending[key] = asyncio.get_running_loop().create_task(self._end(key, keeper))
        for key, assignment in wanted.items():
            if key in self._ending:
                continue  # it is begun once it has ended
            if key not in self._keepers:
                self._keepers[key] = self._keeper(key)
            self._keepers[key].want(assignment)

    def state(self, key: str) -> RuntimeState | None:
        """What is seen of a runtime; None of one that is not kept here."""
        keeper = self._keepers.get(key)
        return None if keeper is None else keeper.state

    def is_there(self, key: str) -> bool:
        """Whether anything of a runtime is left."""
        return key in self._keepers or key in self._ending

    def why_not_ended(self, key: str) -> str:
        """What keeps a runtime from ending; empty while nothing is known to."""
        failed = self._failed_ends.get(key)
        return "" if failed is None else failed.why

    @property
    def stop_seconds(self) -> float:
        """How long the programs of a runtime may take to end, at most, when all are stopped."""
        keepers = (*self._keepers.values(), *self._last.values())
        return max((keeper.stop_seconds for keeper in keepers), default=0.0)

    async def close(self, *, stop: bool) -> None:
        """Lets go of all runtimes; with `stop` they end."""
        for task in list(self._ending.values()):
            await asyncio.gather(task, return_exceptions=True)
        keepers = list(self._keepers.values())
        acts = (one.end(teardown=False) if stop else one.leave() for one in keepers)
        for one in await asyncio.gather(*acts, return_exceptions=True):
            if isinstance(one, BaseException):
                _log.error("a runtime does not end: %s", one)
        self._threads.shutdown(wait=False)

    def _keeper(self, key: str) -> RuntimeKeeper:
        directory = directory_of(self._settings.runtime_dir, key)
        return RuntimeKeeper(key, directory, self._threads, self._on_change)

    def _left(self, deleted: Collection[str]) -> list[str]:
        """What an earlier control plane has left, and of deleted ones what it has not removed."""
        root = self._settings.runtime_dir / "runtimes"
        found = {f"{one.parent.name}/{one.name}" for one in root.glob("*/*") if one.is_dir()}
        return sorted(found | {key for key in deleted if self._cache_of(key).is_dir()})

    def _cache_of(self, key: str) -> Path:
        return place_of(self._settings.runtime_dir, self._settings.state_dir, key).cache

    async def _end(self, key: str, keeper: RuntimeKeeper) -> None:
        try:
            await keeper.end(teardown=True, last=self._deleted.get(key))
            if key in self._deleted:
                await asyncio.to_thread(remove_unmounted, self._cache_of(key))
        except Exception as error:  # noqa: BLE001 - a foreign driver may raise anything
            self._keepers[key] = keeper
            self._try_again(key, error)
        else:
            self._failed_ends.pop(key, None)
        finally:
            del self._ending[key], self._last[key]
            self._on_change()

    def _try_again(self, key: str, error: Exception) -> None:
        failed = self._failed_ends.get(key)
        times = 1 if failed is None else failed.times + 1
        pause = PAUSES[min(times, len(PAUSES)) - 1]
        unforeseen = None if isinstance(error, FluidpyError | OSError) else error
        why = str(error) if unforeseen is None else repr(error)
        self._failed_ends[key] = _FailedEnd(times, time.monotonic() + pause, why)
        asyncio.get_running_loop().call_later(pause, self._on_change)
        _log.error(
            "the runtime of %s does not end, and is tried again in %g s: %s",
            key,
            pause,
            why,
            exc_info=unforeseen,
        )
