"""How the objects lie in diskcache's database: texts as keys, bytes as values, and nothing else.

diskcache unpickles what its rows say is pickled, so that whoever can write the database runs code
in whoever reads it (CVE-2025-69872); rows may also name files anywhere. Here both are refused.
"""

from __future__ import annotations

import sqlite3
from typing import Any, Final

from diskcache import Disk
from diskcache.core import MODE_RAW

from fluidpy.errors import ControlPlaneError

_CURE: Final = (
    "Somebody else wrote it: move the folder `objects` of FLUIDPY_STATE_DIR away, and apply again."
)


class PlainRowsDisk(Disk):  # type: ignore[misc]  # diskcache has no types
    """Rows of a text and of bytes, both inside the database; everything else is an error."""

    def put(self, key: Any) -> tuple[str, bool]:
        """The key as the database has it. Raises TypeError for anything but text."""
        if type(key) is not str:
            raise TypeError(f"a key is {type(key).__name__}, not a text")
        return key, True

    def get(self, key: Any, raw: Any) -> str:
        """The key of a row. Raises ControlPlaneError when it is not a plain text."""
        if not raw or type(key) is not str:
            raise ControlPlaneError("a key of the object store is no plain text", cure=_CURE)
        return key

    def store(self, value: Any, read: Any, key: Any = None) -> tuple[int, int, None, Any]:
        """Size, mode, file and value of a row. Raises TypeError for anything but bytes."""
        if type(value) is not bytes or read:
            raise TypeError(f"a value is {type(value).__name__}, not bytes")
        return 0, MODE_RAW, None, sqlite3.Binary(value)

    def fetch(self, mode: Any, filename: Any, value: Any, read: Any) -> bytes:
        """The value of a row. Raises ControlPlaneError when it is not plain bytes in the row."""
        if mode != MODE_RAW or filename is not None or type(value) is not bytes or read:
            raise ControlPlaneError("a row of the object store is no plain bytes", cure=_CURE)
        return value
