"""Keys no file system likes, OSS's signatures, single files, sources without versions, plug-ins."""

from __future__ import annotations

from collections import Counter
from importlib.metadata import EntryPoint
from pathlib import Path

import fsspec
import pytest
from aiohttp import web
from fsspec.implementations.memory import MemoryFileSystem

from fluidpy.errors import SourceAccessError, SourceConfigurationError, SourceUnavailableError
from fluidpy.settings import Settings
from fluidpy.storage import factory, source_check
from fluidpy.storage.factory import open_storage
from fluidpy.storage.under_storage import Kind, MountSource, UnderStorage
from fluidpy.testing.faulty import Break, FaultyStorage
from fluidpy.testing.servers.http_thread import serve
from fluidpy.testing.servers.object_server import ObjectServer
from fluidpy.testing.servers.oss import OssServer
from fluidpy.testing.storage_suite import listed, walked

ODD = {
    "a//b": "empty path part",
    "/lead": "empty path part",
    "../x": "'.' or '..' as a path part",
    "x/./y": "'.' or '..' as a path part",
    "n" * 300: "a name over 255 bytes",
    "é" * 128: "a name over 255 bytes",
    "control\x01": "a NUL or control character",
    "bad\udcff": "not UTF-8",
    "both": "a file that is also a folder",
    "full/": "a folder marker that holds bytes",
}
FINE = ("a.txt", "both-more", "both/in", "é/ü ñ", "ok/deep/er", "back\\slash", "100%", "a+b")


@pytest.mark.parametrize("page_keys", [1, 2, 3, 1000])
async def test_odd_keys_are_left_out_and_counted(
    keys: ObjectServer, settings: Settings, page_keys: int
) -> None:
    for key in (*ODD, *FINE):
        keys.put("odd", key, b"bytes")
    keys.put("odd", "empty-folder/", b"")
    keys.page_keys = page_keys
    storage = open_storage(MountSource("s3://odd", "odd", {"endpoint": keys.endpoint}), settings)
    omitted = [o async for page in storage.walk("") for o in page.omitted]
    assert Counter(omitted) == Counter((key, reason) for key, reason in ODD.items())
    entries = await walked(storage, "")
    assert sorted(e.path for e in entries if e.kind is Kind.FILE) == sorted(FINE)
    folders = {e.path for e in entries if e.kind is Kind.DIRECTORY}
    assert folders == {"empty-folder", "full"}
    for path in FINE:
        info = await storage.stat(path)
        assert bytes(await storage.read(path, 0, 5, info.version)) == b"bytes"
    root, left_out = await listed(storage, "")
    names = [entry.path for entry in root]
    assert len(names) == len(set(names))
    assert {"both", "a", "empty-folder"} <= {e.path for e in root if e.kind is Kind.DIRECTORY}
    assert ("both", "a file that is also a folder") in left_out
    assert await listed(storage, "empty-folder") == ([], [])
    await storage.close()


def oss_source(oss: OssServer, secret: str, **options: str) -> MountSource:
    return MountSource(
        "oss://images",
        "images",
        {"fs.oss.endpoint": oss.endpoint, "path_style": "true", **options},
        {"fs.oss.accessKeyId": oss.access_key, "fs.oss.accessKeySecret": secret},
    )


@pytest.mark.parametrize("client", [{}, {"client": "fsspec"}], ids=["obstore", "ossfs"])
async def test_oss_refuses_a_wrong_secret(
    oss: OssServer, settings: Settings, client: dict[str, str]
) -> None:
    oss.put("images", "a/b.jpg", b"jpeg")
    good = open_storage(oss_source(oss, oss.secret_key, **client), settings)
    assert bytes(await good.read("a/b.jpg", 0, 4, b"")) == b"jpeg"
    await good.close()
    bad = open_storage(oss_source(oss, "wrong-secret", **client), settings)
    for call in (bad.stat("a/b.jpg"), bad.read("a/b.jpg", 0, 4, b"")):
        with pytest.raises(SourceAccessError) as caught:
            await call
        assert "wrong-secret" not in str(caught.value)
    with pytest.raises(SourceAccessError, match="SignatureDoesNotMatch"):
        await listed(bad, "a")
    await bad.close()


