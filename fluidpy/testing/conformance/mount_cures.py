"""What the author of a mount plug-in should do about a clause that storage plug-ins share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fluidpy.testing.conformance import storage_clauses as clauses
from fluidpy.testing.conformance.storage_clauses import Clause

_LISTS = "List all that the store holds, each name once; look for the client's option that hides."
_STAT = "Let stat tell the size that reading gives, and S_IFDIR for folders alone."
_READS = "Let read give the bytes of the store, all that were asked for up to the end of the file."
_CACHES = (
    "Switch the client's own caches off, of attributes, names and listings (libfuse: "
    "attr_timeout=0,entry_timeout=0); the worker in front of it keeps what is read."
)
_TIMES = (
    "Let stat tell the same st_mtime and st_ctime as long as the file does not change, never the "
    "time of the question."
)

_CURES: Final[Mapping[Any, str]] = {
    clauses.lists_children: _LISTS,
    clauses.many_files: _LISTS,
    clauses.knows_folders: _STAT,
    clauses.tells_sizes: _STAT,
    clauses.listing_and_stat_agree: _TIMES,
    clauses.reads_whole_files: _READS,
    clauses.reads_ranges: _READS,
    clauses.past_the_end_is_an_error: _STAT,
    clauses.many_readers: _READS,
    clauses.what_is_not_there: "Answer ENOENT for a path that is not there.",
    clauses.versions_last: _TIMES,
    clauses.versions_change: _CACHES,
    clauses.sees_new_files: _CACHES,
}


def cure_of(clause: Clause) -> str:
    """What to do when the clause is not kept."""
    return _CURES.get(clause.check, clause.cure)
