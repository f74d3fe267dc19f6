"""Every way fsspec has to change a file system, refused with EROFS.

`WRITING_METHODS` are refused as they are called; `WRITING_COROUTINES` when they are awaited.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Final

from fluidpy.errors import ReadOnlyDatasetError

WRITING_METHODS: Final = (
    "copy",
    "cp",
    "cp_file",
    "delete",
    "end_transaction",
    "makedir",
    "makedirs",
    "mkdir",
    "mkdirs",
    "move",
    "mv",
    "mv_file",
    "pipe",
    "pipe_file",
    "put",
    "put_file",
    "rename",
    "rm",
    "rm_file",
    "rmdir",
    "start_transaction",
    "touch",
    "upload",
    "write_bytes",
    "write_text",
)

WRITING_COROUTINES: Final = (
    "_copy",
    "_cp_file",
    "_makedirs",
    "_mkdir",
    "_mv_file",
    "_pipe",
    "_pipe_file",
    "_put",
    "_put_file",
    "_rm",
    "_rm_file",
    "_rmdir",
    "_touch",
)


def read_only_error(what: str, path: object = "") -> ReadOnlyDatasetError:
    """The error of a write: what was tried, on what."""
    target = f" of {path}" if isinstance(path, str) and path else ""
    return ReadOnlyDatasetError(
        f"`{what}`{target} was refused: a Dataset is read-only",
        cure="Write to the source itself; readers see it after the next metadata sync.",
    )


class ReadOnly:
    """A mix-in for a file system class, before fsspec's own base; holds the refusals only."""


def _refusal(name: str) -> Callable[..., Any]:
    def refuse(self: ReadOnly, path: object = "", *_: Any, **__: Any) -> Any:
        raise read_only_error(name, path)

    refuse.__name__ = name
    refuse.__doc__ = "Raises ReadOnlyDatasetError (EROFS)."
    return refuse


def _awaited_refusal(name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
    async def refuse(self: ReadOnly, path: object = "", *_: Any, **__: Any) -> Any:
        raise read_only_error(name.lstrip("_"), path)

    refuse.__name__ = name
    refuse.__doc__ = "Raises ReadOnlyDatasetError (EROFS)."
    return refuse


for _name in WRITING_METHODS:
    setattr(ReadOnly, _name, _refusal(_name))
for _name in WRITING_COROUTINES:
    setattr(ReadOnly, _name, _awaited_refusal(_name))