class Plain:
    """A web server with one file, that may not know ranges."""

    def __init__(self, *, ranges: bool, etag: str = '"one"') -> None:
        self.ranges, self.etag = ranges, etag

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.url.path != "/data/file.bin":
            return web.Response(status=404)
        data, headers = b"0123456789", {"ETag": self.etag}
        if self.ranges and (asked := request.http_range).start is not None and asked.stop:
            headers["Content-Range"] = f"bytes {asked.start}-{asked.stop - 1}/10"
            return web.Response(status=206, body=data[asked], headers=headers)
        headers["Content-Length"] = "10"
        body = b"" if request.method == "HEAD" else data
        return web.Response(body=body, headers=headers)


async def test_a_url_of_one_file_is_a_folder_with_it(settings: Settings) -> None:
    with serve(Plain(ranges=True).handle) as server:
        storage = open_storage(MountSource(f"{server.endpoint}/data/file.bin", "web"), settings)
        assert (await storage.stat("")).kind is Kind.DIRECTORY
        ((only,), omitted) = await listed(storage, "")
        assert (only.path, only.size, omitted) == ("file.bin", 10, [])
        assert bytes(await storage.read("file.bin", 3, 6, only.version)) == b"345"
        await storage.close()


async def test_a_web_server_without_ranges_gives_whole_files_only(settings: Settings) -> None:
    with serve(Plain(ranges=False).handle) as server:
        storage = open_storage(MountSource(f"{server.endpoint}/data/file.bin", "web"), settings)
        assert bytes(await storage.read("file.bin", 0, 10, b"")) == b"0123456789"
        with pytest.raises(SourceConfigurationError, match="does not answer ranges"):
            await storage.read("file.bin", 3, 6, b"")
        await storage.close()


async def test_a_weak_etag_is_no_version(settings: Settings) -> None:
    with serve(Plain(ranges=True, etag='W/"one"').handle) as server:
        storage = open_storage(MountSource(f"{server.endpoint}/data/file.bin", "web"), settings)
        assert (await storage.stat("file.bin")).version == b""
        await storage.close()


class BareFileSystem(MemoryFileSystem):  # type: ignore[misc]  # fsspec has no types
    """A file system that tells names and sizes alone."""

    protocol = "bare"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.removeprefix("bare://")))

    def info(self, path: str, **kwargs: object) -> dict[str, object]:
        found = super().info(path, **kwargs)
        return {key: found[key] for key in ("name", "size", "type")}

    def ls(self, path: str, detail: bool = True, **kwargs: object) -> list[dict[str, object]]:
        return [self.info(entry["name"]) for entry in super().ls(path, detail=True)]

    modified = fsspec.AbstractFileSystem.modified


async def test_a_protocol_registered_by_anyone_is_a_source(settings: Settings) -> None:
    fsspec.register_implementation("bare", BareFileSystem, clobber=True)
    fsspec.filesystem("memory").pipe_file("/bare/x", b"bytes")
    storage = open_storage(MountSource("bare://bare", "bare"), settings)
    ((only,), _) = await listed(storage, "")
    assert (only.path, only.size, only.version) == ("x", 5, b"")
    assert bytes(await storage.read("x", 1, 3, b"")) == b"yt"
    await storage.close()
    fsspec.filesystem("memory").rm("/bare", recursive=True)


def make_starfs(source: MountSource, settings: Settings) -> UnderStorage:
    return open_storage(MountSource(source.options["directory"], source.label), settings)


async def test_a_driver_joins_by_entry_point(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = EntryPoint("starfs", f"{__name__}:make_starfs", source_check.ENTRY_POINT_GROUP)
    for module in (factory, source_check):
        monkeypatch.setattr(module, "entry_points", lambda **_: [point])
    monkeypatch.setattr(EntryPoint, "load", lambda _: make_starfs)
    (tmp_path / "star").write_bytes(b"light")
    source = MountSource("starfs://galaxy", "star", {"directory": str(tmp_path)})
    storage = open_storage(source, settings)
    assert [entry.path for entry in (await listed(storage, ""))[0]] == ["star"]
    await storage.close()
    assert "starfs" in source_check.known_schemes()


async def test_a_storage_can_be_broken_by_script(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"bytes")
    storage = FaultyStorage(open_storage(MountSource(str(tmp_path), "nas"), settings))
    storage.script(Break("read", "f*", SourceUnavailableError("gone")))
    with pytest.raises(SourceUnavailableError, match="gone"):
        await storage.read("file", 0, 5, b"")
    assert bytes(await storage.read("file", 0, 5, b"")) == b"bytes"
    assert storage.calls == [("read", "file"), ("read", "file")]
    await storage.close()
