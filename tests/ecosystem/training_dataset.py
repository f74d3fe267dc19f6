"""A data set for torch that lives outside of tests, so that spawned workers can import it."""

from __future__ import annotations

from typing import Any

import fsspec


class Records:
    """One file a record: `(first byte, size)`."""

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        self.fs, root = fsspec.url_to_fs(url, **options)
        self.paths = sorted(self.fs.find(root))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[int, int]:
        data = self.fs.cat_file(self.paths[index])
        return data[0], len(data)
