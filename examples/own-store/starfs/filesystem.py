"""`starfs://`: one folder of computed files, as small as an fsspec class can be."""

from __future__ import annotations

import hashlib
from typing import Any, ClassVar

from fsspec import AbstractFileSystem

STARS = ("sirius", "vega", "rigel")


class StarFileSystem(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """Files `catalogue/STAR.txt`, each a greeting."""

    protocol: ClassVar[str] = "starfs"

    def __init__(self, greeting: str = "hello", **options: Any) -> None:
        super().__init__(**options)
        self._files = {f"catalogue/{star}.txt": f"{greeting} {star}\n".encode() for star in STARS}

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """One entry; `checksum` names the bytes, so that they can be kept."""
        path = self._strip_protocol(path)
        if path in ("", "catalogue"):
            return {"name": path, "type": "directory", "size": 0}
        if path not in self._files:
            raise FileNotFoundError(path)
        data = self._files[path]
        checksum = hashlib.sha256(data).hexdigest()
        return {"name": path, "type": "file", "size": len(data), "checksum": checksum}

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """The entries of the one folder."""
        if self.info(path)["type"] == "file":
            names = [self._strip_protocol(path)]
        else:
            names = sorted(self._files) if self._strip_protocol(path) else ["catalogue"]
        return [self.info(name) for name in names] if detail else names

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **_: Any
    ) -> bytes:
        """The bytes `[start, end)`."""
        return self._files[self._strip_protocol(path)][start:end]
