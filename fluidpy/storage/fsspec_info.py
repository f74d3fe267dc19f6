"""The `info` dictionaries of fsspec file systems as entries and versions; pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from fluidpy.storage.etag_codec import encode_etag
from fluidpy.storage.local_files import SETTLED_NS
from fluidpy.storage.object_keys import SPECIAL_FILE, omission
from fluidpy.storage.under_storage import Kind, ObjectInfo, OmittedKey

_TAGS = ("ETag", "etag", "e_tag", "checksum", "md5", "md5Hash", "content_md5", "crc32c", "sha256")
"""Keys that name the bytes, in the order they are believed."""

_TIMES = ("mtime", "LastModified", "last_modified", "updated", "modified", "mtime_ns")
"""Keys that say when the bytes changed; a version together with the size."""

_TIMED = 0x21
_KEYED = 0x22
UNKNOWN_SIZE = "a file of unknown size"


def time_of(info: Mapping[str, Any]) -> int:
    """When a file changed, in nanoseconds since the epoch; 0 where it is not told."""
    for key in _TIMES:
        if key in info and (moment := _nanoseconds(key, info[key])):
            return moment
    return 0


def _nanoseconds(key: str, value: object) -> int:
    if isinstance(value, datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=UTC)
        return round(aware.timestamp() * 1_000_000) * 1000
    if isinstance(value, int | float) and not isinstance(value, bool):
        return int(value) if key == "mtime_ns" else round(value * 1_000_000) * 1000
    if isinstance(value, str):
        return _nanoseconds(key, _parsed(value))
    return 0


def _parsed(text: str) -> datetime | None:
    for parse in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            return parse(text)
        except ValueError:
            continue
    return None


def versions_of(info: Mapping[str, Any], now_ns: int, key: str = "") -> list[bytes]:
    """All versions an info stands for, best first; empty where it cannot tell.

    A listing may tell less than a question about one file, so that what was listed must be found
    among these. `key` is what a file system's own `ukey` or `modified` says, if anything.
    """
    found = [
        encode_etag(value) for tag in _TAGS if isinstance(value := info.get(tag), str) and value
    ]
    moment, size = time_of(info), info.get("size")
    if moment and isinstance(size, int) and not 0 <= now_ns - moment < SETTLED_NS:
        found.append(bytes([_TIMED]) + moment.to_bytes(12, "big", signed=True) + size.to_bytes(8))
    if key:
        found.append(bytes([_KEYED]) + hashlib.blake2b(key.encode(), digest_size=16).digest())
    return found


def entry_of(
    info: Mapping[str, Any], path: str, now_ns: int, key: str = ""
) -> ObjectInfo | OmittedKey:
    """The entry for an info whose name below the mount is `path`, or why it has none."""
    if reason := omission(path):
        return OmittedKey(path, reason)
    kind = info.get("type")
    if kind == "directory":
        return ObjectInfo(path, Kind.DIRECTORY, mtime_ns=time_of(info))
    if kind != "file":
        return OmittedKey(path, SPECIAL_FILE)
    size = info.get("size")
    if not isinstance(size, int) or size < 0:
        return OmittedKey(path, UNKNOWN_SIZE)
    version = next(iter(versions_of(info, now_ns, key)), b"")
    return ObjectInfo(path, Kind.FILE, size, time_of(info), version)
