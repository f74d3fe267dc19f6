"""A million names in JuiceFS within a minute: its metadata is loaded from a dump made here.

The form is that of `juicefs dump`: an object a directory entry, with `attr` and `entries`. A file
without `chunks` has its length and no bytes, as the sparse files of the plain directory.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.mount.names import FOLDER_TIME, NAME_BYTES, Names

_ROOT_INODE = 1


def _attributes(inode: int, kind: str, links: int, length: int) -> str:
    times = {"atime": FOLDER_TIME, "mtime": FOLDER_TIME, "ctime": FOLDER_TIME}
    mode = 0o755 if kind == "directory" else 0o644
    owner = {"mode": mode, "uid": 0, "gid": 0}
    return json.dumps(
        {"inode": inode, "type": kind, **owner, **times, "nlink": links, "length": length}
    )


def _tree(names: Names) -> Iterator[str]:
    root = _attributes(_ROOT_INODE, "directory", 2 + names.folders, 0)
    yield f'{{"attr": {root}, "entries": {{\n'
    inode, comma = _ROOT_INODE, ""
    for folder, files in names.by_folder():
        inode += 1
        head = _attributes(inode, "directory", 2, 0)
        yield f'{comma}"{folder}": {{"attr": {head}, "entries": {{\n'
        entries = []
        for name in files:
            inode += 1
            entries.append(f'"{name}": {{"attr": {_attributes(inode, "regular", 1, NAME_BYTES)}}}')
        yield ",\n".join(entries) + "}}"
        comma = ",\n"
    yield "}}"


def write_dump(path: Path, empty: dict[str, Any], names: Names) -> None:
    """Writes a dump with these names; `empty` is the dump of the volume without files."""
    counted = 1 + names.folders * (1 + names.files)
    counters = {**empty["Counters"], "usedInodes": counted}
    counters["nextInodes"] = counted + 1024
    counters["usedSpace"] = 4096 * counted
    head = {**{k: v for k, v in empty.items() if k not in ("FSTree", "Trash")}}
    head["Counters"] = counters
    with path.open("w") as stream:
        stream.write(json.dumps(head, indent=1).removesuffix("\n}"))
        stream.write(',\n"FSTree": ')
        stream.writelines(_tree(names))
        if "Trash" in empty:
            stream.write(f',\n"Trash": {json.dumps(empty["Trash"])}')
        stream.write("\n}\n")
