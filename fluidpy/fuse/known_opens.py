"""Answers to OPEN that stay right while the catalog stays as it is: it need not be asked again."""

from __future__ import annotations

from typing import Final

from fluidpy.namespace.catalog import CatalogReader

MOST_KNOWN: Final = 16384
"""Answers remembered, about 100 bytes each; with more of them all are forgotten."""


class KnownOpens:
    """Answers to opens of rows that were live in the catalog's state of this moment."""

    def __init__(self, catalog: CatalogReader) -> None:
        """None yet; the catalog stays the caller's."""
        self._catalog = catalog
        self._mark = b""
        self._answers: dict[int, bytes] = {}

    def get(self, row: int) -> bytes | None:
        """The answer noted for a row, unless something was committed to the catalog since."""
        mark = self._catalog.mark()
        if mark != self._mark:
            self._answers.clear()
            self._mark = mark
        return self._answers.get(row)

    def note(self, row: int, answer: bytes) -> None:
        """The row was found live by a look into the catalog after the last `get`."""
        if self._mark:
            if len(self._answers) >= MOST_KNOWN:
                self._answers.clear()
            self._answers[row] = answer

    def forget(self, row: int) -> None:
        """Another answer may be due though the row is live."""
        self._answers.pop(row, None)
