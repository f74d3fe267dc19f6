"""The Dataset of the quickstart: three mounts in YAML, and the secret it names."""

from __future__ import annotations

from pathlib import Path
from typing import Final

NAME: Final = "quickstart"
BUCKET: Final = "images"
SECRET: Final = "bucket-key"

BYTES_PER_SECOND: Final = 10_000_000
"""Limit of each source. They lie on this machine and would be as fast as the cache; a bucket or a
NAS that many share is not. The limit is a mount option (`max_bytes_per_second`), or the store's."""

_YAML: Final = """\
apiVersion: data.fluid.io/v1alpha1
kind: Dataset
metadata:
  name: {name}
spec:
  mounts:
    - name: images
      mountPoint: s3://{bucket}
      options:
        endpoint: {endpoint}
        region: us-east-1
        max_bytes_per_second: "{limit}"
      encryptOptions:
        - name: access_key_id
          valueFrom:
            secretKeyRef: {{name: {secret}, key: id}}
        - name: secret_access_key
          valueFrom:
            secretKeyRef: {{name: {secret}, key: secret}}
    - name: tables
      mountPoint: local://{nas}
      options:
        max_bytes_per_second: "{limit}"
    - name: shards
      mountPoint: archive://{archive}
      options:
        bytes_per_second: "{limit}"
"""


def dataset_yaml(endpoint: str, nas: Path, archive: Path) -> str:
    """The YAML; holds no secret."""
    return _YAML.format(
        name=NAME,
        bucket=BUCKET,
        secret=SECRET,
        endpoint=endpoint,
        nas=nas,
        archive=archive,
        limit=BYTES_PER_SECOND,
    )


def write_secret(directory: Path, key_id: str, key: str) -> None:
    """The bucket's key as files `<secret>/<key>`, as Kubernetes mounts them; private."""
    folder = directory / SECRET
    folder.mkdir(mode=0o700, parents=True)
    for name, value in (("id", key_id), ("secret", key)):
        file = folder / name
        file.touch(mode=0o600)
        file.write_text(value)
