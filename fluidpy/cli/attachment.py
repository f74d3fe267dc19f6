"""Asking the worker about one Dataset, for commands that steer it rather than read files."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from fluidpy.client import protocol
from fluidpy.client.connection import LostConnectionError

if TYPE_CHECKING:
    from fluidpy.client.session import DatasetSession

ANSWER_SECONDS: Final = 120.0
"""Longest wait for an answer that needs at most a few requests to the source."""

RESUMES: Final = 3
"""How often an operation is asked again after its worker ended."""


def ask(
    session: DatasetSession,
    operation: str,
    *,
    deadline: float = ANSWER_SECONDS,
    on_progress: Callable[[protocol.Message], None] | None = None,
    on_resume: Callable[[], None] = lambda: None,
    **fields: Any,
) -> protocol.Message:
    """The worker's answer; asked again of a new worker when the old one ended.

    Only for operations that may be repeated. `deadline` is in seconds, for each try. Raises
    what the worker reports, and LostConnectionError when workers keep ending.
    """
    for attempt in range(RESUMES + 1):
        attachment = session.attachment()
        try:
            ok, fds = session.connection.call(
                operation,
                deadline=deadline,
                generation=attachment.generation,
                on_progress=on_progress,
                dataset=attachment.dataset,
                **fields,
            )
        except LostConnectionError:
            if attempt == RESUMES:
                raise
            on_resume()
        else:
            protocol.close_all(fds)
            return ok
    raise AssertionError("unreachable: the last attempt returns or raises")
