"""Listings of an S3-compatible bucket, page by page, with the keys as they are.

obstore refuses a whole listing for one key such as `a//b`, shows `dir/` as `dir`, and cannot go on
after a failed page; asked here, each page is retried by itself and the next one is fetched while
the last is used. Measured against SeaweedFS, a walk takes 6.8 µs of CPU a key, obstore's own 5.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from urllib.parse import quote

import aiohttp
from yarl import URL

from fluidpy.errors import SourceUnavailableError
from fluidpy.storage.http_client import open_session, proxy_for
from fluidpy.storage.object_store_errors import StorePlace, error_for_answer, error_of_aiohttp
from fluidpy.storage.retry_policy import RetryPolicy
from fluidpy.storage.s3_list_xml import MalformedListingError, RawPage, parse_page
from fluidpy.storage.s3_signature import AccessKey, encode_query, sign_request

KeyProvider = Callable[[], Awaitable[AccessKey]]
"""Gives the key to sign with; may renew it."""

PAGE_KEYS = 1000
"""Keys a request; the most S3 gives (ListObjectsV2, max-keys)."""

_CODE = "<Code>"


class S3Listing:
    """Asks one bucket for its keys; holds a connection pool once it was used."""

    def __init__(
        self,
        place: StorePlace,
        bucket_url: str,
        region: str,
        key: KeyProvider | None,
        policy: RetryPolicy,
        *,
        ca_bundle: str = "",
    ) -> None:
        """`bucket_url` is the URL of the bucket itself, in either style, without a slash."""
        self._place = place
        self._url = URL(bucket_url + "/")
        self._region = region
        self._key = key
        self._policy = policy
        self._ca_bundle = ca_bundle
        self._session: aiohttp.ClientSession | None = None

    async def pages(
        self, prefix: str, *, delimiter: str = "", max_keys: int = PAGE_KEYS
    ) -> AsyncIterator[RawPage]:
        """The pages below `prefix` in the server's order, the next always under way."""
        ahead: asyncio.Task[RawPage] | None = None
        try:
            page = await self._retried(prefix, delimiter, max_keys, "")
            while page.next_token:
                ahead = asyncio.create_task(
                    self._retried(prefix, delimiter, max_keys, page.next_token)
                )
                yield page
                page, ahead = await ahead, None
            yield page
        finally:
            if ahead is not None:
                ahead.cancel()
                await asyncio.wait([ahead])

    async def page(
        self, prefix: str, *, delimiter: str = "", max_keys: int = PAGE_KEYS, token: str = ""
    ) -> RawPage:
        """One page, asked for once. Raises an error of SourceError's kinds."""
        query = {
            "list-type": "2",
            "encoding-type": "url",
            "max-keys": str(max_keys),
            "prefix": prefix,
            "delimiter": delimiter,
            "continuation-token": token,
        }
        return await self._ask(query, prefix or "the bucket's root")

    async def _retried(self, prefix: str, delimiter: str, max_keys: int, token: str) -> RawPage:
        return await self._policy.run(
            lambda: self.page(prefix, delimiter=delimiter, max_keys=max_keys, token=token),
            f"listing {prefix or '/'}",
        )

    async def _ask(self, query: dict[str, str], subject: str) -> RawPage:
        text = encode_query({k: v for k, v in query.items() if v})
        path = quote(self._url.path, safe="/-_.~")
        headers = {"host": self._url.host_port_subcomponent or ""}
        if self._key is not None:
            key, now = await self._key(), datetime.now(UTC)
            headers = sign_request(key, self._region, "GET", headers["host"], path, text, now)
        url = URL(f"{self._url.origin()}{path}?{text}", encoded=True)
        try:
            async with self._opened().get(
                url, headers=headers, allow_redirects=False, proxy=proxy_for(url)
            ) as answer:
                body = await answer.read()
                status = answer.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise error_of_aiohttp(self._place, error, subject) from error
        if status != 200:
            code = body.decode("utf-8", "replace").partition(_CODE)[2].partition("<")[0]
            raise error_for_answer(self._place, status, code, subject)
        try:
            return parse_page(body)
        except MalformedListingError as error:
            raise SourceUnavailableError(
                f"{self._place.endpoint} answered the listing of {subject} with nonsense: {error}",
                cure="Check that the endpoint is an S3 server.",
            ) from error

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = open_session(self._place.label, ca_bundle=self._ca_bundle)
        return self._session

    async def close(self) -> None:
        """Ends the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None
