"""Sizes of Datasets that nobody loaded: one worker lists the source once the Dataset is served.

As in Fluid by default, and as there not where `autoSync` is false; a metadata TTL of `never` says
the same. The listing is gentle: one request at a time, with a rest after each.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Mapping
from typing import Final, NamedTuple

from fluidpy.control.data_load import LoadStep, MemberRun
from fluidpy.control.data_loads import LoadPool
from fluidpy.control.demands import Wanted
from fluidpy.control.event_log import EventLog
from fluidpy.control.events import ObjectOfEvent, warning
from fluidpy.control.load_runs import LoadRuns
from fluidpy.control.object_lifecycle import ObjectKey
from fluidpy.control.observed import SourceTotals

_log = logging.getLogger(__name__)

AT_ONCE: Final = 4
"""Datasets whose sources are listed at a time."""

PAUSES: Final = (30.0, 300.0, 3600.0)
"""Seconds before a source is listed again that was not listed as a whole; the last one repeats."""

STEPS: Final = (LoadStep(("/",), 1, metadata_only=True, gently=True),)


class _Attempts(NamedTuple):
    """How often a definition's source was listed, and when it may be again."""

    digest: str
    number: int
    not_before: float


class MetadataSyncs:
    """Starts listings and sees them end; `look` is called about once a second, quickly done."""

    def __init__(
        self,
        pool: LoadPool,
        totals: Callable[[str], SourceTotals | None],
        events: EventLog,
        clock: Callable[[], float] = time.monotonic,
        runs: LoadRuns | None = None,
    ) -> None:
        """`totals` says what is known of a Dataset's source."""
        self._pool, self._totals, self._events, self._clock = pool, totals, events, clock
        self._runs = runs or LoadRuns()  # the end of one hurries nobody
        self._running: dict[str, str] = {}
        """Digests of definitions that are being listed, by Dataset."""
        self._attempts: dict[str, _Attempts] = {}

    def look(self, wanted: Mapping[str, Wanted], busy: Collection[str] = ()) -> None:
        """Looks at all Datasets; those in `busy` are listed by somebody else."""
        for key in list(self._running):
            self._look_at(key, wanted.get(key))
        for key in self._attempts.keys() - wanted.keys():
            del self._attempts[key]
        free = AT_ONCE - len(self._running)
        for key in sorted(wanted, key=lambda key: (self._number(key), key)) if free > 0 else ():
            if len(self._running) >= AT_ONCE:
                break
            if key not in busy and self._is_due(key, wanted[key]):
                self._start(key, wanted[key])

    def close(self) -> None:
        """Gives up what is under way."""
        self._runs.close()

    def _number(self, key: str) -> int:
        return self._attempts[key].number if key in self._attempts else 0

    def _is_due(self, key: str, wanted: Wanted) -> bool:
        definition, totals = wanted.definition, self._totals(key)
        if totals is None or totals.complete or definition is None:
            return False
        if wanted.deleting or key in self._running or definition.metadata_ttl_seconds == math.inf:
            return False
        known = self._attempts.get(key)
        if known is None or known.digest != definition.digest():
            return True
        return self._clock() >= known.not_before

    def _start(self, key: str, wanted: Wanted) -> None:
        ready = self._pool.ready_members_of(key)
        if not ready or wanted.definition is None:
            return
        digest = wanted.definition.digest()
        known = self._attempts.get(key)
        number = known.number + 1 if known is not None and known.digest == digest else 1
        self._attempts[key] = _Attempts(digest, number, math.inf)
        self._running[key] = digest
        access = self._pool.access_to(key, min(ready))
        self._runs.start(_place(key), min(ready), ready, access, STEPS)

    def _look_at(self, key: str, wanted: Wanted | None) -> None:
        """Sees whether a listing has ended, or is of no use any more."""
        run = next(iter(self._runs.of(_place(key)).values()), None)
        digest = None if wanted is None or wanted.definition is None else wanted.definition.digest()
        ended = run is None or run.finished or bool(run.error)
        is_of_use = wanted is not None and not wanted.deleting and digest == self._running[key]
        if not ended and is_of_use:
            return
        self._runs.forget(_place(key))
        del self._running[key]
        attempts = self._attempts[key]
        pause = PAUSES[min(attempts.number, len(PAUSES)) - 1]
        self._attempts[key] = attempts._replace(not_before=self._clock() + pause)
        if wanted is not None and run is not None and (why := _failure(run)):
            about = ObjectOfEvent.of(wanted.dataset.object)
            message = f"its sizes are not known, since its source was not listed: {why}"
            _log.warning("Dataset %s: %s", key, message)
            self._events.record(warning(about, "MetadataSyncFailed", message, time.time()))


def _place(key: str) -> ObjectKey:
    namespace, _, name = key.partition("/")
    return ObjectKey("datasets", namespace, name)


def _failure(run: MemberRun) -> str:
    """Why a listing is not whole; nothing when it is."""
    if run.error:
        return run.error
    return next((message for _, message in run.counts.failures), "")
