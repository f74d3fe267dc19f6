"""Events as objects of the store: what happened lately, counted, and never more than a few."""

from __future__ import annotations

from collections.abc import Callable

from fluidpy.control.api_server import EVENTS
from fluidpy.control.events import Event, record
from fluidpy.control.object_lifecycle import ObjectKey
from fluidpy.control.object_store import ObjectStore


class EventBook:
    """Writes events down; those of an earlier control plane are read back."""

    def __init__(self, store: ObjectStore, clock: Callable[[], float]) -> None:
        """`clock` gives epoch seconds."""
        self._store = store
        self.clock = clock
        kept = (Event.from_dict(one) for one in store.list_objects(EVENTS))
        self._events = tuple(sorted(kept, key=lambda event: event.last))

    def add(self, event: Event) -> None:
        """Notes an event, and forgets what is too old or too much."""
        before = {one.identity: one for one in self._events}
        self._events = record(self._events, event)
        after = {one.identity: one for one in self._events}
        for identity, one in after.items():
            if before.get(identity) == one:
                continue
            if self._store.find(_key(one)) is None:
                self._store.create(_key(one), one.to_dict())
            else:
                self._store.replace(_key(one), one.to_dict())
        for identity in before.keys() - after.keys():
            if self._store.find(_key(before[identity])) is not None:
                self._store.delete(_key(before[identity]))


def _key(event: Event) -> ObjectKey:
    return ObjectKey(EVENTS, event.about.namespace, event.name)
