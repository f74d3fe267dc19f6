"""Bytes that go to a client in a file of memory, because no cache file holds them all."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from fluidpy.errors import CacheError

if TYPE_CHECKING:
    from fluidpy.cache.cached_object import CachedObject
    from fluidpy.worker.parts import Part


class BytesLeftError(CacheError):
    """Bytes that were in the cache left it before they could be copied."""


def new_memfd() -> int:
    """A file of memory, closed on exec; the caller closes it. Raises CacheError without memory."""
    try:
        return os.memfd_create("fluidpy", os.MFD_CLOEXEC)
    except OSError as error:
        raise CacheError(
            f"no file of memory can be made: {error}",
            cure="Free memory, or raise the limits of memory and open files.",
        ) from error


@functools.cache
def empty_fd() -> int:
    """An empty file, open for the life of the process, for objects without bytes."""
    return new_memfd()


def memfd_of(cached: CachedObject | None, start: int, end: int, unkept: Iterable[Part]) -> int:
    """A file of memory with the bytes `[start, end)`: from parts that were not kept, the rest from
    the cache. The caller closes it. Raises BytesLeftError, CacheError.
    """
    fd = new_memfd()
    try:
        position = start
        for part in sorted(unkept, key=lambda part: part.start):
            if part.end <= position or part.start >= end or part.data is None:
                continue
            if part.start > position:
                _copy(cached, fd, start, position, part.start)
                position = part.start
            stop = min(part.end, end)
            view = memoryview(part.data).cast("B")[position - part.start : stop - part.start]
            write_at(fd, view, position - start)
            position = stop
        if position < end:
            _copy(cached, fd, start, position, end)
    except OSError as error:
        os.close(fd)
        if isinstance(error, CacheError):
            raise
        raise CacheError(
            f"bytes could not be passed in memory: {error}",
            cure="Free memory, or raise the limits of memory and open files.",
        ) from error
    return fd


def _copy(cached: CachedObject | None, fd: int, origin: int, start: int, end: int) -> None:
    while start < end:
        if cached is None:
            raise CacheError("bytes that were fetched are gone", cure="Read again.")
        with cached.lease(start) as (source, offset, length):
            serial = cached.file_serial(start)
            data = os.pread(source, min(length, end - start), offset)
            # A file that left meanwhile was made anew by `lease`, and an empty one reads as zeros.
            lost = cached.file_serial(start) != serial or cached.missing(start, start + len(data))
        if not data or lost:
            raise BytesLeftError(f"bytes of cache file {cached.path} left it", cure="Read again.")
        write_at(fd, memoryview(data), start - origin)
        start += len(data)


def write_at(fd: int, view: memoryview, offset: int) -> None:
    """Writes all of `view` at `offset`. Raises OSError."""
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written
