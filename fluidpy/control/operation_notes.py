"""What is told of data operations: their statuses, not too often, and each event once."""

from __future__ import annotations

import time
from typing import Final

from fluidpy.api.conditions import OperationPhase
from fluidpy.api.kinds import KINDS
from fluidpy.api.operations import OperationStatus
from fluidpy.api.serialisation import to_dict
from fluidpy.control.event_log import EventLog
from fluidpy.control.events import Event
from fluidpy.control.object_lifecycle import Document, ObjectKey
from fluidpy.control.object_store import ObjectStore
from fluidpy.control.operation_ends import Carried

PROGRESS_SECONDS: Final = 1.0
"""Progress is noted this often at most, since each write is synced to the disk."""


class OperationNotes:
    """Writes statuses and events of the operations of one kind. For one thread."""

    def __init__(self, store: ObjectStore, events: EventLog) -> None:
        """Has told nothing yet."""
        self._store, self._events = store, events
        self._noted: dict[ObjectKey, float] = {}
        self._told: dict[ObjectKey, tuple[str, str]] = {}

    def tell(self, key: ObjectKey, event: Event) -> None:
        """Says a thing once, however often it is looked at."""
        if self._told.get(key) != (event.reason, event.message):
            self._told[key] = event.reason, event.message
            self._events.record(event)

    def note(self, key: ObjectKey, before: OperationStatus, after: OperationStatus) -> None:
        """Writes a status that has changed; one whose progress alone has, only now and then."""
        now = time.monotonic()
        status, old = to_dict(after), to_dict(before)
        if status == old:
            self._noted.setdefault(key, now)
            return
        hurry = _without_progress(status) != _without_progress(old)
        if hurry or now - self._noted.get(key, float("-inf")) >= PROGRESS_SECONDS:
            self._noted[key] = now
            self._store.set_status(key, status)

    def gone(self, seen: set[ObjectKey]) -> set[ObjectKey]:
        """Operations that were noted and are not among those `seen`; they are forgotten."""
        lost = self._noted.keys() - seen
        for key in lost:
            self._noted.pop(key, None)
            self._told.pop(key, None)
        return lost


def phase_before(store: ObjectStore, operation: Carried) -> OperationPhase | None:
    """The phase of the operation that this one waits for; None if that is not there, or none."""
    after = operation.spec.run_after
    if after is None:
        return None
    namespace = after.namespace or operation.namespace
    found = store.find(ObjectKey(KINDS[after.kind].plural, namespace, after.name))
    if found is None:
        return None
    phase: OperationPhase = found.get("status", {}).get("phase", "")
    return phase


def _without_progress(status: Document) -> Document:
    return {name: value for name, value in status.items() if name != "progress"}
