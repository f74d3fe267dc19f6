"""What a user sees who gives something wrong: the message, exit code 1, and nothing left behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fluidpy.cli.source_check import raise_all
from fluidpy.errors import SourceError, SourceNotFoundError
from fluidpy.testing.servers.process_group import free_ports
from fluidpy.testing.servers.seaweedfs import SeaweedServer
from tests.bad_input.conftest import Refusals, refusals
from tests.cli.conftest import needs_fuse

__all__ = ["refusals"]

HEAD = """\
apiVersion: data.fluid.io/v1alpha1
kind: Dataset
metadata:
  name: pets
spec:
  mounts:
    - name: a
      mountPoint: s3://bucket/a
"""
RUNTIME = """\
---
apiVersion: data.fluid.io/v1alpha1
kind: AlluxioRuntime
metadata:
  name: pets
spec:
  tieredstore:
    levels:
      - mediumtype: MEM
        quota: 2Gx
"""
Refuse = Callable[..., str]


@pytest.fixture
def refuse(refusals: Refusals, tmp_path: Path) -> Refuse:
    """Mounts what a text declares, which must fail, and gives the message."""

    def run(text: str, **environment: str) -> str:
        file, directory = tmp_path / "d.yaml", tmp_path / "data"
        file.write_text(text)
        directory.mkdir()
        said = refusals.said("mount", "-f", file, directory, environment=environment)
        return said.replace(str(file), "FILE")

    return run


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            f"{HEAD}      optoins: {{}}\n",
            "FILE:9:7: spec.mounts[0].optoins: unknown field; did you mean 'options'?",
        ),
        (
            f"{HEAD}      readOnly: maybe\n",
            "FILE:9:17: spec.mounts[0].readOnly: must be true or false, not a text; "
            "write true or false",
        ),
        (
            f"{HEAD}  placement: Everywhere\n",
            "FILE:9:14: spec.placement: 'Everywhere' is not allowed; it must be 'Exclusive' or '' "
            "or 'Shared'",
        ),
        (
            HEAD + RUNTIME,
            "FILE:18:16: spec.tieredstore.levels[0].quota: '2Gx' is not a quantity; "
            "write a number with an optional suffix, such as 10Gi, 500M or 1500m",
        ),
        (
            f"{HEAD}      name: b\n",
            "FILE:9:7: spec.mounts[0].name: the key is given twice, first in line 7; "
            "keep one of them",
        ),
        (
            f"{HEAD}    - name: b\n      path: /a\n      mountPoint: s3://bucket/b\n",
            "FILE:10:13: spec.mounts[1].path: the mounts 'a' and 'b' both appear at /a; "
            "give one of them another path",
        ),
        (
            f"{HEAD}      encryptOptions:\n        - name: access_key_id\n          valueFrom:\n"
            "            secretKeyRef: {name: s, key: k}\n",
            "FILE:12:27: spec.mounts[0].encryptOptions[0].valueFrom.secretKeyRef: "
            "no Secret 's' with the key 'k' is known; add a Secret named 's' with the key 'k' to "
            "the files, or set FLUIDPY_SECRET_S_K",
        ),
    ],
    ids=["field", "type", "enum", "quantity", "duplicate key", "duplicate mount", "secret"],
)
def test_yaml_that_cannot_be(refuse: Refuse, text: str, message: str) -> None:
    assert refuse(text) == message


def test_everything_wrong_in_one_go(refuse: Refuse) -> None:
    text = f"{HEAD}      optoins: {{}}\n  placement: Everywhere\n"
    assert refuse(text).splitlines() == [
        "FILE:9:7: spec.mounts[0].optoins: unknown field; did you mean 'options'?",
        "FILE:10:14: spec.placement: 'Everywhere' is not allowed; it must be 'Exclusive' or '' "
        "or 'Shared'",
    ]


def test_an_option_that_is_unknown(refuse: Refuse) -> None:
    assert refuse(f"{HEAD}      options: {{endpiont: 'http://127.0.0.1:1'}}\n") == (
        "FILE:7:7: spec.mounts[0]: mount a: unknown option endpiont; did you mean endpoint? "
        "Correct the mount's options or encryptOptions."
    )


def test_a_scheme_that_is_unknown(refuse: Refuse) -> None:
    known = "file, http, https, local, oss, pvc, s3"
    assert refuse(HEAD.replace("s3://bucket/a", "pvcs://bucket/a")) == (
        f"mount a: no driver for pvcs:// (known: {known}, and the protocols of installed fsspec "
        "packages)\ncure: Did you mean pvc://? Correct mountPoint, or install the package or "
        "plug-in that reads it."
    )


def test_an_endpoint_that_cannot_be_reached(refuse: Refuse) -> None:
    (port,) = free_ports(1)
    endpoint = f"http://127.0.0.1:{port}"
    options = f"      options: {{endpoint: '{endpoint}', retries: '1'}}\n"
    assert refuse(HEAD + options) == (
        f"mount a: looking at / failed 2 times: {endpoint} refuses connections\n"
        "cure: Check the endpoint, and that it can be reached from this machine."
    )


def _bucket_dataset(server: SeaweedServer, bucket: str, key: str, secret: str) -> str:
    return HEAD.replace("s3://bucket/a", f"s3://{bucket}") + (
        f"      options: {{endpoint: '{server.endpoint}'}}\n"
        "      encryptOptions:\n"
        "        - {name: access_key_id, valueFrom: {secretKeyRef: {name: k, key: id}}}\n"
        "        - {name: secret_access_key, valueFrom: {secretKeyRef: {name: k, key: secret}}}\n"
        "---\napiVersion: v1\nkind: Secret\nmetadata: {name: k}\n"
        f"stringData: {{id: {key}, secret: {secret}}}\n"
    )


def test_credentials_that_are_wrong(
    refuse: Refuse, seaweedfs_server: SeaweedServer, bucket: str
) -> None:
    wrong = "not-the-right-one"
    said = refuse(_bucket_dataset(seaweedfs_server, bucket, seaweedfs_server.reader_key, wrong))
    where = f"bucket {bucket} at {seaweedfs_server.endpoint}"
    assert said == (
        f"mount a: {where}: the secret access key is wrong (SignatureDoesNotMatch)\n"
        "cure: Check access_key_id and secret_access_key."
    )


def test_a_key_that_nobody_knows(
    refuse: Refuse, seaweedfs_server: SeaweedServer, bucket: str
) -> None:
    said = refuse(_bucket_dataset(seaweedfs_server, bucket, "nobody", "any"))
    assert said == (
        f"mount a: bucket {bucket} at {seaweedfs_server.endpoint}: the access key id is wrong "
        "(InvalidAccessKeyId)\ncure: Check access_key_id and secret_access_key."
    )


def test_a_bucket_that_is_missing(refuse: Refuse, seaweedfs_server: SeaweedServer) -> None:
    key = seaweedfs_server.access_key, seaweedfs_server.secret_key
    said = refuse(_bucket_dataset(seaweedfs_server, "no-such-bucket", *key))
    assert said == (
        f"mount a: bucket no-such-bucket does not exist at {seaweedfs_server.endpoint}\n"
        "cure: Check the bucket's name in mountPoint, and the endpoint."
    )


def test_directories_that_are_missing(refuse: Refuse, tmp_path: Path) -> None:
    one = HEAD.replace("s3://bucket/a", f"local://{tmp_path}/x")
    two = f"{one}    - name: b\n      mountPoint: local://{tmp_path}/y\n"
    lines = refuse(two).splitlines()
    assert lines == [
        "2 sources cannot be read:",
        f"  mount a: the directory {tmp_path}/x is not there",
        f"  mount b: the directory {tmp_path}/y is not there",
        "cure: Check mountPoint, and that its file system is mounted on this machine.",
    ]


@needs_fuse
def test_a_cache_directory_that_cannot_be_written(refuse: Refuse, tree: Path) -> None:
    with pytest.raises(OSError, match="fluidpy-cache") as refused:
        Path("/proc/fluidpy-cache").mkdir()
    text = HEAD.replace("s3://bucket/a", f"local://{tree}")
    assert refuse(text, FLUIDPY_CACHE_DIR="/proc/fluidpy-cache") == (
        f"cache directory /proc/fluidpy-cache/store cannot be used: {refused.value.strerror}\n"
        "cure: Make it writable for this user, or set another one (FLUIDPY_CACHE_DIR)."
    )


def test_errors_of_sources_are_gathered() -> None:
    raise_all([])
    one = SourceNotFoundError("a is not there", cure="Check.")
    with pytest.raises(SourceNotFoundError):
        raise_all([one])
    with pytest.raises(SourceError) as caught:
        raise_all([one, SourceError("b failed", cure="Wait.")])
    assert caught.value.message == "2 sources cannot be read:\n  a is not there\n  b failed"
    assert caught.value.cure == "Check. Wait."
