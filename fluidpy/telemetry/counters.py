"""The table of counters, and a set of them for each Dataset.

A counter is declared once, in `COUNTERS`, with its meaning; every other place uses its name. They
count what reaches the worker: hits that the kernel's page cache or a client's open file serves are
invisible here, so ratios made of them are estimates.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

COUNTERS: Final[Mapping[str, str]] = {
    "opens": "files opened",
    "hits": "reads answered at once from the cache",
    "misses": "reads that made a request to the source",
    "waits": "reads that waited for a request somebody else had made",
    "bytes_from_cache": "bytes of reads that were answered at once",
    "bytes_from_source": "bytes fetched from the source",
    "source_reads": "read requests made to the source",
    "bytes_not_kept": "bytes fetched that the cache did not keep",
    "read_ahead_bytes": "bytes planned ahead of readers",
    "read_ahead_used_bytes": "bytes planned ahead that were read later",
    "read_ahead_wasted_bytes": "bytes planned ahead of a reader that went away first",
    "peer_reads": "read requests answered by other workers",
    "bytes_from_owner": "bytes that came from the worker that owns them",
    "bytes_from_replica": "bytes that came from another worker that keeps them",
    "bytes_from_former_owner": "bytes that came from a worker that owned them before a change",
    "bytes_fetched_for_peers": "bytes fetched from the source because another worker wanted them",
    "peers_absent": "requests to workers that did not have what was asked for",
    "peers_slow": "requests to workers given up because no answer came in time",
    "peers_failed": "requests to workers that failed",
    "peers_left_out": "workers passed over because they had failed lately",
    "hedged_reads": "second requests made because the first worker was slow",
    "hedges_won": "second requests whose answer came first",
    "source_after_peers": "requests to the source after other workers were asked in vain",
    "loaded_files": "files fetched by loads",
    "loaded_bytes": "bytes fetched by loads",
}
"""Every counter: name and meaning. Units are in the names; others are plain numbers of events."""


class Counters:
    """The counters of one Dataset; plain integers, for one thread."""

    __slots__ = (*COUNTERS, "errors")

    opens: int
    hits: int
    misses: int
    waits: int
    bytes_from_cache: int
    bytes_from_source: int
    source_reads: int
    bytes_not_kept: int
    read_ahead_bytes: int
    read_ahead_used_bytes: int
    read_ahead_wasted_bytes: int
    peer_reads: int
    bytes_from_owner: int
    bytes_from_replica: int
    bytes_from_former_owner: int
    bytes_fetched_for_peers: int
    peers_absent: int
    peers_slow: int
    peers_failed: int
    peers_left_out: int
    hedged_reads: int
    hedges_won: int
    source_after_peers: int
    loaded_files: int
    loaded_bytes: int
    errors: dict[str, int]

    def __init__(self) -> None:
        """All zero."""
        for name in COUNTERS:
            setattr(self, name, 0)
        self.errors = {}

    def count_error(self, kind: str) -> None:
        """Counts one failure under the name of its class."""
        self.errors[kind] = self.errors.get(kind, 0) + 1

    def to_wire(self) -> dict[str, int | dict[str, int]]:
        """All values by name, and `errors` by class."""
        values: dict[str, int | dict[str, int]] = {name: getattr(self, name) for name in COUNTERS}
        values["errors"] = dict(self.errors)
        return values


def total(counters: Iterable[Counters]) -> Counters:
    """The sum of several sets of counters."""
    result = Counters()
    for each in counters:
        for name in COUNTERS:
            setattr(result, name, getattr(result, name) + getattr(each, name))
        for kind, number in each.errors.items():
            result.errors[kind] = result.errors.get(kind, 0) + number
    return result
