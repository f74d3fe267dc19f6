"""Loads under way: each worker's share is one request to it, waited for in a thread of its own."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

from fluidpy.client.connection import WorkerConnection
from fluidpy.client.protocol import Message, close_all
from fluidpy.client.session import DatasetSession
from fluidpy.control.data_load import LoadStep, MemberRun
from fluidpy.control.engine_load import EngineLoad
from fluidpy.control.load_progress import (
    NOTHING,
    MemberCounts,
    Sample,
    total,
    with_sample,
)
from fluidpy.control.object_lifecycle import ObjectKey
from fluidpy.control.runtime_keeper import Assignment
from fluidpy.errors import FluidpyError
from fluidpy.namespace.definition import DatasetDefinition
from fluidpy.settings import Settings

_log = logging.getLogger(__name__)

LOAD_SECONDS: Final = 14 * 24 * 3600.0
"""How long a share may take; each request to the source has a deadline of its own."""

RETRY_SECONDS: Final = 1.0
"""How long a share that failed is left alone before its worker is asked again."""


class WorkerAccess(NamedTuple):
    """How one worker is asked about a Dataset: the definition, and where its socket lies."""

    definition: DatasetDefinition
    settings: Settings
    engine: Assignment | None = None
    """The engine that fills its own cache, where one serves the Dataset."""


class _Share:
    """One worker's part of a load, and the thread that waits for it."""

    def __init__(
        self,
        run: MemberRun,
        access: WorkerAccess,
        steps: Sequence[LoadStep],
        on_change: Callable[[], None],
    ) -> None:
        self.run = run
        self._access = access
        self._steps = tuple(steps)
        self._on_change = on_change
        self._stopped = threading.Event()
        self._connection: WorkerConnection | None = None
        self._engine = _engine_load(access, steps)
        self.ended_at: float | None = None
        self._thread = threading.Thread(target=self._work, name=f"load-{run.member}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Gives the share up; its worker ends it when the connection has gone."""
        self._stopped.set()
        connection = self._connection
        if connection is not None:
            connection.close()
        if self._engine is not None:
            self._engine.stop()

    def join(self, seconds: float) -> None:
        """Waits for the thread's end."""
        self._thread.join(seconds)

    def _work(self) -> None:
        try:
            counts = self._load()
            self.run = replace(self.run, counts=counts, finished=True)
        except FluidpyError as error:
            self.run = replace(self.run, error=error.message)
        except Exception as error:  # noqa: BLE001 - a closed socket fails in any way; else it is told
            if not self._stopped.is_set():
                _log.error("a load failed in a way it should not", exc_info=error)
            self.run = replace(self.run, error=f"{type(error).__name__}: {error}")
        finally:
            self.ended_at = time.monotonic()
            self._on_change()

    def _load(self) -> MemberCounts:
        if self._engine is not None:
            return self._engine.run()
        session = DatasetSession(self._access.definition, self._access.settings)
        # Of its own: the shared one must not be closed when this load is given up.
        session.connection = self._connection = WorkerConnection(self._access.settings)
        done = NOTHING
        try:
            for step in self._steps:
                done = done.plus(MemberCounts.from_answer(self._ask(session, step, done)))
        finally:
            session.close()
            session.connection.close()
        return done

    def _ask(self, session: DatasetSession, step: LoadStep, done: MemberCounts) -> Message:
        def show(message: Message) -> None:
            self.run = replace(self.run, counts=done.plus(MemberCounts.from_answer(message)))

        attachment = session.attachment()
        fields: dict[str, Any] = {
            "dataset": attachment.dataset,
            "paths": list(step.paths),
            "metadata_only": step.metadata_only,
            "gently": step.gently,
            "owned": True,
            "replicas": step.replicas,
        }
        answer, fds = session.connection.call(
            "load",
            deadline=LOAD_SECONDS,
            generation=attachment.generation,
            on_progress=show,
            **fields,
        )
        close_all(fds)
        return answer


def _engine_load(access: WorkerAccess, steps: Sequence[LoadStep]) -> EngineLoad | None:
    """Names are listed by the worker, also where an engine has the bytes."""
    if access.engine is None or any(step.metadata_only for step in steps):
        return None
    return EngineLoad(access.engine, steps)


class LoadRuns:
    """The shares of all loads, by load and worker. Calls are quick; threads do the waiting."""

    def __init__(self, on_change: Callable[[], None] = lambda: None) -> None:
        """`on_change` is called in any thread when a share has ended."""
        self._on_change = on_change
        self._shares: dict[ObjectKey, dict[str, _Share]] = {}
        self._samples: dict[ObjectKey, tuple[Sample, ...]] = {}

    def of(self, load: ObjectKey) -> dict[str, MemberRun]:
        """What each worker does, or did, for a load."""
        return {name: share.run for name, share in self._shares.get(load, {}).items()}

    def samples(self, load: ObjectKey) -> tuple[Sample, ...]:
        """Bytes done of late, this moment's among them."""
        done = total(run.counts for run in self.of(load).values()).done_bytes
        sample = Sample(time.monotonic(), done)
        self._samples[load] = with_sample(self._samples.get(load, ()), sample)
        return self._samples[load]

    def may_start(self, load: ObjectKey, member: str) -> bool:
        """Whether a worker may be asked again: not in the second after its share failed."""
        share = self._shares.get(load, {}).get(member)
        if share is None:
            return True
        return share.ended_at is not None and time.monotonic() - share.ended_at >= RETRY_SECONDS

    def start(
        self,
        load: ObjectKey,
        member: str,
        pool: frozenset[str],
        access: WorkerAccess,
        steps: Sequence[LoadStep],
    ) -> None:
        """Asks a worker for its share."""
        self.stop(load, member)
        run = MemberRun(member, pool)
        self._shares.setdefault(load, {})[member] = _Share(run, access, steps, self._on_change)

    def stop(self, load: ObjectKey, member: str) -> None:
        """Gives a worker's share up, and forgets it."""
        if (share := self._shares.get(load, {}).pop(member, None)) is not None:
            share.stop()

    def forget(self, load: ObjectKey) -> None:
        """Gives a load up as a whole."""
        for member in list(self._shares.get(load, {})):
            self.stop(load, member)
        self._shares.pop(load, None)
        self._samples.pop(load, None)

    def close(self, seconds: float = 5.0) -> None:
        """Gives all up; waits `seconds` at most for the threads."""
        shares = [share for each in self._shares.values() for share in each.values()]
        for load in list(self._shares):
            self.forget(load)
        limit = time.monotonic() + seconds
        for share in shares:
            share.join(max(0.0, limit - time.monotonic()))
