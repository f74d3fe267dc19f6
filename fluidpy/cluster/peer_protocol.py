"""What workers of a pool say to one another over HTTP/1.1: targets, headers, bodies, frames.

Pure: both halves use the same functions, so that neither can drift. A range of one object is a GET
whose answer is the bytes and, in a header, the crc32c of each block. Small objects come many in one
answer, each as a chunk of HTTP's chunked coding: a frame (status, origin, sums, length) and bytes.
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import quote, unquote_to_bytes

from fluidpy.errors import FluidpyError, UsageError, from_wire

MIB: Final = 1024 * 1024

MOST_RANGE_BYTES: Final = 64 * MIB
"""Longest range of one request, in bytes: a unit of placement."""

MOST_BLOCKS: Final = 4096
"""Most blocks of one request: their sums are one header of 36 KiB."""

MOST_SMALL_BYTES: Final = MIB
"""Largest object that a batch may name, in bytes."""

MOST_BATCH_BYTES: Final = 16 * MIB
"""Most bytes of a batch's objects."""

MOST_BATCH_OBJECTS: Final = 4096
"""Most objects of a batch, and of a question for presence."""

MOST_BODY_BYTES: Final = 4 * MIB
"""Longest body of a request: MOST_BATCH_OBJECTS with paths of 1 KiB."""

MOST_VERSION_BYTES: Final = 64
"""As `ObjectInfo.version` says."""

DEFAULT_SECONDS: Final = 60.0
"""The deadline of a request that names none: that of the source by default."""

MOST_SECONDS: Final = 3600.0

DEADLINE_HEADER: Final = "X-Fluidpy-Deadline"
DEFINITION_HEADER: Final = "X-Fluidpy-Definition"
SUMS_HEADER: Final = "X-Fluidpy-Crc32c"
BLOCK_HEADER: Final = "X-Fluidpy-Block-Bytes"
ORIGIN_HEADER: Final = "X-Fluidpy-Origin"

FROM_CACHE: Final = "cache"
FROM_SOURCE: Final = "source"

FRAME: Final = struct.Struct("!HHII")
"""Status, 1 when the bytes came from the source just now, number of sums, bytes that follow them.
The sums are 4 bytes each, one a block; those of an error frame are none and its bytes JSON."""

OK: Final = 200
ABSENT: Final = 404


class PeerRequest(NamedTuple):
    """The bytes `[start, end)` of one version of one object, `size` bytes long.

    `dataset` is `namespace/name`, `definition` its digest, `mount` the mount's name, `path` below
    the mount's root as `os.fsdecode` makes it. `start` and `end` lie at blocks or the object's end.
    """

    dataset: str
    definition: str
    mount: str
    path: str
    version: bytes
    size: int
    start: int
    end: int


class Presence(NamedTuple):
    """What a worker has of one object: bytes, whether all of it, and when it was last used
    (seconds since the epoch; 0: never).
    """

    present_bytes: int
    complete: bool
    last_use: float


def dataset_path(dataset: str) -> str:
    """The path of a Dataset's targets, without a slash at the end."""
    namespace, _, name = dataset.partition("/")
    return f"/v1/datasets/{quote(namespace, safe='')}/{quote(name, safe='')}"


def object_target(request: PeerRequest, *, only_cached: bool) -> str:
    """The target of a GET for a range."""
    target = (
        f"{dataset_path(request.dataset)}/object?mount={quote(request.mount, safe='')}"
        f"&path={quote(os.fsencode(request.path), safe='/')}&version={request.version.hex()}"
        f"&size={request.size}&start={request.start}&end={request.end}"
    )
    return f"{target}&only=cached" if only_cached else target


_NO_PARTS: Final = frozenset((b"", b".", b".."))
"""What no part of a path below a mount's root is; an empty path has the first of them."""

_REQUIRED: Final = ("mount", "path", "version", "size", "start", "end")


class Asked(NamedTuple):
    """A request as it arrived, and whether only what is cached may be given."""

    request: PeerRequest
    only_cached: bool


