"""Known files that suites put into a source, and then look for."""

from __future__ import annotations

from collections.abc import Mapping

TREE: Mapping[str, bytes] = {
    "top.bin": bytes(range(256)) * 8,
    "empty.bin": b"",
    "train/0001.jpg": b"one" * 1000,
    "train/0002.jpg": b"two" * 1000,
    "train/deep/er/label.txt": b"label",
    "names/with space é ü 100% + & #?.txt": b"odd but allowed",
    "names/.hidden": b"hidden",
    "names/quote'\"$(x);.txt": b"shell",
}
"""The files each test starts from."""


def children(paths: Mapping[str, bytes], folder: str) -> list[str]:
    """The direct children of a folder, sorted, as paths from the root."""
    start = f"{folder}/" if folder else ""
    below = (path[len(start) :] for path in paths if path.startswith(start))
    return sorted({start + path.partition("/")[0] for path in below})
