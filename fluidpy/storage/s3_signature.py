"""AWS Signature Version 4 of a request, as pure functions.

Source: "Signature Version 4 signing process" of the S3 API reference. Only what listing (and the
test servers) need: signed headers are `host`, `x-amz-content-sha256`, `x-amz-date` and the
session token.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import quote

_UNRESERVED = "-_.~"


@dataclass(frozen=True, slots=True)
class AccessKey:
    """An access key of an object store; neither secret nor token is shown by repr."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str = field(default="", repr=False)


def encode_query(query: Mapping[str, str]) -> str:
    """The canonical query string: sorted, every reserved character percent-encoded."""
    return "&".join(
        f"{quote(name, safe=_UNRESERVED)}="
        f"{quote(value.encode('utf-8', 'surrogateescape'), safe=_UNRESERVED)}"
        for name, value in sorted(query.items())
    )


def sign_request(
    key: AccessKey,
    region: str,
    method: str,
    host: str,
    path: str,
    query: str,
    now: datetime,
    body: bytes = b"",
) -> dict[str, str]:
    """The headers that sign `METHOD https://host/path?query`; `path` and `query` are encoded."""
    stamp = now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    payload = hashlib.sha256(body).hexdigest()
    headers = {"host": host, "x-amz-content-sha256": payload, "x-amz-date": stamp}
    if key.session_token:
        headers["x-amz-security-token"] = key.session_token
    signature = signature_of(key.secret_access_key, region, method, path, query, headers)
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={key.access_key_id}/{stamp[:8]}/{region}/s3/aws4_request, "
        f"SignedHeaders={';'.join(sorted(headers))}, Signature={signature}"
    )
    return headers


def signature_of(
    secret: str, region: str, method: str, path: str, query: str, headers: Mapping[str, str]
) -> str:
    """The signature over exactly these headers (lower-case names), as 64 hex digits."""
    names = sorted(headers)
    lines = "".join(f"{name}:{headers[name].strip()}\n" for name in names)
    payload, stamp = headers["x-amz-content-sha256"], headers["x-amz-date"]
    canonical = f"{method}\n{path}\n{query}\n{lines}\n{';'.join(names)}\n{payload}"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{stamp[:8]}/{region}/s3/aws4_request\n{digest}"
    return _sign(_signing_key(secret, stamp[:8], region), text).hex()


def _sign(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def _signing_key(secret: str, day: str, region: str) -> bytes:
    return _sign(_sign(_sign(_sign(b"AWS4" + secret.encode(), day), region), "s3"), "aws4_request")
