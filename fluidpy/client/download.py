"""Copying an open file of a Dataset to a local file or stream."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, BinaryIO, Final

from fluidpy.client.file import ASK_BYTES, ObjectReader

_SUFFIX: Final = ".fluid-part"
"""What the name of an unfinished copy ends with."""


def copy_to_path(reader: ObjectReader, target: Any, progress: Callable[[int], None]) -> None:
    """Copies to a local path, whole or not at all: it is written aside and renamed at the end.

    A device or a pipe, such as /dev/null, is written to and stays what it is. `progress` is told of
    each piece's bytes. Raises OSError for the target, and as reading does.
    """
    path = os.fspath(target)
    if os.path.isdir(path):  # noqa: PTH112 - may be str or bytes
        raise IsADirectoryError(f"{path} is a directory; a file was to be copied there")
    if os.path.exists(path) and not os.path.isfile(path):  # noqa: PTH110, PTH113
        with open(path, "wb") as stream:
            copy_to_stream(reader, stream, progress)
        return
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)  # noqa: PTH103, PTH120
    aside = f"{path}.{os.getpid()}{_SUFFIX}"
    try:
        with open(aside, "wb") as stream:
            copy_to_stream(reader, stream, progress)
        os.replace(aside, path)  # noqa: PTH105
    except BaseException:
        if os.path.exists(aside):  # noqa: PTH110
            os.unlink(aside)  # noqa: PTH108
        raise


def copy_to_stream(reader: ObjectReader, stream: BinaryIO, progress: Callable[[int], None]) -> None:
    """Writes all bytes to a stream; `progress` is told of each piece's bytes."""
    buffer = memoryview(bytearray(min(ASK_BYTES, max(1, reader.size))))
    position = 0
    while position < reader.size:
        count = reader.read_into(buffer, position)
        stream.write(buffer[:count])
        position += count
        progress(count)
