"""Walking a tree as fsspec does, except that a folder which cannot be listed is no empty folder.

fsspec's own `walk`, and so its `find`, `glob`, `du` and recursive `cat` and `get`, pass over such a
folder without a word: a training would go on with a part of its files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

Info: TypeAlias = dict[str, Any]
Listing: TypeAlias = Callable[[str], list[Info]]
Step: TypeAlias = tuple[str, Any, Any]
"""A folder's path, its folders and its files: names, or infos by name."""

OnError: TypeAlias = Callable[[OSError], Any]


def on_error_of(word: str | OnError | None) -> OnError:
    """What to do with an error, by fsspec's word for it: `omit`, `raise` or a callable.

    None: what was removed meanwhile is left out, every other error is raised.
    """
    if callable(word):
        return word
    if word == "omit":
        return lambda _: None
    return _raise if word == "raise" else _raise_unless_gone


def _raise(error: OSError) -> None:
    raise error


def _raise_unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


def walk(
    path: str,
    listing: Listing,
    on_error: OnError,
    maxdepth: int | None,
    topdown: bool,
    shown: Callable[[dict[str, Info]], Any],
) -> Iterator[Step]:
    """The folders below a path and itself, `maxdepth` levels at most; parents first if `topdown`.

    `shown` makes of infos by name what a step has. The caller may take folders out of a step, to
    keep them from being walked.
    """
    try:
        infos = listing(path)
    except OSError as error:
        on_error(error)
        return
    folders: dict[str, Info] = {}
    files: dict[str, Info] = {}
    for info in infos:
        name = "" if info["name"] == path else str(info["name"]).rpartition("/")[2]
        (folders if name and info["type"] == "directory" else files)[name] = info
    step = (path, shown(folders), shown(files))
    if topdown:
        yield step
    if maxdepth is None or maxdepth > 1:
        deeper = None if maxdepth is None else maxdepth - 1
        for name in step[1]:
            yield from walk(folders[name]["name"], listing, on_error, deeper, topdown, shown)
    if not topdown:
        yield step
