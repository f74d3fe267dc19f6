"""Which node id an entry gets: `2 × row`, or one more when its cache file is passed through.

Two ids, since the kernel opens one inode in one way only. A name leads to the second one only while
an open of it is sure to succeed: `open` fails for good when the kernel is told ESTALE twice.
"""

from __future__ import annotations

from collections.abc import Callable, Container

from fluidpy.client.protocol import EntryTuple
from fluidpy.fuse.attributes import node_of_row
from fluidpy.fuse.kernel import ROOT_ID
from fluidpy.storage.under_storage import Kind

_FILE = int(Kind.FILE)


def is_passed_through(node: int) -> bool:
    """Whether a node id stands for a file that the kernel reads by itself."""
    return node & 1 == 1 and node != ROOT_ID


def passed_through(row: int) -> int:
    """The node id of a row whose cache file the kernel reads by itself."""
    return 2 * row + 1


class NodeIds:
    """Chooses node ids; until passthrough is on, all are plain ones."""

    def __init__(self) -> None:
        """Plain ids only."""
        self.backed: Container[int] = ()
        """Rows with a backing id: what a folder's listing goes by."""
        self._offer: Callable[[EntryTuple], bool] | None = None

    def pass_through(self, backed: Container[int], offer: Callable[[EntryTuple], bool]) -> None:
        """From now on files are passed through. `offer` says of an entry that is looked up whether
        its next open can be.
        """
        self.backed = backed
        self._offer = offer

    def of_lookup(self, entry: EntryTuple) -> int:
        """The node id for an entry that was looked up by name."""
        if self._offer is not None and entry[3] == _FILE and self._offer(entry):
            return passed_through(entry[0])
        return node_of_row(entry[0])
