"""Storages that outlive the namespace they were opened for.

A namespace closes its storages when it ends. When a Dataset's definition changes, open handles
still read through the storages of the old namespace: so a namespace gets lent ones, whose `close`
only says that the borrower is done, and the lender closes them once no fill reads through them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from typing import Final

from fluidpy.settings import Settings
from fluidpy.storage.options import limits_of
from fluidpy.storage.under_storage import MountSource, StreamingStorage, UnderStorage
from fluidpy.worker.parts import MountLimits

_log = logging.getLogger(__name__)

CLOSE_SECONDS: Final = 5.0
"""How long a storage may take to close; the worker's upkeep waits for it."""


class LentStorage:
    """A storage passed on as it is, except that `close` gives it back.

    The calls are the inner storage's own bound methods, so that lending costs a read nothing.
    """

    def __init__(self, inner: UnderStorage, limits: MountLimits) -> None:
        """Lends `inner`; `limits` are its mount's, worked out once."""
        self.inner = inner
        self.limits = limits
        self.returned = False
        self.source_id = inner.source_id
        self.identity = inner.identity
        self.stat = inner.stat
        self.list = inner.list
        self.walk = inner.walk
        self.read = inner.read
        streams = inner if isinstance(inner, StreamingStorage) else None
        self.gives_pieces = streams is not None and streams.gives_pieces
        if streams is not None:
            self.read_pieces = streams.read_pieces

    async def close(self) -> None:
        """The borrower is done with it."""
        self.returned = True


class StorageLender:
    """Opens storages for namespaces and closes those that came back when nobody reads on."""

    def __init__(self, open_storage: Callable[[MountSource, Settings], UnderStorage]) -> None:
        """Opens nothing yet."""
        self._open_storage = open_storage
        self._lent: list[LentStorage] = []

    def lend(self, source: MountSource, settings: Settings) -> UnderStorage:
        """A lent storage of a mount; raises as `open_storage` does."""
        limits = limits_of(source)
        lent = LentStorage(
            self._open_storage(source, settings),
            MountLimits(
                limits.max_requests or settings.fetch_concurrency,
                limits.deadline_seconds or settings.source_deadline_seconds,
            ),
        )
        self._lent.append(lent)
        return lent

    async def close_returned(self, in_use: Collection[int] = ()) -> None:
        """Closes the storages that came back and whose `id` is not in use; failures are logged."""
        idle = [lent for lent in self._lent if lent.returned and id(lent) not in in_use]
        self._lent = [lent for lent in self._lent if lent not in idle]
        await asyncio.gather(*(_close(lent.inner) for lent in idle))


async def _close(storage: UnderStorage) -> None:
    """Closes one. Those of others may raise anything, or not end: nobody needs them any more."""
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await storage.close()
    except Exception as error:  # noqa: BLE001 - see above
        _log.warning("a storage of %s did not close well: %r", storage.source_id, error)
