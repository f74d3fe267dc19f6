"""Whether two looks at a file were at the same bytes."""

from __future__ import annotations

import os

from fluidpy.client.protocol import RemoteEntry
from fluidpy.errors import SourceChangedError


def version_of(entry: RemoteEntry) -> tuple[bytes, int, int]:
    """What must be equal for two entries to have the same bytes.

    Size and time count too: the version is empty where the source has none. A volatile version
    and the one it becomes once it lasts name the same bytes.
    """
    from fluidpy.storage.under_storage import VOLATILE

    return entry.version.removeprefix(VOLATILE), entry.size, entry.mtime_ns


def gone(entry: RemoteEntry) -> SourceChangedError:
    """What is raised for a file whose open version is there no longer."""
    return SourceChangedError(
        f"{os.fsdecode(entry.name)} changed at its source since it was opened",
        cure="Open it again to read the new version.",
    )