def parse_object(dataset: str, definition: str, query: str, block_bytes: int) -> Asked:
    """The request of a GET, from its query as it was sent.

    `block_bytes` is the size of the blocks here. Raises UsageError naming what is wrong.
    """
    fields = _fields(query)
    if missing := [name for name in _REQUIRED if name not in fields]:
        raise malformed(f"the query lacks {', '.join(missing)}")
    if unknown := sorted(set(fields) - {*_REQUIRED, "only"}):
        raise malformed(f"the query has the unknown parameter {unknown[0][:40]!r}")
    if fields.get("only", b"cached") != b"cached":
        raise malformed("`only` can be `cached`, nothing else")
    size, start, end = (_number(name, fields[name]) for name in ("size", "start", "end"))
    request = PeerRequest(
        dataset,
        definition,
        _text("mount", fields["mount"]),
        checked_path(os.fsdecode(fields["path"])),
        _version(fields["version"].decode("ascii", "replace")),
        size,
        start,
        end,
    )
    check_range(request, block_bytes)
    return Asked(request, "only" in fields)


def check_range(request: PeerRequest, block_bytes: int) -> None:
    """Raises UsageError unless the range lies in the object, at blocks, and is not too long."""
    _, _, _, _, _, size, start, end = request
    if not 0 <= start < end <= size and not start == end == size == 0:
        raise malformed(f"the range {start}-{end} is not within the object's {size} bytes")
    if start % block_bytes or (end % block_bytes and end != size):
        raise malformed(
            f"the range {start}-{end} does not lie at blocks of {block_bytes} bytes",
            cure="Give all workers of a pool the same block_bytes.",
        )
    if end - start > MOST_RANGE_BYTES or (end - start) // block_bytes > MOST_BLOCKS:
        raise malformed(
            f"the range {start}-{end} is too long",
            cure=f"Ask for {MOST_RANGE_BYTES} bytes and {MOST_BLOCKS} blocks at most.",
        )


def checked_path(path: str) -> str:
    """A path below a mount's root. Raises UsageError when it cannot be one."""
    try:
        raw = os.fsencode(path)
    except UnicodeEncodeError as error:
        raise malformed("the path has characters that no path has") from error
    if len(raw) > 4096 or b"\0" in raw or not _NO_PARTS.isdisjoint(raw.split(b"/")):
        raise malformed(f"{path[:80]!r} is no path below a mount's root")
    return path


def batch_body(requests: Sequence[PeerRequest], *, only_cached: bool) -> bytes:
    """The body of a batch, or of a question for presence: whole objects of one Dataset."""
    objects = [[each.mount, each.path, each.version.hex(), each.size] for each in requests]
    body: dict[str, Any] = {"objects": objects}
    if only_cached:
        body["only"] = "cached"
    return json.dumps(body, separators=(",", ":")).encode()


