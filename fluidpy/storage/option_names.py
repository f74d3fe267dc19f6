"""The one table of option names: ours, and those of the engines found in Fluid's YAML.

`ALIASES` maps each name that may stand in a mount's `options` or `encryptOptions` to ours.
Sources: Fluid's samples (`fs.oss.*`, `fs.s3.*`, `alluxio.underfs.*`, `aws.*`), JuiceFS
(`access-key`), Hadoop's S3A (`fs.s3a.*`), s3fs and ossfs (`key`, `secret`, `endpoint_url`).
"""

from __future__ import annotations

from types import MappingProxyType

LIMIT_OPTIONS = ("max_requests", "max_bytes_per_second", "deadline_seconds", "retries")
"""Understood for each mount, whatever its scheme."""

OBJECT_STORE_OPTIONS = (
    "endpoint",
    "region",
    "access_key_id",
    "secret_access_key",
    "session_token",
    "path_style",
    "anonymous",
    "allow_http",
    "ca_bundle",
    "credentials",
    "client",
)

HTTP_OPTIONS = ("username", "password", "bearer_token", "ca_bundle", "client")

_FOREIGN = {
    "endpoint": (
        "endpoint_url",
        "fs.oss.endpoint",
        "fs.s3.endpoint",
        "fs.s3a.endpoint",
        "alluxio.underfs.s3.endpoint",
        "s3.endpoint_url",
        "AWS_ENDPOINT_URL",
    ),
    "region": (
        "region_name",
        "fs.oss.region",
        "fs.s3.region",
        "fs.s3a.endpoint.region",
        "alluxio.underfs.s3.endpoint.region",
        "alluxio.underfs.s3.region",
        "s3.region_name",
        "AWS_REGION",
    ),
    "access_key_id": (
        "key",
        "access-key",
        "accessKeyId",
        "aws.accessKeyId",
        "fs.oss.accessKeyId",
        "fs.s3.accessKeyId",
        "fs.s3a.access.key",
        "s3a.accessKeyId",
        "s3.credentials.access",
        "AWS_ACCESS_KEY_ID",
        "OSS_ACCESS_KEY_ID",
    ),
    "secret_access_key": (
        "secret",
        "secret-key",
        "accessKeySecret",
        "access_key_secret",
        "aws.secretKey",
        "fs.oss.accessKeySecret",
        "fs.s3.accessKeySecret",
        "fs.s3a.secret.key",
        "s3a.secretKey",
        "s3.credentials.secret",
        "AWS_SECRET_ACCESS_KEY",
        "OSS_ACCESS_KEY_SECRET",
    ),
    "session_token": (
        "token",
        "security_token",
        "session-token",
        "aws.sessionToken",
        "fs.oss.securityToken",
        "fs.s3.securityToken",
        "fs.s3a.session.token",
        "AWS_SESSION_TOKEN",
        "OSS_SESSION_TOKEN",
    ),
    "path_style": (
        "alluxio.underfs.s3.disable.dns.buckets",
        "fs.s3a.path.style.access",
        "s3.path_style",
    ),
    "anonymous": ("anon",),
}

ALIASES = MappingProxyType(
    {foreign: ours for ours, names in _FOREIGN.items() for foreign in names}
    | {name: name for name in (*OBJECT_STORE_OPTIONS, *HTTP_OPTIONS, *LIMIT_OPTIONS)}
)

ENGINE_PREFIXES = ("alluxio.", "fs.", "jindo.", "jindocache.", "jindofsx.", "juicefs.", "aws.")
"""Dotted names of engines that mean nothing here: accepted, and reported as warnings."""
