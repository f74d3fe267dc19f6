"""Whom a fill belongs to, as far as it has to know."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from fluidpy.namespace.listing_flights import Located
    from fluidpy.telemetry.counters import Counters
    from fluidpy.worker.peer_reads import DatasetPeers


class Origin(Protocol):
    """Where an object belongs: whoever counts its requests and refreshes it when it changed."""

    counters: Counters

    @property
    def peers(self) -> DatasetPeers | None:
        """The other workers that keep the Dataset; None where there are none."""
        ...

    def source_changed(self, located: Located) -> None:
        """The object at its source is another version than the one in use."""
        ...
