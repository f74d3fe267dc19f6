"""Web servers: a file, or the folders below a URL as Apache and nginx index them.

A URL that is a file is shown as a folder with that one file. Sizes are asked file by file (HEAD),
since an index rounds them. Only links below a folder are followed. What an index names and the
server does not give, or gives without saying how long it is (a page made by a program), is left
out and counted.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from urllib.parse import quote, unquote_to_bytes

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from fluidpy.errors import (
    SourceAccessError,
    SourceChangedError,
    SourceConfigurationError,
    SourceError,
    SourceNotFoundError,
    SourceUnavailableError,
)
from fluidpy.storage.folder_walk import walk_by_folders
from fluidpy.storage.http_client import open_session, proxy_for
from fluidpy.storage.http_errors import error_for_status, error_of_aiohttp
from fluidpy.storage.http_index import Link, links_below
from fluidpy.storage.http_version import (
    condition_for,
    content_range,
    modified_seconds,
    version_of,
)
from fluidpy.storage.object_keys import NOT_READABLE, omission
from fluidpy.storage.option_names import HTTP_OPTIONS
from fluidpy.storage.options import canonical_options
from fluidpy.storage.source_check import check_http_url
from fluidpy.storage.under_storage import (
    Buffer,
    Kind,
    ListPage,
    MountSource,
    ObjectInfo,
    OmittedKey,
    identity_digest,
)

_HEADS_AT_ONCE = 16
"""HEAD requests under way for one listing: kind to a mirror, and 30 ms each is 500 files/s."""
_PAGE = 256
_LARGEST_INDEX = 64 * 1024 * 1024
"""A page of more bytes is no index."""
NO_LENGTH = "a page whose server does not say its length"
"""Why a file of an index is left out, besides the reasons of `object_keys`."""


class HttpStorage:
    """An `UnderStorage` over a URL of http or https."""

    def __init__(self, source: MountSource) -> None:
        """Checks the options; opens nothing. Raises SourceConfigurationError."""
        values = canonical_options(source, HTTP_OPTIONS).values
        self._label = source.label or source.url
        check_http_url(source)
        url = URL(source.url.partition("#")[0])
        self._root = url
        self._headers = _authorization(values)
        self._identity = identity_digest(*self._headers.values())
        self._ca_bundle = values.get("ca_bundle", "")
        self._session: aiohttp.ClientSession | None = None
        self._single: str | None = None
        self._base: URL | None = None

    @property
    def source_id(self) -> str:
        """The URL."""
        return str(self._root)

    @property
    def identity(self) -> bytes:
        """A digest of the credentials sent."""
        return self._identity

    async def stat(self, path: str) -> ObjectInfo:
        """The file or folder at `path`, by HEAD; a folder is what redirects to `path/`."""
        base = await self._find_base()
        if not path:
            if base == self._root:  # else that was asked to find the base
                await self._head(base)
            return ObjectInfo("", Kind.DIRECTORY)
        if self._single is not None and path != self._single:
            raise SourceNotFoundError(
                f"{self._root} has only the file {self._single}",
                cure="Read that file, or mount the folder above it.",
            )
        return await self._stat(path, self._url(path))

    async def _stat(self, path: str, url: URL) -> ObjectInfo:
        info = await self._info(path, url)
        if info is None:
            raise SourceConfigurationError(
                f"{url} has no Content-Length", cure="Serve it as a file, without encoding."
            )
        return info

    async def _info(self, path: str, url: URL) -> ObjectInfo | None:
        """What is at `url`; None when the server does not say how long it is."""
        headers, final = await self._head(url)
        if final.path.endswith("/"):
            return ObjectInfo(path, Kind.DIRECTORY)
        length = headers.get("Content-Length", "")
        if not length.isdigit():
            return None
        seconds = modified_seconds(headers) or 0
        size = int(length)
        return ObjectInfo(path, Kind.FILE, size, seconds * 1_000_000_000, version_of(headers, size))

    async def _head(self, url: URL) -> tuple[Mapping[str, str], URL]:
        async with self._request("HEAD", url) as answer:
            if answer.status == 200:
                # Apache says of an empty file no length here.
                if "Content-Length" in answer.headers or answer.url.path.endswith("/"):
                    return CIMultiDict(answer.headers), answer.url
            elif answer.status not in (405, 501):
                raise error_for_status(str(url), answer.status)
        return await self._first_byte(url)

    async def _first_byte(self, url: URL) -> tuple[Mapping[str, str], URL]:
        """What HEAD would say, from a server that does not know it or leaves out the length."""
        async with self._request("GET", url, {"Range": "bytes=0-0"}) as answer:
            headers = CIMultiDict(answer.headers)
            if answer.status == 206:
                part = content_range(answer.headers)
                headers["Content-Length"] = str(part.total) if part and part.total else ""
                return headers, answer.url
            if answer.status == 416 and headers.get("Content-Range", "").strip() == "bytes */0":
                headers["Content-Length"] = "0"
                return headers, answer.url
            if answer.status == 200:
                answer.close()
                return headers, answer.url
            raise error_for_status(str(url), answer.status)

    async def list(self, path: str) -> AsyncIterator[ListPage]:
        """The children that the index of a folder links to, with sizes, 256 at most a page."""
        base = await self._find_base()
        if self._single is not None:
            name = self._single
            yield ListPage([await self._stat(name, self._url(name))], [])
            return
        url = self._url(path + "/") if path else base
        prefix = f"{path}/" if path else ""
        links = await self._links(url)
        for position in range(0, len(links), _PAGE):
            yield await self._page(prefix, links[position : position + _PAGE])

    async def _links(self, url: URL) -> Sequence[Link]:
        async with self._request("GET", url) as answer:
            if answer.status != 200:
                raise error_for_status(str(url), answer.status)
            kind = answer.headers.get("Content-Type", "")
            if "html" not in kind or not answer.url.path.endswith("/"):
                raise SourceNotFoundError(
                    f"{url} has no directory index",
                    cure="Switch the server's index on (autoindex), or mount single files.",
                )
            body = await answer.content.read(_LARGEST_INDEX)
            return links_below(body.decode("utf-8", "surrogateescape"), str(answer.url))

    async def _page(self, prefix: str, links: Iterable[Link]) -> ListPage:
        slots = asyncio.Semaphore(_HEADS_AT_ONCE)
        page = ListPage([], [])

        async def add(link: Link) -> None:
            path = prefix + link.name
            if reason := omission(path):
                page.omitted.append(OmittedKey(path, reason))
            elif link.is_folder:
                page.entries.append(ObjectInfo(path, Kind.DIRECTORY))
            else:
                async with slots:
                    await self._add_file(page, path)

        tasks = [asyncio.ensure_future(add(link)) for link in links]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        return page

    async def _add_file(self, page: ListPage, path: str) -> None:
        """Asks for one file; one that cannot be read does not take the folder with it."""
        try:
            info = await self._info(path, self._url(path))
        except SourceNotFoundError:  # a link to nothing is no child
            return
        except SourceAccessError:
            page.omitted.append(OmittedKey(path, NOT_READABLE))
            return
        if info is None:
            page.omitted.append(OmittedKey(path, NO_LENGTH))
        else:
            page.entries.append(info)

    def walk(self, path: str) -> AsyncIterator[ListPage]:
        """All files below a folder, an index after the other, and the folders."""
        return walk_by_folders(self.list, path)

    async def read(self, path: str, start: int, end: int, version: bytes) -> Buffer:
        """The bytes `[start, end)`, on condition that the file is still that version."""
        if end <= start:
            return b""
        await self._find_base()
        url = self._url(path)
        headers = {"Range": f"bytes={start}-{end - 1}", **condition_for(version)}
        async with self._request("GET", url, headers) as answer:
            if answer.status not in (200, 206):
                raise error_for_status(str(url), answer.status)
            self._check(url, answer, start, end, version)
            data = await answer.read()
        if len(data) != end - start:
            raise SourceUnavailableError(
                f"{url}: {len(data)} of {end - start} bytes came",
                cure="Look whether the server, or a proxy before it, cuts answers short.",
            )
        return data

    def _check(
        self, url: URL, answer: aiohttp.ClientResponse, start: int, end: int, version: bytes
    ) -> None:
        length = answer.content_length
        if answer.status == 206:
            part = content_range(answer.headers)
            if part is None or part.start != start:
                raise SourceUnavailableError(
                    f"{url} answered with another range than asked",
                    cure="The server must support range requests as RFC 9110 says.",
                )
            total, there = part.total, part.end - part.start
        else:
            total, there = length, length or 0
        if version and version_of(answer.headers, total) != version:
            raise error_for_status(str(url), 412)
        if answer.status == 200 and (start, end) != (0, length):
            raise SourceConfigurationError(
                f"{url}: the server does not answer ranges (200 instead of 206)",
                cure="Mount a server that knows Range requests, such as Apache or nginx.",
            )
        if there < end - start and total is not None and total < end:
            raise SourceChangedError(f"{url} is shorter than it was", cure="Open it again.")

    async def _find_base(self) -> URL:
        """The folder paths are relative to; found once, by asking what the URL is."""
        if self._base is None:
            if self._root.path.endswith("/"):
                self._base = self._root
            else:
                _, final = await self._head(self._root)
                if final.path.endswith("/"):
                    self._base = final
                else:
                    name = unquote_to_bytes(self._root.raw_path.rpartition("/")[2])
                    self._single = name.decode("utf-8", "surrogateescape")
                    self._base = self._root.join(URL("."))
        return self._base

    def _url(self, path: str) -> URL:
        base = self._base or self._root
        raw = quote(path.encode("utf-8", "surrogateescape"), safe="/-_.~!$&'()*+,;=:@")
        return URL(f"{base.origin()}{base.raw_path}{raw}", encoded=True)

    @contextlib.asynccontextmanager
    async def _request(
        self, method: str, url: URL, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        if self._session is None:
            self._session = open_session(
                self._label, ca_bundle=self._ca_bundle, headers=self._headers
            )
        sent = {"Accept-Encoding": "identity", **(headers or {})}
        try:
            async with self._session.request(
                method, url, headers=sent, proxy=proxy_for(url), max_redirects=5
            ) as answer:
                yield answer
        except SourceError:
            raise
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise error_of_aiohttp(str(url), error) from error

    async def close(self) -> None:
        """Ends the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None


def _authorization(values: Mapping[str, str]) -> dict[str, str]:
    if token := values.get("bearer_token"):
        return {"Authorization": f"Bearer {token}"}
    if user := values.get("username"):
        pair = f"{user}:{values.get('password', '')}".encode()
        return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
    return {}
