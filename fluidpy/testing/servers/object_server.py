"""A small bucket server in memory that keeps keys exactly as they are put.

It answers what readers ask of S3 and OSS: GET with Range and If-Match, HEAD, ListObjects and
ListObjectsV2, path-style. It exists for what a real server refuses to hold (`a//b`, `../x`) and as
the base of the OSS server; see `seaweedfs` for the real thing.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import NamedTuple
from urllib.parse import quote, unquote_to_bytes
from xml.sax.saxutils import escape

from aiohttp import web

from fluidpy.testing.servers.http_thread import serve

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


class StoredObject(NamedTuple):
    """One object."""

    data: bytes
    modified: datetime
    etag: str


class ObjectServer:
    """Buckets in memory; subclasses check who asks."""

    def __init__(self) -> None:
        """No buckets yet."""
        self.endpoint = ""
        self.buckets: dict[str, dict[str, StoredObject]] = {}
        self.page_keys = 1000
        """Most keys an answer holds, whatever a client asks for."""
        self.element_order = ("Key", "LastModified", "ETag", "Type", "Size", "StorageClass")
        """Order of elements in a listing: servers differ."""

    def put(self, bucket: str, key: str, data: bytes) -> None:
        """Makes an object, and its bucket if need be."""
        etag = f'"{hashlib.md5(data, usedforsecurity=False).hexdigest().upper()}"'
        objects = self.buckets.setdefault(bucket, {})
        objects[key] = StoredObject(data, datetime.now(UTC).replace(microsecond=0), etag)

    def put_all(self, bucket: str, objects: Mapping[str, bytes]) -> None:
        """Makes many objects."""
        for key, data in objects.items():
            self.put(bucket, key, data)

    def refusal(self, request: web.BaseRequest, bucket: str, key: str) -> web.Response | None:
        """The answer to a request that may not be done; None when it may."""
        del request, bucket, key
        return None

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answers one request."""
        path = request.raw_path.partition("?")[0]
        raw_bucket, _, raw_key = path.lstrip("/").partition("/")
        bucket = _text(raw_bucket)
        key = _text(raw_key)
        if refused := self.refusal(request, bucket, key):
            return refused
        if bucket not in self.buckets:
            return error_answer(404, "NoSuchBucket", "The specified bucket does not exist.")
        if not key:
            return self._list(request, bucket)
        found = self.buckets[bucket].get(key)
        if found is None:
            return error_answer(404, "NoSuchKey", "The specified key does not exist.")
        return _object_answer(request, found)

    def _list(self, request: web.BaseRequest, bucket: str) -> web.Response:
        query = request.query
        if not {"list-type", "prefix", "delimiter", "max-keys"} & set(query):
            return web.Response(text="<BucketInfo/>", content_type="application/xml")
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        after = query.get("continuation-token", "") or query.get("marker", "")
        most = min(int(query.get("max-keys", "1000")), self.page_keys)
        encoded = query.get("encoding-type") == "url"
        rows: list[str] = []
        prefixes: list[str] = []
        last, more = "", False
        for key in sorted(self.buckets[bucket], key=lambda k: k.encode("utf-8", "surrogateescape")):
            name, folder = key, False
            if delimiter and delimiter in key[len(prefix) :]:
                name = prefix + key[len(prefix) :].partition(delimiter)[0] + delimiter
                folder = True
            if not key.startswith(prefix) or name <= after or (folder and name in prefixes):
                continue
            if len(rows) + len(prefixes) >= most:
                more = True
                break
            last = name
            if folder:
                prefixes.append(name)
            else:
                rows.append(self._row(key, self.buckets[bucket][key], encoded))
        return _list_answer(bucket, encoded, rows, prefixes, more, last)

    def _row(self, key: str, found: StoredObject, encoded: bool) -> str:
        values = {
            "Key": _shown(key, encoded),
            "LastModified": found.modified.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
            "ETag": escape(found.etag, {'"': "&quot;"}),
            "Type": "Normal",
            "Size": str(len(found.data)),
            "StorageClass": "Standard",
        }
        inner = "".join(f"<{name}>{values[name]}</{name}>" for name in self.element_order)
        return f"<Contents>{inner}</Contents>"


def error_answer(status: int, code: str, message: str) -> web.Response:
    """An error in the XML both protocols share."""
    text = (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code>'
        f"<Message>{escape(message)}</Message><RequestId>0</RequestId></Error>"
    )
    return web.Response(status=status, text=text, content_type="application/xml")


def _list_answer(
    bucket: str, encoded: bool, rows: list[str], prefixes: list[str], more: bool, last: str
) -> web.Response:
    common = "".join(
        f"<CommonPrefixes><Prefix>{_shown(p, encoded)}</Prefix></CommonPrefixes>" for p in prefixes
    )
    token = ""
    if more:
        shown = escape(last)
        token = (
            f"<NextContinuationToken>{shown}</NextContinuationToken>"
            f"<NextMarker>{_shown(last, encoded)}</NextMarker>"
        )
    text = (
        '<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult>'
        f"<Name>{bucket}</Name>{'<EncodingType>url</EncodingType>' if encoded else ''}"
        f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}{''.join(rows)}{common}"
        f"<KeyCount>{len(rows) + len(prefixes)}</KeyCount></ListBucketResult>"
    )
    return web.Response(
        body=text.encode("utf-8", "surrogateescape"), content_type="application/xml"
    )


def _object_answer(request: web.BaseRequest, found: StoredObject) -> web.Response:
    headers = {
        "ETag": found.etag,
        "Last-Modified": format_datetime(found.modified, usegmt=True),
        "Accept-Ranges": "bytes",
    }
    condition = request.headers.get("If-Match")
    if condition and condition.lower() != found.etag.lower():
        return error_answer(412, "PreconditionFailed", "The ETag is another.")
    data, status = found.data, 200
    if match := _RANGE.fullmatch(request.headers.get("Range", "")):
        start, end = int(match[1]), int(match[2] or len(data) - 1)
        if start >= len(data):
            return error_answer(416, "InvalidRange", "The range is not satisfiable.")
        end = min(end, len(data) - 1)
        headers["Content-Range"] = f"bytes {start}-{end}/{len(data)}"
        data, status = data[start : end + 1], 206
    headers["Content-Length"] = str(len(data))
    body = b"" if request.method == "HEAD" else data
    return web.Response(status=status, body=body, headers=headers)


def _text(raw: str) -> str:
    return unquote_to_bytes(raw).decode("utf-8", "surrogateescape")


def _shown(key: str, encoded: bool) -> str:
    if encoded:
        return quote(key.encode("utf-8", "surrogateescape"), safe="/-_.~")
    return escape(key)


@contextlib.contextmanager
def object_server(server: ObjectServer | None = None) -> Iterator[ObjectServer]:
    """Serves buckets from memory on a free port of loopback; unsigned unless a subclass checks."""
    server = server or ObjectServer()
    with serve(server.handle) as thread:
        server.endpoint = thread.endpoint
        yield server
