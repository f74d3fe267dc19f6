"""ETags of object stores as short, reversible versions.

A version may hold 64 bytes at most (`ObjectInfo.version`), and one a file is kept in every
catalog, so the common forms are packed. The first byte tells the form:

    1  32 hex digits, the MD5 of an object put in one piece       17 bytes
    2  32 hex digits, `-`, the number of parts                    18 bytes and up
    3  any other strong tag of 63 bytes of UTF-8 at most          as it is
    4  a digest of anything else: cannot be sent back, only compared
"""

from __future__ import annotations

import hashlib
import re

_MD5 = 1
_MULTIPART = 2
_TEXT = 3
_DIGEST = 4

_LONGEST_TEXT = 63
_PLAIN_MD5 = re.compile(r"[0-9a-f]{32}")
_PARTS = re.compile(r"([0-9a-f]{32})-([1-9][0-9]{0,17})")
# RFC 9110 §8.8.3: etagc is any visible character but the double quote.
_SENDABLE = re.compile(r"[\x21\x23-\x7e\x80-\U0010ffff]+")


def normalise_etag(etag: str | None) -> str:
    """The tag without its quotes; a weak one keeps its `W/` and one quote, and so stays weak."""
    if not etag:
        return ""
    if len(etag) >= 2 and etag[0] == '"' and etag[-1] == '"':
        return etag[1:-1]
    return etag


def encode_etag(etag: str | None) -> bytes:
    """The version for an ETag, with or without quotes; `b""` where there is none."""
    tag = normalise_etag(etag)
    if len(tag) == 32 and _PLAIN_MD5.fullmatch(tag):
        return b"\x01" + bytes.fromhex(tag)
    if not tag:
        return b""
    if match := _PARTS.fullmatch(tag):
        parts = int(match[2])
        packed = parts.to_bytes((parts.bit_length() + 7) // 8, "big")
        return bytes([_MULTIPART]) + bytes.fromhex(match[1]) + packed
    raw = tag.encode("utf-8", "surrogateescape")
    if len(raw) <= _LONGEST_TEXT and _SENDABLE.fullmatch(tag) and not tag.startswith("W/"):
        return bytes([_TEXT]) + raw
    return bytes([_DIGEST]) + hashlib.blake2b(raw, digest_size=32).digest()


def decode_etag(version: bytes) -> str | None:
    """The quoted tag to send as If-Match, or None for a version that only can be compared."""
    if not version:
        return None
    form = version[0]
    if form == _MD5:
        return f'"{version[1:].hex()}"'
    if form == _MULTIPART:
        return f'"{version[1:17].hex()}-{int.from_bytes(version[17:], "big")}"'
    if form == _TEXT:
        return f'"{version[1:].decode("utf-8", "surrogateescape")}"'
    return None
