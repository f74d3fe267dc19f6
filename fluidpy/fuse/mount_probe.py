"""Asking a mount something that it may never answer."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from typing import Final

PROBE_SECONDS: Final = 5.0
"""How long a mount that is there already may take to answer one `statvfs`."""

DEAD: Final = frozenset({errno.ENOTCONN, errno.ECONNABORTED})
"""What a FUSE mount without its server answers."""


def probe(action: Callable[[], object], seconds: float) -> OSError | None:
    """Does something that may hang, in a thread; the error, or a time-out as one, or None."""
    outcome: list[OSError | None] = []

    def work() -> None:
        try:
            action()
        except OSError as error:
            outcome.append(error)
        else:
            outcome.append(None)

    thread = threading.Thread(target=work, name="mount-probe", daemon=True)
    thread.start()
    thread.join(max(0.0, seconds))
    return outcome[0] if outcome else TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
