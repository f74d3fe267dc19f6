"""`UPath("fluid://DATASET/PATH")`: universal-pathlib's entry point.

Loading this registers the file system class with fsspec, because universal-pathlib takes its rules
for paths (how they join, what their parents are) from the registered class, and else warns.
"""

from __future__ import annotations

from fsspec import register_implementation
from upath import UPath

from fluidpy.filesystem import FluidFileSystem

register_implementation("fluid", FluidFileSystem, clobber=True)


class FluidPath(UPath):
    """A path in a Dataset: joins, `parent`, `iterdir`, `glob`, `open`, `read_bytes`, read-only."""

    __slots__ = ()
