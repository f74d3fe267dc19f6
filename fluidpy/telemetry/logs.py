"""Plain log lines for the processes of fluidpy.

Library code only calls `logging.getLogger(__name__)`; a process calls `log_to_stderr` once, and
whoever starts it points stderr to a file. Lines name what happened to what, never a secret: errors
of `fluidpy.errors` carry none, and other values are not logged.
"""

from __future__ import annotations

import logging
import sys

LINE_FORMAT = "%(asctime)s %(levelname)s %(process)d %(name)s: %(message)s"


def log_to_stderr(level: int = logging.INFO) -> None:
    """Sends the records of all loggers to stderr, one line each; called again it sets the level."""
    root = logging.getLogger()
    root.setLevel(level)
    if any(isinstance(handler, _StderrHandler) for handler in root.handlers):
        return
    handler = _StderrHandler()
    handler.setFormatter(_OneLine(LINE_FORMAT))
    root.addHandler(handler)


class _StderrHandler(logging.StreamHandler):  # type: ignore[type-arg]  # not generic at run time
    """The handler of `log_to_stderr`, told apart from others' handlers by its class."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)


class _OneLine(logging.Formatter):
    """Keeps a record on one line, so that text from a source cannot forge lines of its own."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the base's name
        record.message = record.message.replace("\r", "\\r").replace("\n", "\\n")
        return super().formatMessage(record)