def parse_batch(
    dataset: str, definition: str, body: bytes, *, largest: int, most_bytes: int
) -> tuple[list[PeerRequest], bool]:
    """The objects that a body names, and whether only what is cached may be given.

    Objects may have `largest` bytes, all together `most_bytes`. Raises UsageError.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise malformed("the body is not JSON") from error
    if not isinstance(document, dict) or not isinstance(document.get("objects"), list):
        raise malformed('the body is not {"objects": […]}')
    if unknown := sorted(set(document) - {"objects", "only"}):
        raise malformed(f"the body has the unknown field {unknown[0][:40]!r}")
    if document.get("only", "cached") != "cached":
        raise malformed("`only` can be `cached`, nothing else")
    listed = document["objects"]
    if not listed or len(listed) > MOST_BATCH_OBJECTS:
        raise malformed(f"{len(listed)} objects instead of 1 to {MOST_BATCH_OBJECTS}")
    requests = [_listed(dataset, definition, item) for item in listed]
    if any(each.size > largest for each in requests):
        raise malformed(f"objects of a batch may have {largest} bytes")
    if sum(each.size for each in requests) > most_bytes:
        raise malformed(f"the objects of a batch may have {most_bytes} bytes together")
    return requests, "only" in document


def _listed(dataset: str, definition: str, item: Any) -> PeerRequest:
    if not isinstance(item, list) or len(item) != 4:
        raise malformed("an object is not [mount, path, version, size]")
    mount, path, version, size = item
    if not (isinstance(mount, str) and isinstance(path, str) and isinstance(version, str)):
        raise malformed("mount, path and version of an object are not texts")
    if type(size) is not int or not 0 <= size < 1 << 63:
        raise malformed("the size of an object is not a number of bytes")
    return PeerRequest(
        dataset, definition, mount, checked_path(path), _version(version), size, 0, size
    )


def presence_body(found: Sequence[Presence]) -> bytes:
    """The answer to a question for presence."""
    return json.dumps([list(each) for each in found], separators=(",", ":")).encode()


def parse_presence(body: bytes, asked: int) -> list[Presence]:
    """What `presence_body` made of `asked` objects. Raises ValueError for anything else."""
    listed = json.loads(body)
    if not isinstance(listed, list) or len(listed) != asked:
        raise ValueError("another number of objects")
    try:
        return [Presence(int(have), bool(whole), float(use)) for have, whole, use in listed]
    except TypeError as error:
        raise ValueError("not what was asked for") from error


def deadline_of(headers: Mapping[str, str]) -> float:
    """How many seconds a request may take. Raises UsageError."""
    raw = headers.get(DEADLINE_HEADER)
    if raw is None:
        return DEFAULT_SECONDS
    try:
        seconds = float(raw)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= MOST_SECONDS:
        raise malformed(f"{DEADLINE_HEADER} is not a number of seconds up to {MOST_SECONDS:g}")
    return seconds


def sums_text(sums: Sequence[int]) -> str:
    """Checksums as their header's value."""
    return ",".join([f"{each:08x}" for each in sums])


def parse_sums(text: str) -> list[int]:
    """What `sums_text` made. Raises ValueError."""
    return [int(each, 16) for each in text.split(",")] if text else []


def origin_of(headers: Mapping[str, str]) -> str:
    """FROM_CACHE or FROM_SOURCE, by the headers of an answer (lower-case names)."""
    told = headers.get(ORIGIN_HEADER.lower(), "")
    return FROM_SOURCE if told == FROM_SOURCE else FROM_CACHE


def error_body(error: FluidpyError) -> bytes:
    """An error as the body of an answer."""
    return json.dumps(error.to_wire()).encode()


def parse_error(body: bytes) -> FluidpyError | None:
    """The error that a body tells, None when it tells none."""
    try:
        wire = json.loads(body)
    except ValueError:
        return None
    if not isinstance(wire, dict) or not isinstance(wire.get("message"), str):
        return None
    return from_wire({str(name): str(value) for name, value in wire.items()})


def malformed(what: str, cure: str = "Ask as fluidpy's own workers do.") -> UsageError:
    """The error for a request that no worker sends."""
    return UsageError(f"malformed request: {what}", cure=cure)


def _fields(query: str) -> dict[str, bytes]:
    fields: dict[str, bytes] = {}
    for item in query.split("&") if query else ():
        name, equals, value = item.partition("=")
        if not equals or name in fields:
            raise malformed(f"the query has {name[:40]!r} twice or without a value")
        fields[name] = unquote_to_bytes(value)
    return fields


def _number(name: str, raw: bytes) -> int:
    if not raw.isdigit() or len(raw) > 19 or int(raw) >= 1 << 63:
        raise malformed(f"`{name}` is not a number of bytes")
    return int(raw)


def _text(name: str, raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise malformed(f"`{name}` is not UTF-8") from error


def _version(text: str) -> bytes:
    try:
        version = bytes.fromhex(text)
    except ValueError as error:
        raise malformed("`version` is not hexadecimal") from error
    if not 0 < len(version) <= MOST_VERSION_BYTES or len(text) != 2 * len(version):
        raise malformed(f"`version` does not have 1 to {MOST_VERSION_BYTES} bytes")
    return version
