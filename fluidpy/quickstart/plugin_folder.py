"""How other processes find a store of one's own: an entry point, as an installed package has it.

A package would say in its pyproject.toml:

    [project.entry-points."fsspec.specs"]
    archive = "my_package.archive_store:ArchiveFileSystem"

Here the same metadata is written into a folder that goes on PYTHONPATH, so that nothing stays
installed afterwards.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from pathlib import Path
from typing import Final

_METADATA: Final = """\
Metadata-Version: 2.1
Name: fluidpy-quickstart-archive
Version: 1.0
"""
_ENTRY_POINTS: Final = """\
[fsspec.specs]
archive = fluidpy.quickstart.archive_store:ArchiveFileSystem
"""


def announce_archive(folder: Path, environment: MutableMapping[str, str]) -> None:
    """Makes processes started with this environment know `archive://`."""
    information = folder / "fluidpy_quickstart_archive-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(_METADATA)
    (information / "entry_points.txt").write_text(_ENTRY_POINTS)
    known = environment.get("PYTHONPATH", "")
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(folder), known)))
