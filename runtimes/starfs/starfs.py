"""`starfs://CLUSTER/PATH`: StarFS by a client that is named by the mount.

The client is a module with `connect(root, token)`; what it returns has `stat(path)` (as os.stat),
`listdir(path)` and `read(path, start, size)`, may be used by many threads, and raises OSError.
"""

import importlib
import stat
from typing import ClassVar

from fsspec import AbstractFileSystem


class StarFileSystem(AbstractFileSystem):
    """Files of one cluster."""

    protocol: ClassVar[str] = "starfs"

    def __init__(self, client="starfs_posix", root="/", token=None, **options):
        super().__init__(**options)
        self._client = importlib.import_module(client).connect(root, token)

    def info(self, path, **_):
        """Type, size and time of change of a path."""
        seen = self._client.stat(self._inside(path))
        kind = "directory" if stat.S_ISDIR(seen.st_mode) else "file"
        name = self._strip_protocol(path)
        return {"name": name, "type": kind, "size": seen.st_size, "mtime_ns": seen.st_mtime_ns}

    def ls(self, path, detail=True, **_):
        """The entries of a folder."""
        names = self._client.listdir(self._inside(path))
        paths = [f"{self._strip_protocol(path)}/{name}" for name in names]
        return [self.info(one) for one in paths] if detail else paths

    def cat_file(self, path, start=None, end=None, **_):
        """The bytes [start, end)."""
        start = start or 0
        return self._client.read(self._inside(path), start, -1 if end is None else end - start)

    def _inside(self, path):
        """A path without the cluster's name."""
        return self._strip_protocol(path).partition("/")[2]
