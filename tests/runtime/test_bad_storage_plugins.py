"""Storage plug-ins that are wrong: `runtime test` names the promise, what is wrong, the cure."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from fluidpy.runtime.installing import install, record_of
from fluidpy.runtime.storage_template import storage_files
from fluidpy.testing.conformance import storage
from fluidpy.testing.conformance.bed import test_bed as made_bed
from fluidpy.testing.conformance.report import Outcome, Result
from fluidpy.testing.conformance.storage import check_storage_plugin

SECRET = "made-up-for-the-test"
START = """
import logging, os, time
from badfs_good import BadfsFileSystem as Good
from fsspec.asyn import AsyncFileSystem

class Bad(Good):
    protocol = "badfs"
"""


class Wrong(NamedTuple):
    """What is wrong with a plug-in, and what its author has to be told."""

    code: str
    clause: str
    said: str
    cure: str


WRONG = {
    "lies about sizes": Wrong(
        """
    def info(self, path, **_):
        found = super().info(path)
        return {**found, "size": found["size"] + 1}
""",
        "sizes are true",
        "has 2049 bytes, and it has 2048",
        "size to the number of bytes that reading gives",
    ),
    "hangs on read": Wrong(
        """
    def cat_file(self, path, start=None, end=None, **_):
        time.sleep(60)
""",
        "a file's bytes are those that were put there",
        "took longer than 6 s",
        "Give each request of the store a time limit",
    ),
    "ends the process": Wrong(
        """
    def cat_file(self, path, start=None, end=None, **_):
        os._exit(7)
""",
        "a file's bytes are those that were put there",
        "the process ended with status 7",
        "never end the process",
    ),
    "writes to stdout": Wrong(
        """
    def cat_file(self, path, start=None, end=None, **_):
        print("reading", path)
        return super().cat_file(path, start, end)
""",
        "nothing is written to standard output",
        "first: reading test/top.bin",
        "Use logging.getLogger(__name__) and not print",
    ),
    "logs the secret": Wrong(
        """
    def __init__(self, root, token=None, **options):
        super().__init__(root, token, **options)
        logging.getLogger(__name__).warning("connecting with %s", token)
""",
        "no secret is printed or logged",
        "a secret of the mount stands on standard error",
        "Log neither secrets nor whole requests",
    ),
    "takes any secret": Wrong(
        """
    pass
""",
        "a wrong secret is refused, and is not repeated",
        "a file was read with a wrong secret",
        "Raise PermissionError when the store refuses",
    ),
    "makes versions of the time": Wrong(
        """
    def info(self, path, **_):
        return {**super().info(path), "mtime": time.time() - 100}
""",
        "a listing and a question about one file agree",
        "ls and info do not agree on the version",
        "Make the dictionaries of ls and info in one place",
    ),
    "keeps the first version": Wrong(
        """
    seen = {}
    def info(self, path, **_):
        return self.seen.setdefault(path, super().info(path))
""",
        "other bytes are another version",
        "got other bytes and has the same version",
        "keep no cache of infos",
    ),
    "gives versions of this process alone": Wrong(
        """
    def info(self, path, **_):
        return {**super().info(path), "checksum": f"{super().info(path)} {os.getpid()}"}
""",
        "another process, after a kill, sees the same versions",
        "is another version in another process",
        "Make versions of what the store says",
    ),
    "ignores where to start": Wrong(
        """
    def cat_file(self, path, start=None, end=None, **_):
        return super().cat_file(path, 0, (end or 0) - (start or 0)) if end else b""
""",
        "a range is exactly the bytes that were asked for",
        "bytes 255 to 258",
        "from start up to, and without, end",
    ),
    "shares a position": Wrong(
        """
    place = None
    def cat_file(self, path, start=None, end=None, **_):
        Bad.place = (path, start, end)
        time.sleep(0.001)
        return super().cat_file(*self.place)
""",
        "many readers at once get their own bytes",
        "one got wrong bytes",
        "Share no position",
    ),
    "raises what it likes": Wrong(
        """
    def info(self, path, **_):
        try:
            return super().info(path)
        except FileNotFoundError:
            raise RuntimeError("status 5") from None
""",
        "what is not there is not found",
        "raised: ",
        "Raise FileNotFoundError",
    ),
    "lists the first page": Wrong(
        """
    def ls(self, path, detail=True, **_):
        return super().ls(path)[:100]
""",
        "a folder with many files lists as a whole",
        "a folder of 1000 files lists 100",
        "Follow the store's pages",
    ),
    "has no such class": Wrong(
        """
del Bad
""",
        "the class can be imported and made",
        "cannot be loaded",
        "Name it as MODULE:NAME under storage.class",
    ),
}
QUICK = ("lies about sizes", "writes to stdout")
"""Tried by default; the others are for the full check."""


def outcomes_of(folder: Path, code: str) -> Iterator[Outcome]:
    """What comes of the clauses, one after another."""
    for path, text in storage_files("badfs").items():
        (folder / path.replace("badfs.py", "badfs_good.py")).write_text(text)
    (folder / "badfs.py").write_text(START + code)
    manifest = folder / "runtime.yaml"
    text = manifest.read_text().replace("badfs:BadfsFileSystem", "badfs:Bad")
    manifest.write_text(f"{text}  refused: {{token: a-wrong-token}}\n")
    place = folder.parent / "served" / "state" / "runtimes"
    store = folder.parent / "store"
    store.mkdir()
    read = install(folder, place)
    with made_bed(read, folder, store) as bed:
        yield from check_storage_plugin(record_of(read), place / "badfs", bed, folder.parent)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in WRONG]
)
def test_a_bad_plugin_is_told_what_to_do(name: str, tmp_path: Path) -> None:
    wrong = WRONG[name]
    folder = tmp_path / "badfs"
    folder.mkdir()
    found = outcomes_of(folder, wrong.code)
    told = next(one for one in found if one.clause == wrong.clause)
    found.close()  # type: ignore[attr-defined]  # a generator: what follows is not tried
    assert told.result is Result.FAILED, told
    assert wrong.said in told.said
    assert wrong.cure in told.cure
    assert SECRET not in told.said


@pytest.mark.slow
def test_a_plugin_that_blocks_the_event_loop_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "SILENCE_SECONDS", 5.0)
    folder = tmp_path / "badfs"
    folder.mkdir()
    code = """
class Bad(AsyncFileSystem):
    protocol = "badfs"
    def __init__(self, root, token=None, **options):
        super().__init__(**options)
    async def _info(self, path, **_):
        time.sleep(60)
"""
    found = outcomes_of(folder, code)
    told = next(one for one in found if one.result is Result.FAILED)
    found.close()  # type: ignore[attr-defined]  # a generator
    assert told.clause == "the class can be imported and made"
    assert "could not be given up" in told.said
    assert "do not block in async code" in told.cure
