"""How many bytes of given objects a store has, read from its index beside the store's owner."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from fluidpy.errors import CacheError

_LOCK_SECONDS: Final = 1.0
"""How long a statement waits for a lock; readers of a WAL database need none in the usual case."""


class CachedSizes:
    """Reads the index at `path`; a context manager, for one thread. Raises CacheError."""

    def __init__(self, path: Path) -> None:
        """Opens the index; it must be there."""
        self._path = path
        try:
            self._connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode=ro",
                uri=True,
                timeout=_LOCK_SECONDS,
                check_same_thread=False,
            )
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._connection.close()

    def bytes_of(self, sizes: Mapping[bytes, int]) -> int:
        """The cached bytes of some hundred objects, given by key and size, without copies of what
        another worker keeps.

        An object's files take whole pages; no object counts for more than its size.
        """
        marks = ",".join("?" * len(sizes))
        statement = (
            f"SELECT key, sum(bytes) FROM file WHERE key IN ({marks}) AND last_use >= 0"
            " GROUP BY key"
        )
        try:
            rows = self._connection.execute(statement, list(sizes)).fetchall()
        except sqlite3.Error as error:
            raise self._failed(error) from error
        return sum(min(taken, sizes[key]) for key, taken in rows)

    def _failed(self, error: Exception) -> CacheError:
        return CacheError(
            f"cache index {self._path} cannot be read: {error}",
            cure="Check the disk's space and health; the index is rebuilt when the worker starts.",
        )
