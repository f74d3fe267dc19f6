"""Keys of cached objects: pure functions of where the bytes lie, who reads them, and their version.

A key is 16 bytes of BLAKE2b over source, identity, path and version, each with its length before
it, so that no two different quadruples are one text.
"""

from __future__ import annotations

import hashlib
import os


class CacheKeys:
    """The keys of one source as one identity reads it; what they share is digested once."""

    __slots__ = ("_digest",)

    def __init__(self, source_id: str, identity: bytes) -> None:
        """For an `UnderStorage` of that `source_id` and `identity`."""
        self._digest = hashlib.blake2b(digest_size=16, person=b"fluidpy-object")
        for part in (os.fsencode(source_id), identity):
            self._digest.update(len(part).to_bytes(4, "little") + part)

    def key(self, path: bytes, version: bytes) -> bytes:
        """The key for a path below the mount's root, and a version of it."""
        digest = self._digest.copy()
        digest.update(len(path).to_bytes(4, "little") + path)
        digest.update(len(version).to_bytes(4, "little") + version)
        return digest.digest()
