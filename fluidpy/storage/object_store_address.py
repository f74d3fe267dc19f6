"""Where a bucket is: endpoint, style and region from a mount's URL and options; pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlsplit

from fluidpy.errors import SourceConfigurationError
from fluidpy.storage.options import ObjectStoreOptions
from fluidpy.storage.under_storage import MountSource

_AWS = re.compile(r"(^|\.)s3[.-]?([a-z0-9-]*)\.?amazonaws\.com(\.cn)?$")
# https://www.alibabacloud.com/help/en/oss/regions-and-endpoints
_OSS = re.compile(r"(?:^|\.)(?:s3\.)?oss-([a-z0-9-]+?)(?:-internal)?\.aliyuncs\.com$")
DEFAULT_REGION = "us-east-1"
"""What S3 servers other than AWS take, and AWS's own default."""


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """A bucket, and how to ask for it."""

    bucket: str
    prefix: str
    """`""`, or the mount's prefix with a slash at its end."""
    endpoint: str
    """Scheme and host (and port), without the bucket and without a slash at the end."""
    region: str
    virtual_hosted: bool
    """The bucket is part of the host's name."""
    allow_http: bool

    @property
    def bucket_url(self) -> str:
        """The URL of the bucket itself, without a slash at the end."""
        if not self.virtual_hosted:
            return f"{self.endpoint}/{self.bucket}"
        scheme, _, host = self.endpoint.partition("://")
        return (
            self.endpoint
            if host.startswith(f"{self.bucket}.")
            else (f"{scheme}://{self.bucket}.{host}")
        )

    @property
    def store_endpoint(self) -> str:
        """The endpoint as obstore wants it: with the bucket when that is in the host's name."""
        return self.bucket_url if self.virtual_hosted else self.endpoint


def store_address(source: MountSource, options: ObjectStoreOptions) -> StoreAddress:
    """The address of a mount's bucket.

    Raises SourceConfigurationError when the URL has no bucket, an OSS mount has no endpoint, or
    the endpoint is no URL or contradicts `allow_http`.
    """
    label = source.label or source.url
    bucket, _, prefix = source.url.partition("://")[2].partition("/")
    if not bucket:
        raise SourceConfigurationError(
            f"mount {label}: {source.url} names no bucket",
            cure=f"Write {source.scheme}://BUCKET/PREFIX.",
        )
    prefix = prefix.strip("/")
    region = options.region
    if not options.endpoint and source.scheme == "oss":
        raise SourceConfigurationError(
            f"mount {label}: an oss:// mount needs an endpoint",
            cure="Set fs.oss.endpoint (or endpoint), such as oss-cn-hangzhou.aliyuncs.com.",
        )
    region = region or _region_of(options.endpoint) or DEFAULT_REGION
    endpoint = options.endpoint or _aws_endpoint(region)
    endpoint = _full_endpoint(label, endpoint, options.allow_http)
    host = urlsplit(endpoint).hostname or ""
    by_host = source.scheme == "oss" or bool(_AWS.search(host) or _OSS.search(host))
    virtual = by_host if options.path_style is None else not options.path_style
    if _AWS.search(host) and options.path_style is None and "." in bucket:
        # A dot in the name breaks the wildcard certificate of virtual hosts.
        virtual = False
    return StoreAddress(
        bucket=unquote(bucket),
        prefix=f"{prefix}/" if prefix else "",
        endpoint=endpoint,
        region=region,
        virtual_hosted=virtual,
        allow_http=endpoint.startswith("http://"),
    )


def _aws_endpoint(region: str) -> str:
    suffix = ".cn" if region.startswith("cn-") else ""
    return f"https://s3.{region}.amazonaws.com{suffix}"


def _region_of(endpoint: str) -> str:
    host = endpoint.partition("://")[2] or endpoint
    host = host.split("/")[0].split(":")[0]
    if match := _OSS.search(host):
        return match[1]
    match = _AWS.search(host)
    return match[2] if match else ""


def _split(endpoint: str) -> SplitResult | None:
    """The parts of a URL that can be an endpoint, else None."""
    try:
        parts = urlsplit(endpoint)
        sound = bool(parts.hostname) and not parts.username and parts.port != 0
    except ValueError:  # no port, or no address
        return None
    return parts if sound and parts.scheme in ("http", "https") else None


def _full_endpoint(label: str, endpoint: str, allow_http: bool | None) -> str:
    if "://" not in endpoint:
        endpoint = f"{'http' if allow_http else 'https'}://{endpoint}"
    parts = _split(endpoint)
    if parts is None:
        raise SourceConfigurationError(
            f"mount {label}: endpoint is not a URL of http or https",
            cure="Write it as https://HOST[:PORT], without keys in it.",
        )
    if parts.scheme == "http" and allow_http is False:
        raise SourceConfigurationError(
            f"mount {label}: the endpoint begins with http:// and allow_http is false",
            cure="Use https://, or set allow_http: true.",
        )
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
