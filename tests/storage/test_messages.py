"""The exact words a user reads when a mount cannot work."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from botocore.exceptions import ClientError  # type: ignore[import-untyped]  # it has no types
from s3fs.errors import translate_boto_error

from fluidpy.errors import SourceConfigurationError, SourceError
from fluidpy.settings import Settings
from fluidpy.storage.factory import open_storage
from fluidpy.storage.fsspec_errors import error_of_fsspec
from fluidpy.storage.source_check import check_source
from fluidpy.storage.under_storage import MountSource
from fluidpy.testing.servers.oss import OssServer
from fluidpy.testing.servers.process_group import free_ports
from fluidpy.testing.servers.seaweedfs import SeaweedServer


async def message(source: MountSource, settings: Settings, path: str = "") -> str:
    storage = open_storage(source, settings)
    try:
        with pytest.raises(SourceError) as caught:
            await (storage.read(path, 0, 1, b"") if path else storage.stat(""))
    finally:
        await storage.close()
    return str(caught.value)


def refused(source: MountSource, settings: Settings) -> str:
    with pytest.raises(SourceConfigurationError) as caught:
        open_storage(source, settings)
    with pytest.raises(SourceConfigurationError) as checked:
        check_source(source, settings)
    assert str(checked.value) == str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("path", ["", "some/key"])
async def test_missing_bucket(
    seaweedfs_server: SeaweedServer, settings: Settings, path: str
) -> None:
    endpoint = seaweedfs_server.endpoint
    assert await message(seaweedfs_server.source("no-such-bucket"), settings, path) == (
        f"bucket no-such-bucket does not exist at {endpoint}. "
        "Check the bucket's name in mountPoint, and the endpoint."
    )


@pytest.mark.parametrize("ahead", [timedelta(hours=-1), timedelta(hours=1)])
@pytest.mark.parametrize("client", [{}, {"client": "fsspec"}], ids=["obstore", "ossfs"])
async def test_a_clock_that_is_off(
    oss: OssServer, settings: Settings, client: dict[str, str], ahead: timedelta
) -> None:
    """Through ossfs the credentials were blamed."""
    oss.put("images", "a", b"a")
    source = MountSource(
        "oss://images",
        "m",
        {"fs.oss.endpoint": oss.endpoint, "path_style": "true", **client},
        {"fs.oss.accessKeyId": oss.access_key, "fs.oss.accessKeySecret": oss.secret_key},
    )
    oss.clock_ahead = timedelta(minutes=10)
    storage = open_storage(source, settings)
    assert bytes(await storage.read("a", 0, 1, b"")) == b"a"
    await storage.close()
    oss.clock_ahead = ahead
    said = await message(source, settings, "a")
    where = "oss://images/a may not be read" if client else f"bucket images at {oss.endpoint}"
    assert said == (
        f"{where}: this machine's clock is off (RequestTimeTooSkewed). "
        "Set the clock of this machine (NTP)."
    )


def test_a_clock_that_is_off_is_seen_behind_what_s3fs_makes_of_the_answer() -> None:
    """s3fs raises PermissionError with the message alone; the code stands in its cause."""
    answer = ClientError(
        {
            "Error": {
                "Code": "RequestTimeTooSkewed",
                "Message": "The difference between the request time and the current time is too "
                "large.",
            },
            "ResponseMetadata": {"HTTPStatusCode": 403},
        },
        "GetObject",
    )
    made = translate_boto_error(answer)
    assert isinstance(made, PermissionError)
    error = error_of_fsspec(made, "s3://images/a", ())
    assert str(error) == (
        "s3://images/a may not be read: this machine's clock is off (RequestTimeTooSkewed). "
        "Set the clock of this machine (NTP)."
    )


@pytest.mark.parametrize("path", ["", "some/key"])
async def test_wrong_secret(
    seaweedfs_server: SeaweedServer, bucket: str, settings: Settings, path: str
) -> None:
    source = MountSource(
        f"s3://{bucket}",
        "images",
        seaweedfs_server.options(),
        {"aws.accessKeyId": seaweedfs_server.access_key, "aws.secretKey": "not-the-secret"},
    )
    assert await message(source, settings, path) == (
        f"bucket {bucket} at {seaweedfs_server.endpoint}: the secret access key is wrong "
        "(SignatureDoesNotMatch). Check access_key_id and secret_access_key."
    )


async def test_unknown_key_id(
    seaweedfs_server: SeaweedServer, bucket: str, settings: Settings
) -> None:
    secrets = {"access_key_id": "nobody", "secret_access_key": "x"}
    source = MountSource(f"s3://{bucket}", "images", seaweedfs_server.options(), secrets)
    assert await message(source, settings) == (
        f"bucket {bucket} at {seaweedfs_server.endpoint}: the access key id is wrong "
        "(InvalidAccessKeyId). Check access_key_id and secret_access_key."
    )


async def test_no_credentials(
    seaweedfs_server: SeaweedServer,
    bucket: str,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", seaweedfs_server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", seaweedfs_server.secret_key)
    source = MountSource(f"s3://{bucket}", "images", seaweedfs_server.options())
    assert await message(source, settings, "a/b") == (
        f"bucket {bucket} at {seaweedfs_server.endpoint}: a/b may not be read without credentials "
        "(403 AccessDenied). Give access_key_id and secret_access_key, or credentials: environment."
    )
    wanted = MountSource(
        f"s3://{bucket}", "images", {**seaweedfs_server.options(), "credentials": "environment"}
    )
    storage = open_storage(wanted, settings)
    await storage.stat("")
    await storage.close()


async def test_refused_connection(hasty: Settings) -> None:
    (port,) = free_ports(1)
    source = MountSource(
        "s3://images", "images", {"endpoint": f"http://127.0.0.1:{port}", "retries": "1"}
    )
    for path, doing in [("", "looking at /"), ("k", "reading k")]:
        assert await message(source, hasty, path) == (
            f"mount images: {doing} failed 2 times: http://127.0.0.1:{port} refuses connections. "
            "Check the endpoint, and that it can be reached from this machine."
        )


async def test_host_that_does_not_resolve(settings: Settings) -> None:
    options = {"endpoint": "http://no-such-host.invalid", "retries": "0"}
    for path, doing in [("", "looking at /"), ("k", "reading k")]:
        assert await message(MountSource("s3://images", "images", options), settings, path) == (
            f"mount images: {doing} failed once: the host of http://no-such-host.invalid cannot "
            "be resolved. Check the endpoint, and that it can be reached from this machine."
        )


async def test_empty_prefix(
    seaweedfs_server: SeaweedServer, bucket: str, settings: Settings
) -> None:
    assert (await message(seaweedfs_server.source(bucket, "trian"), settings)).startswith(
        f"s3://{bucket}/trian/ holds no object. Check the prefix in mountPoint"
    )


async def test_missing_directory(settings: Settings, tmp_path: Path) -> None:
    assert await message(MountSource(f"{tmp_path}/nas", "nas"), settings) == (
        f"the directory {tmp_path}/nas is not there. "
        "Check mountPoint, and that its file system is mounted on this machine."
    )


@pytest.mark.parametrize(
    ("url", "options", "expected"),
    [
        (
            "ss3://b",
            {},
            "mount m: no driver for ss3:// (known: file, http, https, local, oss, pvc, s3, and the "
            "protocols of installed fsspec packages). Did you mean s3://? Correct mountPoint, or "
            "install the package or plug-in that reads it.",
        ),
        (
            "s3://b",
            {"endpont": "x", "fs.s3.endpoint": "https://a", "endpoint": "https://b"},
            "mount m: unknown option endpont; did you mean endpoint?; fs.s3.endpoint and endpoint "
            "mean the same and have different values. Correct the mount's options or "
            "encryptOptions.",
        ),
        (
            "s3://b",
            {"access_key_id": "k"},
            "mount m: access_key_id is given without secret_access_key. Correct the mount's "
            "options or encryptOptions.",
        ),
        (
            "s3://b",
            {"max_requests": "many"},
            "mount m: max_requests is 'many', not a number from 1 up. Correct the mount's options "
            "or encryptOptions.",
        ),
        *(
            (
                "s3://b",
                {"endpoint": endpoint},
                "mount m: endpoint is not a URL of http or https. Write it as "
                "https://HOST[:PORT], without keys in it.",
            )
            for endpoint in ("http://h:99999", "https://h:x", "http://[::1", "http://k:s@h")
        ),
        ("s3://", {}, "mount m: s3:// names no bucket. Write s3://BUCKET/PREFIX."),
        (
            "oss://b",
            {},
            "mount m: an oss:// mount needs an endpoint. Set fs.oss.endpoint (or endpoint), such "
            "as oss-cn-hangzhou.aliyuncs.com.",
        ),
        (
            "pvc://data",
            {},
            "mount m: no directory stands for the claim 'data' here (known: none). Add data = "
            '"/DIRECTORY" to the table [pvc] of the configuration file.',
        ),
        (
            "dataset://ns/name",
            {},
            "mount m: dataset://ns/name names a Dataset, not a store. Resolve the reference first "
            "and open the mounts of that Dataset.",
        ),
        (
            "s3://b",
            {"client": "boto"},
            "mount m: client is 'boto', and only fsspec is known. Write client: fsspec, or leave "
            "the option out.",
        ),
    ],
)
def test_what_cannot_work_is_refused_at_once(
    settings: Settings, url: str, options: dict[str, str], expected: str
) -> None:
    assert refused(MountSource(url, "m", options), settings) == expected


def test_engine_options_without_a_meaning_are_warnings() -> None:
    source = MountSource("s3://b", "m", {"alluxio.underfs.s3.inherit.acl": "false"})
    assert check_source(source, None) == (
        "option alluxio.underfs.s3.inherit.acl has no meaning here and is ignored",
    )
