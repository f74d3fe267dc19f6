"""An OSS server for tests that checks signatures as OSS does.

    with oss_server() as server:
        server.put("images", "a.jpg", b"...")
        ...                                   # ossfs with server.endpoint, access_key, secret_key

Header signatures of version 1 (`Authorization: OSS KEY:SIGNATURE`), which ossfs sends, and of
AWS version 4, which OSS takes at its S3-compatible endpoint. A client speaks path-style to it
because its host is an IP address. Source of the string to sign: "Include signatures in the
Authorization header" in the API reference of OSS.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from aiohttp import web

from fluidpy.storage.s3_signature import signature_of
from fluidpy.testing.servers.object_server import ObjectServer, error_answer, object_server

_SUBRESOURCES = frozenset(
    {
        "acl",
        "bucketInfo",
        "continuation-token",
        "location",
        "objectMeta",
        "security-token",
        "stat",
        "uploads",
        "versionId",
        "versions",
    }
)
"""Query parameters that are signed, of those a reader sends."""

_V4 = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/s3/aws4_request, ?"
    r"SignedHeaders=([^,]+), ?Signature=([0-9a-f]{64})"
)

_MOST_SKEW = timedelta(minutes=15)
"""How far the time of a request may be off ("RequestTimeTooSkewed" in OSS's table of errors)."""


@dataclass(frozen=True)
class _Asked:
    """The parts of a request that are signed."""

    method: str
    resource: str
    headers: dict[str, str]
    query: dict[str, str]


def string_to_sign(asked: _Asked) -> str:
    """What version 1 signs: method, three headers, `x-oss-*` headers, the resource."""
    headers = asked.headers
    signed = sorted(name for name in headers if name.startswith("x-oss-"))
    canonical = "".join(f"{name}:{headers[name]}\n" for name in signed)
    parts = sorted(name for name in asked.query if name in _SUBRESOURCES)
    query = "&".join(f"{n}={asked.query[n]}" if asked.query[n] else n for n in parts)
    resource = asked.resource + (f"?{query}" if query else "")
    lines = (
        asked.method,
        headers.get("content-md5", ""),
        headers.get("content-type", ""),
        headers.get("x-oss-date") or headers.get("date", ""),
        canonical + resource,
    )
    return "\n".join(lines)


class OssServer(ObjectServer):
    """Buckets in memory behind the checks of OSS."""

    access_key = "oss-reader"
    secret_key = "oss-reader-secret"
    region = "cn-hangzhou"
    clock_ahead = timedelta()
    """How far this server's clock is ahead of the machine's."""

    def refusal(self, request: web.BaseRequest, bucket: str, key: str) -> web.Response | None:
        """Refuses what is unsigned, of unknown keys or another time, with the codes of OSS."""
        header = request.headers.get("Authorization", "")
        if header and (refused := self._check_time(request)):
            return refused
        if match := _V4.fullmatch(header):
            return self._check_v4(request, match)
        scheme, _, rest = header.partition(" ")
        access_key, _, signature = rest.partition(":")
        if scheme != "OSS":
            return error_answer(403, "AccessDenied", "Anonymous access is forbidden.")
        if access_key != self.access_key:
            return error_answer(403, "InvalidAccessKeyId", "The OSS Access Key Id is unknown.")
        headers = {name.lower(): value for name, value in request.headers.items()}
        resource = f"/{bucket}/{key}" if bucket else "/"
        asked = _Asked(request.method, resource, headers, dict(request.query))
        digest = hmac.new(self.secret_key.encode(), string_to_sign(asked).encode(), hashlib.sha1)
        expected = base64.b64encode(digest.digest()).decode()
        return None if hmac.compare_digest(expected, signature) else _mismatch()

    def _check_time(self, request: web.BaseRequest) -> web.Response | None:
        given = request.headers
        try:
            if "x-amz-date" in given:
                asked = datetime.strptime(given["x-amz-date"] + "+0000", "%Y%m%dT%H%M%SZ%z")
            else:
                asked = parsedate_to_datetime(given.get("x-oss-date") or given.get("Date") or "")
        except ValueError:
            return error_answer(403, "AccessDenied", "The request bears no valid time.")
        if abs(datetime.now(UTC) + self.clock_ahead - asked) <= _MOST_SKEW:
            return None
        return error_answer(
            403,
            "RequestTimeTooSkewed",
            "The difference between the request time and the current time is too large.",
        )

    def _check_v4(self, request: web.BaseRequest, match: re.Match[str]) -> web.Response | None:
        if match[1] != self.access_key:
            return error_answer(403, "InvalidAccessKeyId", "The OSS Access Key Id is unknown.")
        path, _, query = request.raw_path.partition("?")
        ours = signature_of(
            self.secret_key,
            match[3],
            request.method,
            path,
            "&".join(sorted(query.split("&"))) if query else "",
            {name: request.headers.get(name, "") for name in match[4].split(";")},
        )
        return None if hmac.compare_digest(ours, match[5]) else _mismatch()


def _mismatch() -> web.Response:
    return error_answer(
        403,
        "SignatureDoesNotMatch",
        "The request signature we calculated does not match the signature you provided.",
    )


@contextlib.contextmanager
def oss_server() -> Iterator[OssServer]:
    """Serves OSS from memory on a free port of loopback."""
    with object_server(OssServer()) as server:
        assert isinstance(server, OssServer)
        yield server
