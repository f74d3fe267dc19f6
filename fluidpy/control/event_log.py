"""Events kept among the objects, so that `get events` and `describe` show them after a restart."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from fluidpy.control.events import Event, record
from fluidpy.control.object_lifecycle import ObjectKey
from fluidpy.control.object_store import ObjectStore

EVENTS: Final = "events"

REPEAT_SECONDS: Final = 10.0
"""A repeat is counted at once and written this often, since each write is synced to the disk."""


class EventLog:
    """Records events in a store; bounded as `events.record` has it. For one thread."""

    def __init__(self, store: ObjectStore, clock: Callable[[], float] = time.time) -> None:
        """Takes up the events that are there; `clock` gives epoch seconds."""
        self._store = store
        self._clock = clock
        self._events = tuple(
            sorted(
                (Event.from_dict(one) for one in store.list_objects(EVENTS)),
                key=lambda event: event.last,
            )
        )
        self._written = {event.name: event.last for event in self._events}

    def record(self, event: Event) -> None:
        """Notes that something happened; events that are too old or too many leave."""
        before = {one.name: one for one in self._events}
        self._events = record(self._events, event)
        after = {one.name: one for one in self._events}
        for name in before.keys() - after.keys():
            self._written.pop(name, None)
            key = _key(before[name])
            if self._store.find(key) is not None:
                self._store.delete(key)
        newest = after[event.name]
        if newest.last - self._written.get(newest.name, float("-inf")) >= REPEAT_SECONDS:
            self._write(newest)

    def _write(self, event: Event) -> None:
        key, document = _key(event), event.to_dict()
        if self._store.find(key) is None:
            self._store.create(key, document)
        else:
            self._store.replace(key, document)
        self._written[event.name] = event.last


def _key(event: Event) -> ObjectKey:
    return ObjectKey(EVENTS, event.about.namespace, event.name)
