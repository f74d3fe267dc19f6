"""What an HTTP answer says about its bytes: version, size, range; pure (RFC 9110)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import formatdate, parsedate_to_datetime
from typing import NamedTuple

from fluidpy.storage.etag_codec import decode_etag, encode_etag

_MODIFIED = 0x20
"""First byte of a version made of Last-Modified (8 bytes, seconds) and length (8 bytes)."""

_SETTLED_SECONDS = 2
"""Age from which a Last-Modified tells changes apart: dates count whole seconds."""

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


class ContentRange(NamedTuple):
    """The bytes `[start, end)` an answer holds, and the size of the whole (None: not told)."""

    start: int
    end: int
    total: int | None


def modified_seconds(headers: Mapping[str, str]) -> int | None:
    """Last-Modified in seconds since the epoch; None where it is missing or no date."""
    return _seconds(headers, "Last-Modified")


def _seconds(headers: Mapping[str, str], name: str) -> int | None:
    try:
        return int(parsedate_to_datetime(headers[name]).timestamp())
    except (KeyError, ValueError):
        return None


def version_of(headers: Mapping[str, str], size: int | None) -> bytes:
    """The version of a resource: its strong ETag, else Last-Modified with the length.

    A weak ETag promises equal meaning, not equal bytes, and is passed over. `b""` if neither, and
    for a Last-Modified so fresh that another change may bear the same (RFC 9110 §8.8.2.2; Apache
    calls the ETag of such a file weak, and gives it another one a second later).
    """
    etag = headers.get("ETag", "").strip()
    if etag and not etag.startswith("W/"):
        return encode_etag(etag)
    modified = modified_seconds(headers)
    if modified is None or size is None or modified < 0:
        return b""
    now = _seconds(headers, "Date")
    if now is not None and now - modified < _SETTLED_SECONDS:
        return b""
    return bytes([_MODIFIED]) + modified.to_bytes(8, "big") + size.to_bytes(8, "big")


def condition_for(version: bytes) -> dict[str, str]:
    """The request header that makes a server refuse (412) another version; maybe none."""
    if version[:1] == bytes([_MODIFIED]):
        return {"If-Unmodified-Since": formatdate(int.from_bytes(version[1:9], "big"), usegmt=True)}
    etag = decode_etag(version)
    return {"If-Match": etag} if etag else {}


def content_range(headers: Mapping[str, str]) -> ContentRange | None:
    """The Content-Range of a 206; None where it is missing or of another form."""
    match = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", "").strip())
    if match is None:
        return None
    total = None if match[3] == "*" else int(match[3])
    return ContentRange(int(match[1]), int(match[2]) + 1, total)
