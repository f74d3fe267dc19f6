"""Which Datasets' moves between workers come no further, so that others need not wait (pure)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

STALLED_SECONDS: Final = 600.0
"""How long data that is to move may come no further before the next change waits for it no longer.
Those who ask a worker that is gone give it up within seconds; this is for those that cannot ask."""


class MoveWatch:
    """Follows the moves of all Datasets; one that takes long is left alone while bytes come."""

    def __init__(self) -> None:
        """Nothing moves."""
        self._since: dict[str, float] = {}
        self._moved_bytes = 0

    def stalled(self, moving: Collection[str], moved_bytes: int, now: float) -> frozenset[str]:
        """Those of `moving` during whose wait nothing moved for too long.

        `moved_bytes` are those of all workers, as they tell them; `now` is in seconds, of a clock
        that never goes back.
        """
        if moved_bytes != self._moved_bytes:
            self._moved_bytes = moved_bytes
            self._since.clear()
        self._since = {key: self._since.get(key, now) for key in moving}
        return frozenset(k for k, since in self._since.items() if now - since > STALLED_SECONDS)
