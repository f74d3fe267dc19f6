"""AWS Signature Version 4 of a request, as pure functions.

Source: "Signature Version 4 signing process" of the S3 API reference. Only what reading and listing
(and the test servers) need: signed headers are `host`, `x-amz-content-sha256`, `x-amz-date` and the
session token.
"""

from __future__ import annotations

import hashlib
import hmac
import time
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


class GetSigner:
    """Signs many GETs of one host: what stays the same for a second is made once in it."""

    def __init__(self, region: str, host: str) -> None:
        """`host` as in the header of that name."""
        self._region = region
        self._host = host
        self._made_for: tuple[AccessKey, int] | None = None
        self._mac: hmac.HMAC
        self._canonical_end = self._text_begin = self._lines = ""

    def lines(self, key: AccessKey | None, path: str, now: int) -> str:
        """The header lines that sign `GET https://host/path` at `now` (seconds since the epoch).

        `path` is encoded. Each line ends with CRLF; without a key it is the line of the host alone.
        """
        if key is None:
            return f"host: {self._host}\r\n"
        if self._made_for != (key, now):
            self._prepare(key, now)
        digest = hashlib.sha256(f"GET\n{path}{self._canonical_end}".encode()).hexdigest()
        mac = self._mac.copy()
        mac.update(f"{self._text_begin}{digest}".encode())
        return f"{self._lines}{mac.hexdigest()}\r\n"

    def _prepare(self, key: AccessKey, now: int) -> None:
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
        payload = hashlib.sha256(b"").hexdigest()
        headers = {"host": self._host, "x-amz-content-sha256": payload, "x-amz-date": stamp}
        if key.session_token:
            headers["x-amz-security-token"] = key.session_token.strip()
        names = ";".join(headers)  # in order already
        signed = "".join(f"{name}:{value}\n" for name, value in headers.items())
        scope = f"{stamp[:8]}/{self._region}/s3/aws4_request"
        self._mac = hmac.new(
            _signing_key(key.secret_access_key, stamp[:8], self._region), digestmod=hashlib.sha256
        )
        self._canonical_end = f"\n\n{signed}\n{names}\n{payload}"
        self._text_begin = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n"
        self._lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items()) + (
            f"authorization: AWS4-HMAC-SHA256 Credential={key.access_key_id}/{scope}, "
            f"SignedHeaders={names}, Signature="
        )
        self._made_for = (key, now)
