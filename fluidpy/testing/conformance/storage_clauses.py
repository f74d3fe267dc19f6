"""What a storage plug-in has to do: each clause is tried on a bed whose files are known.

Each takes the storage (without retries, so that nothing hides a failure) and the bed, and returns
what is worth telling, mostly nothing. It raises `BrokenPromiseError` for what it finds wrong; any
other error means that the call itself failed.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from fluidpy.errors import (
    SourceAccessError,
    SourceChangedError,
    SourceError,
    SourceNotFoundError,
)
from fluidpy.storage.under_storage import Kind, ObjectInfo, UnderStorage, may_be_kept
from fluidpy.testing.conformance.bed import TestBed
from fluidpy.testing.sample_tree import TREE, children

OpenStorage: TypeAlias = Callable[[dict[str, str] | None], UnderStorage]
"""Opens the plug-in's storage with the bed's secrets, or with others."""
Check: TypeAlias = Callable[[UnderStorage, TestBed], Awaitable[str]]

LARGE = "large.bin"
LARGE_BYTES: Final = 8 * 2**20
PIECE: Final = 2**20
MANY_FILES: Final = 1000
FEW_FILES: Final = 20
"""Where a program has to be started for each file."""
READERS: Final = 64
SETTLE_SECONDS: Final = 4.0


class BrokenPromiseError(Exception):
    """What was seen in place of what is promised, in one sentence without a secret."""


class NothingToTestError(Exception):
    """Why a clause cannot be tried with this plug-in."""


class AllowedError(Exception):
    """What is seen is allowed, and the author should know of it."""


@dataclass(frozen=True, slots=True)
class Clause:
    """A promise, what to do when it is not kept, and how it is tried."""

    promise: str
    cure: str
    check: Check


def large_bytes() -> bytes:
    """The content of the large file: no two pieces are the same."""
    return b"".join(hashlib.sha256(n.to_bytes(8)).digest() for n in range(LARGE_BYTES // 32))


def _require(holds: bool, said: str) -> None:
    if not holds:
        raise BrokenPromiseError(said)


async def _listed(storage: UnderStorage, path: str) -> list[ObjectInfo]:
    return [entry async for page in storage.list(path) for entry in page.entries]


async def _settled(storage: UnderStorage, path: str) -> ObjectInfo:
    """The entry once it has a version: a file changed just now may have none for a moment."""
    limit = time.monotonic() + SETTLE_SECONDS
    while not may_be_kept((info := await storage.stat(path)).version):
        if time.monotonic() > limit:
            break
        await asyncio.sleep(0.2)  # what is awaited is the passing of time itself
    return info


async def lists_children(storage: UnderStorage, bed: TestBed) -> str:
    """Every child once, nothing else."""
    for folder in ("train", "names", ""):
        found = sorted(entry.path for entry in await _listed(storage, folder))
        wanted = children(TREE, folder)
        twice = sorted({one for one in found if found.count(one) > 1})
        _require(not twice, f"{folder or '/'} lists {twice[:3]} more than once")
        missing = sorted(set(wanted) - set(found))
        _require(not missing, f"{folder or '/'} does not list {missing[:3]}")
        strange = sorted(set(found) - set(wanted)) if folder else []
        _require(not strange, f"{folder} lists {strange[:3]}, which is not there")
    return ""


async def knows_folders(storage: UnderStorage, bed: TestBed) -> str:
    """Kinds, in listings and by stat."""
    kinds = {entry.path: entry.kind for entry in await _listed(storage, "")}
    _require(kinds.get("train") is Kind.DIRECTORY, "the folder train is listed as a file")
    _require(kinds.get("top.bin") is Kind.FILE, "the file top.bin is listed as a folder")
    for path in ("", "train", "train/deep"):
        info = await storage.stat(path)
        _require(info.kind is Kind.DIRECTORY, f"the folder /{path} is said to be a file")
    return ""


async def tells_sizes(storage: UnderStorage, bed: TestBed) -> str:
    """Sizes of listings and of stat are the true ones."""
    for path, data in TREE.items():
        folder = path.rpartition("/")[0]
        entries = {one.path: one for one in await _listed(storage, folder)}
        for how, info in (("info", await storage.stat(path)), ("ls", entries[path])):
            said = f"{how} says that {path} has {info.size} bytes, and it has {len(data)}"
            _require(info.size == len(data), said)
    return ""


async def listing_and_stat_agree(storage: UnderStorage, bed: TestBed) -> str:
    """A row of a listing is what stat says of the path, once all have settled."""
    for entry in await _listed(storage, "train"):
        await _settled(storage, entry.path)
    for entry in await _listed(storage, "train"):
        seen = await storage.stat(entry.path)
        for name in ("kind", "size", "version"):
            said = f"ls and info do not agree on the {name} of {entry.path}"
            _require(getattr(seen, name) == getattr(entry, name), said)
    return ""


async def reads_whole_files(storage: UnderStorage, bed: TestBed) -> str:
    """The bytes that were put there."""
    for path, data in TREE.items():
        info = await storage.stat(path)
        got = bytes(await storage.read(path, 0, len(data), info.version))
        _require(got == data, f"{path} has other bytes than were put there")
    return ""


async def reads_ranges(storage: UnderStorage, bed: TestBed) -> str:
    """Exactly `[start, end)`."""
    content = TREE["top.bin"]
    info = await storage.stat("top.bin")
    for start, end in [(0, 1), (1, 1), (255, 258), (1000, 2048), (2047, 2048)]:
        got = bytes(await storage.read("top.bin", start, end, info.version))
        said = (
            f"bytes {start} to {end} of top.bin: {len(got)} bytes came, and not those of the file"
        )
        _require(got == content[start:end], said)
    return ""


async def past_the_end_is_an_error(storage: UnderStorage, bed: TestBed) -> str:
    """A short answer is never returned."""
    info = await storage.stat("train/0001.jpg")
    for start, end in [(2990, 3001), (4000, 4010)]:
        try:
            got = await storage.read("train/0001.jpg", start, end, info.version)
        except SourceError:
            continue
        raise BrokenPromiseError(
            f"bytes {start} to {end} of a file of 3000 bytes gave {len(bytes(got))} bytes"
        )
    return ""


async def many_readers(storage: UnderStorage, bed: TestBed) -> str:
    """Concurrent readers of one large file and of small ones get their own bytes."""
    content = large_bytes()
    bed.put({LARGE: content})
    info = await _settled(storage, LARGE)
    step = (LARGE_BYTES - PIECE) // (READERS - 1)
    ranges = [(n * step, n * step + PIECE) for n in range(READERS)]
    got = await asyncio.gather(
        *(storage.read(LARGE, start, end, info.version) for start, end in ranges)
    )
    for (start, end), data in zip(ranges, got, strict=True):
        said = f"of {READERS} readers at once, one got wrong bytes at {start}"
        _require(bytes(data) == content[start:end], said)
    return ""


async def what_is_not_there(storage: UnderStorage, bed: TestBed) -> str:
    """Not found, and no other error."""
    for doing, call in (
        ("info of a file that is not there", lambda: storage.stat("no/such/file")),
        ("reading a file that is not there", lambda: storage.read("no-such-file", 0, 1, b"")),
    ):
        try:
            await call()
        except SourceNotFoundError:
            continue
        except SourceError as error:
            raise BrokenPromiseError(f"{doing} raised: {error.message}") from error
        raise BrokenPromiseError(f"{doing} raised nothing")
    return ""


async def versions_last(storage: UnderStorage, bed: TestBed) -> str:
    """The version of a file stays while its bytes do."""
    first = await _settled(storage, "top.bin")
    second = await storage.stat("top.bin")
    _require(first.version == second.version, "top.bin did not change, and its version did")
    if not may_be_kept(first.version):
        raise AllowedError("info tells neither checksum nor time of change: nothing can be cached")
    return ""


async def versions_change(storage: UnderStorage, bed: TestBed) -> str:
    """Other bytes are another version, and an old version is never read as the new one."""
    path = "train/0002.jpg"
    old = await _settled(storage, path)
    if not may_be_kept(old.version):
        raise NothingToTestError("the store tells no versions")
    fresh = b"NEW" * 1000
    bed.put({path: fresh})
    new = await _settled(storage, path)
    try:
        _require(new.version != old.version, f"{path} got other bytes and has the same version")
        try:
            await storage.read(path, 0, old.size, old.version)
        except SourceChangedError:
            pass
        else:
            raise BrokenPromiseError(f"the old version of {path} was read after it had changed")
        got = bytes(await storage.read(path, 0, new.size, new.version))
        _require(got == fresh, f"{path} is read as it was before it changed")
    finally:
        bed.put({path: TREE[path]})
    return ""


async def sees_new_files(storage: UnderStorage, bed: TestBed) -> str:
    """A listing is not one of long ago."""
    await _listed(storage, "train")
    bed.put({"train/0003.jpg": b"three"})
    found = {entry.path for entry in await _listed(storage, "train")}
    _require("train/0003.jpg" in found, "a file that was added is not listed")
    return ""


async def many_files(storage: UnderStorage, bed: TestBed) -> str:
    """A large folder lists as a whole."""
    count = MANY_FILES if bed.puts_are_quick else FEW_FILES
    bed.put({f"many/{number:05}.bin": b"x" for number in range(count)})
    found = len(await _listed(storage, "many"))
    _require(found == count, f"a folder of {count} files lists {found}")
    return f"{count} files"


CLAUSES: Final = (
    Clause(
        "a folder lists each child once, odd names too",
        "Let ls(path, detail=True) return one dictionary a child, with its full path as name.",
        lists_children,
    ),
    Clause(
        "folders are folders and files are files",
        "Let info and ls set type to directory or file; the root is a directory.",
        knows_folders,
    ),
    Clause(
        "sizes are true",
        "Let info and ls set size to the number of bytes that reading gives.",
        tells_sizes,
    ),
    Clause(
        "a listing and a question about one file agree",
        "Make the dictionaries of ls and info in one place.",
        listing_and_stat_agree,
    ),
    Clause(
        "a file's bytes are those that were put there",
        "Let cat_file(path, start, end) return the bytes of the file as they are.",
        reads_whole_files,
    ),
    Clause(
        "a range is exactly the bytes that were asked for",
        "Let cat_file return the bytes from start up to, and without, end.",
        reads_ranges,
    ),
    Clause(
        "a read past the end is an error, never a short answer",
        "Let info tell the true size, and a driver of its own raise SourceChangedError.",
        past_the_end_is_an_error,
    ),
    Clause(
        "many readers at once get their own bytes",
        "Share no position, buffer or connection between calls without a lock.",
        many_readers,
    ),
    Clause(
        "what is not there is not found",
        "Raise FileNotFoundError for a path that is not there.",
        what_is_not_there,
    ),
    Clause(
        "a version stays while the bytes do",
        "Let info tell a checksum (ETag, checksum) or the time of the last change (mtime), never "
        "the time of the question.",
        versions_last,
    ),
    Clause(
        "other bytes are another version",
        "Let checksum or mtime change with each change of the bytes, and keep no cache of infos.",
        versions_change,
    ),
    Clause(
        "new files are seen",
        "Keep no listings, or drop them in invalidate_cache().",
        sees_new_files,
    ),
    Clause(
        "a folder with many files lists as a whole",
        "Follow the store's pages to the last one.",
        many_files,
    ),
)
"""All that need no other secrets, in the order in which they are tried."""

REFUSAL: Final = "a wrong secret is refused, and is not repeated"
REFUSAL_CURE: Final = "Raise PermissionError when the store refuses, with no secret in its text."


async def refuses_wrong_secrets(opened: OpenStorage, bed: TestBed) -> str:
    """With the secrets of `refused` nothing is read, and the error says that access failed."""
    if not bed.refused:
        raise NothingToTestError("the manifest names no secrets to be refused")
    storage = opened({**bed.secrets, **bed.refused})
    try:
        info = await storage.stat("top.bin")
        await storage.read("top.bin", 0, info.size, b"")
    except SourceAccessError as error:
        leaked = any(secret and secret in str(error) for secret in bed.all_secrets)
        _require(not leaked, "the error repeats the secret")
        return ""
    except SourceError as error:
        raise BrokenPromiseError(
            f"reading raised no PermissionError but: {error.message}"
        ) from error
    finally:
        await storage.close()
    raise BrokenPromiseError("a file was read with a wrong secret")
