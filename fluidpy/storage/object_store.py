"""S3-compatible object stores, OSS among them: reads over TLS through obstore, listings of our own.

Plain HTTP is read by `object_gets` (short ranges) and `object_pieces` (large ones). Every
ranged read is conditional on the version (If-Match), and the tag of the answer is compared too,
because some servers ignore the condition.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store
from yarl import URL

from fluidpy.errors import (
    SourceChangedError,
    SourceConfigurationError,
    SourceNotFoundError,
    SourceUnavailableError,
)
from fluidpy.storage.etag_codec import decode_etag, encode_etag
from fluidpy.storage.http_client import proxy_for, read_certificates
from fluidpy.storage.object_gets import MOST_BYTES, ObjectGets
from fluidpy.storage.object_listing import KeyFolder
from fluidpy.storage.object_pieces import ObjectPieces
from fluidpy.storage.object_store_address import StoreAddress, store_address
from fluidpy.storage.object_store_credentials import key_provider, obstore_credentials
from fluidpy.storage.object_store_errors import StorePlace, error_of_obstore
from fluidpy.storage.options import ObjectStoreOptions
from fluidpy.storage.retry_policy import RetryPolicy
from fluidpy.storage.s3_listing import S3Listing
from fluidpy.storage.under_storage import (
    Buffer,
    Kind,
    ListPage,
    MountSource,
    ObjectInfo,
    TakePiece,
    identity_digest,
)

if TYPE_CHECKING:
    from obstore.store import ClientConfig

_CONNECT = timedelta(seconds=5)
_SILENCE = timedelta(seconds=15)
"""Without a byte for so long a connection is given up and the read tried again."""

_ASKED = (BaseError, OSError, ValueError)
"""What obstore raises: its own tree, FileNotFoundError, and ValueError for impossible keys."""


class ObjectStorage:
    """An `UnderStorage` over one bucket and prefix; one pool of connections a mount."""

    retries_listings = True
    """Pages are retried one by one here, so the decorator does not start listings again."""

    def __init__(
        self, source: MountSource, options: ObjectStoreOptions, policy: RetryPolicy
    ) -> None:
        """Checks the options; opens nothing. Raises SourceConfigurationError."""
        self._address = store_address(source, options)
        self._root = self._address.prefix
        key = key_provider(source, options)
        self._place = StorePlace(
            source.label or source.url,
            self._address.bucket,
            self._address.endpoint,
            key is not None,
        )
        credentials = obstore_credentials(options, key)
        self._store = _obstore(self._place.label, self._address, options, credentials)
        self._listing = S3Listing(
            self._place,
            self._address.bucket_url,
            self._address.region,
            key,
            policy,
            ca_bundle=options.ca_bundle,
        )
        self._pieces: ObjectPieces | None = None
        self._gets: ObjectGets | None = None
        if self._address.allow_http and proxy_for(URL(self._address.bucket_url)) is None:
            plain = (self._place, self._address.bucket_url, self._address.region, key)
            self._pieces, self._gets = ObjectPieces(*plain), ObjectGets(*plain)
        self._url = f"{source.scheme}://{self._address.bucket}/{self._root}"
        self._identity = identity_digest(
            options.access_key_id,
            options.secret_access_key,
            options.credentials,
        )

    @property
    def source_id(self) -> str:
        """Endpoint, bucket and prefix."""
        return f"s3+{self._address.endpoint}/{self._address.bucket}/{self._root}"

    @property
    def identity(self) -> bytes:
        """A digest of the access key."""
        return self._identity

    async def stat(self, path: str) -> ObjectInfo:
        """The object or folder at `path`; a folder wins over an object of the same key."""
        if not path:
            return await self._stat_root()
        head, folder = await asyncio.gather(
            self._head(self._root + path),
            self._listing.page(f"{self._root}{path}/", max_keys=1),
        )
        if folder.objects:
            return ObjectInfo(path, Kind.DIRECTORY)
        if head is None:
            raise SourceNotFoundError(
                f"{self._url}{path} is not there",
                cure="Look at mountPoint, the bucket and the key.",
            )
        return head._replace(path=path)

    async def _stat_root(self) -> ObjectInfo:
        page = await self._listing.page(self._root, max_keys=1)
        if page.objects or not self._root:
            return ObjectInfo("", Kind.DIRECTORY)
        await self._refuse_single_object()
        raise SourceNotFoundError(
            f"{self._url} holds no object",
            cure="Check the prefix in mountPoint; a bucket's root may be empty, a prefix may not.",
        )

    async def _refuse_single_object(self) -> None:
        if await self._head(self._root[:-1]) is not None:
            url = self._url.rstrip("/")
            raise SourceConfigurationError(
                f"{url} is one object, and a mount is a folder of objects",
                cure=f"Give the folder that holds it: mountPoint {url.rpartition('/')[0]}",
            )

    async def _head(self, key: str) -> ObjectInfo | None:
        try:
            meta = await obstore.head_async(self._store, key)
        except FileNotFoundError:
            return None
        except _ASKED as error:
            raise error_of_obstore(self._place, error, key) from error
        mtime_ns = int(meta["last_modified"].timestamp()) * 1_000_000_000
        return ObjectInfo(key, Kind.FILE, meta["size"], mtime_ns, encode_etag(meta["e_tag"]))

    async def list(self, path: str) -> AsyncIterator[ListPage]:
        """The direct children of a folder, 1,000 at most a page; an empty prefix is empty."""
        async for page in self._fed(path, "/"):
            yield page

    async def walk(self, path: str) -> AsyncIterator[ListPage]:
        """All objects below a folder, and the folders that have a marker of their own."""
        async for page in self._fed(path, ""):
            yield page

    async def _fed(self, path: str, delimiter: str) -> AsyncIterator[ListPage]:
        prefix = f"{self._root}{path}/" if path else self._root
        folder = KeyFolder(self._root, prefix)
        empty = True
        async for page in self._listing.pages(prefix, delimiter=delimiter):
            empty = empty and not (page.objects or page.prefixes)
            yield folder.feed(page)
        if empty and self._root and not path:
            await self._refuse_single_object()

    async def read(self, path: str, start: int, end: int, version: bytes) -> Buffer:
        """The bytes `[start, end)`, on condition that the object is still that version."""
        if end <= start:
            return b""
        key = self._root + path if path else self._root[:-1]
        if self._gets is not None and end - start <= MOST_BYTES:
            return await self._gets.get(key, start, end, version)
        etag = decode_etag(version) if version else None
        try:
            answer = await obstore.get_async(
                self._store,
                key,
                options={"range": (start, end), "if_match": etag}
                if etag
                else {"range": (start, end)},
            )
            data = await answer.bytes_async()
        except _ASKED as error:
            raise error_of_obstore(self._place, error, key) from error
        meta = answer.meta
        if version and encode_etag(meta["e_tag"]) != version:
            raise self._changed(key)
        if len(data) != end - start:
            if meta["size"] < end:
                raise self._changed(key)
            raise SourceUnavailableError(
                f"{self._place.endpoint} answered {len(data)} of {end - start} bytes of {key}",
                cure="Look whether the endpoint, or a proxy before it, cuts answers short.",
            )
        return data

    @property
    def gives_pieces(self) -> bool:
        """Whether the endpoint is plain HTTP and asked without a proxy."""
        return self._pieces is not None

    async def read_pieces(
        self, path: str, start: int, end: int, version: bytes, piece_bytes: int, take: TakePiece
    ) -> None:
        """The bytes `[start, end)`, on condition that the object is still that version."""
        assert self._pieces is not None  # `gives_pieces` says so
        key = self._root + path if path else self._root[:-1]
        await self._pieces.read(key, start, end, version, piece_bytes, take)

    def _changed(self, key: str) -> SourceChangedError:
        return SourceChangedError(
            f"bucket {self._address.bucket}: {key} is no longer the version that was listed",
            cure="Open it again to read the new version.",
        )

    async def close(self) -> None:
        """Ends the connections; obstore's end with the object."""
        await self._listing.close()
        if self._pieces is not None:
            self._pieces.close()
        if self._gets is not None:
            await self._gets.close()


def _obstore(
    label: str, address: StoreAddress, options: ObjectStoreOptions, credentials: dict[str, object]
) -> S3Store:
    client: ClientConfig = {
        "allow_http": address.allow_http,
        "connect_timeout": _CONNECT,
        "read_timeout": _SILENCE,
        # The caller's deadline ends what takes longer; this only frees the connection.
        "timeout": timedelta(minutes=10),
        "pool_max_idle_per_host": "64",
    }
    if options.ca_bundle:
        client["root_certificate"] = read_certificates(label, options.ca_bundle)
    return S3Store(
        address.bucket,
        endpoint=address.store_endpoint,
        region=address.region,
        virtual_hosted_style_request=address.virtual_hosted,
        client_options=client,
        # Retries are ours: they know the deadline, and which errors are final.
        retry_config={"max_retries": 0},
        **credentials,  # type: ignore[arg-type]  # keys of S3Config, chosen there
    )
