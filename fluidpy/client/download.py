"""Copying an open file of a Dataset to a local file or stream."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO, Final

from fluidpy.aligned_memory import page_aligned
from fluidpy.client.file import ASK_BYTES, ObjectReader

_SUFFIX: Final = ".fluidpy-part"
"""What the name of an unfinished copy ends with."""


def copy_to_path(reader: ObjectReader, target: Any, progress: Callable[[int], None]) -> None:
    """Copies to a local path as `whole_file` writes it; missing folders are made.

    `progress` is told of each piece's bytes. Raises OSError for the target, and as reading does.
    """
    path = os.fspath(target)
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)  # noqa: PTH103, PTH120
    with whole_file(path) as stream:
        copy_to_stream(reader, stream, progress)


@contextmanager
def whole_file(path: str, modified_ns: int = 0) -> Iterator[BinaryIO]:
    """A stream to a file that appears whole or not at all: it is written aside, then renamed.

    A symbolic link stays, what it names is written. A device or a pipe, such as /dev/null, is
    written to and stays what it is. `modified_ns` is the time of change that the file gets, unless
    0. Raises OSError, IsADirectoryError for a directory.
    """
    if os.path.isdir(path):  # noqa: PTH112 - may be str or bytes
        raise IsADirectoryError(
            errno.EISDIR, "it is a directory, and a file was to be copied there", path
        )
    real = os.path.realpath(path)
    # An open file that has no name, as /dev/stdout may name one, cannot be replaced either.
    if os.path.exists(path) and not (os.path.isfile(path) and os.path.exists(real)):  # noqa: PTH110, PTH113
        with open(path, "wb") as stream:
            yield stream
        return
    aside = _aside(real)
    opened = open(aside, "xb")  # noqa: SIM115 - never through a link that somebody put there
    try:
        with opened as stream:
            yield stream
        if modified_ns:
            os.utime(aside, ns=(modified_ns, modified_ns))
        os.replace(aside, real)  # noqa: PTH105
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(aside)  # noqa: PTH108
        raise


def _aside(path: str) -> str:
    """Where a file is written until it is whole: beside it, by a name that is never too long.

    Nobody else's: threads, and containers that number their processes alike, copy there too.
    """
    folder, name = os.path.split(path)
    digest = hashlib.blake2b(os.fsencode(name), digest_size=8).hexdigest()
    return os.path.join(folder, f".{digest}.{os.urandom(8).hex()}{_SUFFIX}")  # noqa: PTH118


def copy_to_stream(reader: ObjectReader, stream: BinaryIO, progress: Callable[[int], None]) -> None:
    """Writes all bytes to a stream; `progress` is told of each piece's bytes."""
    buffer = page_aligned(min(ASK_BYTES, max(1, reader.size)))
    position = 0
    while position < reader.size:
        count = reader.read_into(buffer, position)
        stream.write(buffer[:count])
        position += count
        progress(count)
