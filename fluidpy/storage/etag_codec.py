"""ETags of object stores as short, reversible versions.

A version may hold 64 bytes at most (`ObjectInfo.version`), and one a file is kept in every
catalog, so the common forms are packed. The first byte tells the form:

    1  32 hex digits: the MD5 of an object put in one piece              17 bytes
    2  32 hex digits, `-`, the number of parts                           18 bytes and up
    3  any other strong tag of 63 bytes of UTF-8 at most                 as it is
    4  a digest of anything else: cannot be sent back, only compared     33 bytes
    5  as 1 in capitals, as OSS writes them
    6  as 2 in capitals
"""

from __future__ import annotations

import hashlib
import re

_MD5, _PARTS, _TEXT, _DIGEST, _UPPER_MD5, _UPPER_PARTS = 1, 2, 3, 4, 5, 6

_LONGEST_TEXT = 63
_LOWER = re.compile(r"([0-9a-f]{32})(?:-([1-9][0-9]{0,17}))?")
_UPPER = re.compile(r"([0-9A-F]{32})(?:-([1-9][0-9]{0,17}))?")
# RFC 9110 §8.8.3: etagc is any visible character but the double quote. Beyond ASCII no two
# clients agree on the encoding of a header, so such a tag is only compared.
_SENDABLE = re.compile(r"[\x21\x23-\x7e]+")


def normalise_etag(etag: str | None) -> str:
    """The tag without its quotes; a weak one keeps its `W/` and so stays apart from a strong."""
    if not etag:
        return ""
    if len(etag) >= 2 and etag[0] == '"' and etag[-1] == '"':
        return etag[1:-1]
    return etag


def encode_etag(etag: str | None) -> bytes:
    """The version for an ETag, with or without quotes; `b""` where there is none."""
    tag = normalise_etag(etag)
    if not tag:
        return b""
    if match := _LOWER.fullmatch(tag):
        return _pack(_MD5, match)
    if match := _UPPER.fullmatch(tag):
        return _pack(_UPPER_MD5, match)
    if len(tag) <= _LONGEST_TEXT and _SENDABLE.fullmatch(tag) and not tag.startswith("W/"):
        return bytes([_TEXT]) + tag.encode()
    raw = tag.encode("utf-8", "surrogateescape")
    return bytes([_DIGEST]) + hashlib.blake2b(raw, digest_size=32).digest()


def _pack(form: int, match: re.Match[str]) -> bytes:
    digest = bytes.fromhex(match[1])
    if match[2] is None:
        return bytes((form,)) + digest
    parts = int(match[2])
    return bytes((form + 1,)) + digest + parts.to_bytes((parts.bit_length() + 7) // 8, "big")


def decode_etag(version: bytes) -> str | None:
    """The quoted tag to send as If-Match, or None for a version that can only be compared."""
    form = version[0] if version else 0
    if form == _MD5:
        return f'"{version[1:].hex()}"'
    if form == _UPPER_MD5:
        return f'"{version[1:].hex().upper()}"'
    if form in (_PARTS, _UPPER_PARTS):
        digest = version[1:17].hex()
        digest = digest.upper() if form == _UPPER_PARTS else digest
        return f'"{digest}-{int.from_bytes(version[17:], "big")}"'
    if form == _TEXT:
        return f'"{version[1:].decode()}"'
    return None
