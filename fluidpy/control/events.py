"""Events: what happened to which object, as Kubernetes keeps them. Pure.

Repeats of one event are counted in one object, and there are never more than a bounded number, so
that nothing that happens again and again fills a disk.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, Self

from fluidpy.api.metadata import Resource
from fluidpy.control.moments import seconds_of, timestamp

EVENTS_AN_OBJECT: Final = 25
"""Events kept of one object; the oldest leave first."""

EVENTS: Final = 5000
"""Events kept in all."""

KEPT_SECONDS: Final = 3600.0
"""How long an event is kept after it last happened; Kubernetes' default (`--event-ttl`)."""

LONGEST_MESSAGE: Final = 1024
"""Characters of a message; Kubernetes' limit (core/v1 Event)."""

COMPONENT: Final = "fluidpy-control"


@dataclass(frozen=True, slots=True)
class ObjectOfEvent:
    """The object an event is about."""

    kind: str
    namespace: str
    name: str
    uid: str = ""
    api_version: str = "data.fluid.io/v1alpha1"

    @classmethod
    def of(cls, resource: Resource) -> Self:
        """The reference to an object."""
        return cls(
            resource.kind,
            resource.namespace,
            resource.name,
            resource.metadata.uid or "",
            resource.api_version,
        )


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened `count` times between `first` and `last` (epoch seconds)."""

    about: ObjectOfEvent
    type: Literal["Normal", "Warning"]
    reason: str
    message: str
    first: float
    last: float
    count: int = 1

    @property
    def identity(self) -> tuple[ObjectOfEvent, str, str, str]:
        """What makes two events the same one, repeated."""
        return self.about, self.type, self.reason, self.message

    @property
    def name(self) -> str:
        """A name unique in the namespace, the same for repeats."""
        digest = hashlib.blake2b(repr(self.identity).encode(), digest_size=8).hexdigest()
        return f"{self.about.name}.{digest}"

    def to_dict(self) -> dict[str, Any]:
        """The event as core/v1 `Event`."""
        about = self.about
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": self.name,
                "namespace": about.namespace,
                "creationTimestamp": timestamp(self.first),
            },
            "involvedObject": {
                "apiVersion": about.api_version,
                "kind": about.kind,
                "namespace": about.namespace,
                "name": about.name,
                "uid": about.uid,
            },
            "type": self.type,
            "reason": self.reason,
            "message": self.message,
            "count": self.count,
            "firstTimestamp": timestamp(self.first),
            "lastTimestamp": timestamp(self.last),
            "source": {"component": COMPONENT},
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Self:
        """The event that `to_dict` wrote, to the second."""
        about = value["involvedObject"]
        return cls(
            ObjectOfEvent(
                about["kind"],
                about["namespace"],
                about["name"],
                about.get("uid", ""),
                about.get("apiVersion", ""),
            ),
            "Warning" if value["type"] == "Warning" else "Normal",
            value["reason"],
            value["message"],
            seconds_of(value["firstTimestamp"]),
            seconds_of(value["lastTimestamp"]),
            int(value.get("count", 1)),
        )


def normal(about: ObjectOfEvent, reason: str, message: str, now: float) -> Event:
    """Something that was to be expected."""
    return Event(about, "Normal", reason, _bounded(message), now, now)


def warning(about: ObjectOfEvent, reason: str, message: str, now: float) -> Event:
    """Something that a person should know of."""
    return Event(about, "Warning", reason, _bounded(message), now, now)


def _bounded(message: str) -> str:
    short = len(message) <= LONGEST_MESSAGE
    return message if short else message[: LONGEST_MESSAGE - 1] + "…"


def record(events: Sequence[Event], new: Event) -> tuple[Event, ...]:
    """The events with another one, oldest first: a repeat is counted, the oldest leave."""
    kept = [one for one in events if new.last - one.last < KEPT_SECONDS]
    again = next((one for one in kept if one.identity == new.identity), None)
    if again is not None:
        kept.remove(again)
        last = max(again.last, new.last)
        new = replace(new, first=again.first, last=last, count=again.count + new.count)
    kept.append(new)
    own = [one for one in kept if one.about == new.about]
    for surplus in own[:-EVENTS_AN_OBJECT]:
        kept.remove(surplus)
    return tuple(kept[-EVENTS:])
