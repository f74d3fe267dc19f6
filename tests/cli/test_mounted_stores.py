"""Object stores as directories: S3 named by its bare URL, OSS by Alibaba's own client."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fluidpy.testing.servers.oss import OssServer, oss_server
from fluidpy.testing.servers.seaweedfs import SeaweedServer
from tests.bad_input.conftest import Refusals, dataset, refusals
from tests.cli.conftest import CommandLine, needs_fuse

__all__ = ["refusals"]

pytestmark = needs_fuse
FILES = {"a/small.txt": b"small", "a/b/large.bin": bytes(range(256)) * 9000, "top.csv": b"1,2\n"}


@contextmanager
def mounted(line: CommandLine, *words: str | Path) -> Iterator[Path]:
    directory = line.directory / "data"
    directory.mkdir()
    line.done("mount", *words, directory)
    try:
        yield directory
    finally:
        line.run("umount", "--lazy", directory)
    assert not os.path.ismount(directory)


def contents(directory: Path) -> dict[str, bytes]:
    files = [path for path in directory.rglob("*") if path.is_file()]
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


def test_a_bucket_s_url_is_mounted_with_the_keys_of_the_environment(
    command_line: CommandLine, seaweedfs_server: SeaweedServer, bucket: str
) -> None:
    outside = {"other/not-shown": b"x"}
    seaweedfs_server.put_objects(bucket, {f"set/{k}": v for k, v in FILES.items()} | outside)
    command_line.environment |= {
        "AWS_ACCESS_KEY_ID": seaweedfs_server.reader_key,
        "AWS_SECRET_ACCESS_KEY": seaweedfs_server.reader_secret,
    }
    url = f"s3://{bucket}/set"
    options = ("-o", f"endpoint={seaweedfs_server.endpoint}", "-o", "credentials=environment")
    with mounted(command_line, url, *options) as directory:
        assert contents(directory) == FILES
        shown = command_line.done("status", "-o", "json")
        assert [one["url"] for one in json.loads(shown)["mounts"]] == [url]
        assert seaweedfs_server.reader_secret not in shown


@pytest.mark.slow
def test_keys_that_the_running_worker_does_not_have(
    refusals: Refusals, seaweedfs_server: SeaweedServer, bucket: str, dataset_file: Path
) -> None:
    """The message once said to set what was set."""
    seaweedfs_server.put_objects(bucket, FILES)
    line = refusals.line
    line.environment["AWS_EC2_METADATA_DISABLED"] = "true"  # nothing outside is asked for keys
    line.done("ls", "-f", dataset_file, "fluid://pets/")
    line.environment |= {
        "AWS_ACCESS_KEY_ID": seaweedfs_server.reader_key,
        "AWS_SECRET_ACCESS_KEY": seaweedfs_server.reader_secret,
    }
    options = ("-o", f"endpoint={seaweedfs_server.endpoint}", "-o", "credentials=environment")
    (line.directory / "elsewhere").mkdir()
    words = ("mount", f"s3://{bucket}", line.directory / "elsewhere", *options)
    assert refusals.said(*words, attached=True) == (
        f"mount s3://{bucket}: no credentials were found in the environment\n"
        "cure: Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile or role. A worker "
        "that runs has the environment of its start: `fluidpy worker --stop` ends it, and the "
        "next one has yours."
    )
    line.done("worker", "--stop")
    with mounted(line, f"s3://{bucket}", *options) as directory:
        assert contents(directory) == FILES


@pytest.fixture
def oss() -> Iterator[OssServer]:
    with oss_server() as server:
        server.put_all("images", FILES)
        yield server


@pytest.mark.slow
@pytest.mark.parametrize("client", ["", "client: fsspec, "], ids=["obstore", "ossfs"])
def test_oss_is_mounted(
    command_line: CommandLine, oss: OssServer, tmp_path: Path, client: str
) -> None:
    more = (
        f"      options: {{{client}fs.oss.endpoint: '{oss.endpoint}', path_style: 'true'}}\n"
        "      encryptOptions:\n"
        "        - {name: fs.oss.accessKeyId, valueFrom: {secretKeyRef: {name: k, key: id}}}\n"
        "        - {name: fs.oss.accessKeySecret, valueFrom: {secretKeyRef: {name: k, key: s}}}\n"
        "---\napiVersion: v1\nkind: Secret\nmetadata: {name: k}\n"
        f"stringData: {{id: {oss.access_key}, s: {oss.secret_key}}}\n"
    )
    file = tmp_path / "pets.yaml"
    file.write_text(dataset("oss://images/", more=more))
    with mounted(command_line, "-f", file) as directory:
        assert contents(directory) == FILES
        oss.buckets["images"].clear()  # the second time nothing is asked of it
        assert contents(directory) == FILES
