"""A set of row ids that costs a bit an id: what a walk of millions of files has seen."""

from __future__ import annotations

_BITS = 1 << 16


class RowIdSet:
    """Ids in pieces of 65,536, each made when first needed."""

    def __init__(self) -> None:
        """An empty set."""
        self._pieces: dict[int, bytearray] = {}

    def add(self, row_id: int) -> None:
        """Puts an id in."""
        piece = self._pieces.get(row_id >> 16)
        if piece is None:
            piece = self._pieces[row_id >> 16] = bytearray(_BITS // 8)
        piece[(row_id & 0xFFFF) >> 3] |= 1 << (row_id & 7)

    def __contains__(self, row_id: int) -> bool:
        """Whether the id was put in."""
        piece = self._pieces.get(row_id >> 16)
        return piece is not None and bool(piece[(row_id & 0xFFFF) >> 3] >> (row_id & 7) & 1)
