"""The files of a new storage plug-in, as `fluidpy runtime init NAME --kind storage` writes them.

What they make works at once: a store that this machine has mounted. The author puts his store's
client into the three methods. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping

_MANIFEST = """\
apiVersion: runtime.fluidpy.io/v1
kind: storage
name: @NAME@
version: 0.1.0
description: Reads @NAME@ through a Python class
options: # what a mount of a Dataset may give; secrets come from encryptOptions
  - name: root
    required: true
    description: Where @NAME@ is mounted on this machine
  - name: token
    secret: true
    description: What @NAME@ knows its readers by
storage:
  protocols: [@SCHEME@] # mountPoint: @SCHEME@://CLUSTER/PATH
  class: @MODULE@:@CLASS@
conformance: # how `fluidpy runtime test` gets a store with known files
  mountPoint: @SCHEME@://test
  options: {root: "{directory}"}
  secrets: {token: made-up-for-the-test}
"""

_MODULE = '''\
"""`@SCHEME@://CLUSTER/PATH`: what fluidpy has to know of the store.

Your own lines go into the first four methods; paths there are below the cluster. One object is used
by many threads at once. Raise FileNotFoundError and PermissionError where they fit.
"""

import os
import stat

from fsspec import AbstractFileSystem


class @CLASS@(AbstractFileSystem):
    """The arguments are the options and secrets of the mount."""

    protocol = "@SCHEME@"

    def __init__(self, root, token=None, **options):
        super().__init__(**options)
        self._root = root

    def _stat(self, path):
        return os.stat(os.path.join(self._root, path))

    def _names(self, path):
        return os.listdir(os.path.join(self._root, path))

    def _bytes(self, path, start, size):
        with open(os.path.join(self._root, path), "rb") as file:
            file.seek(start)
            return file.read(size)

    def info(self, path, **_):
        """One entry: type, size, and mtime or checksum, by which fluidpy tells versions."""
        path = self._strip_protocol(path)
        seen = self._stat(self._below(path))
        kind = "directory" if stat.S_ISDIR(seen.st_mode) else "file"
        return {"name": path, "type": kind, "size": seen.st_size, "mtime": seen.st_mtime}

    def ls(self, path, detail=True, **_):
        """The entries of a folder."""
        path = self._strip_protocol(path)
        names = [f"{path}/{name}" for name in self._names(self._below(path))]
        return [self.info(name) for name in names] if detail else names

    def cat_file(self, path, start=None, end=None, **_):
        """The bytes [start, end)."""
        start = start or 0
        return self._bytes(self._below(path), start, -1 if end is None else end - start)

    def _below(self, path):
        """The path without the cluster's name."""
        return self._strip_protocol(path).partition("/")[2]
'''

_PROJECT = """\
[project]
name = "@NAME@-fluidpy"
version = "0.1.0"
dependencies = ["fsspec>=2025.5"] # and the client of @NAME@

[project.entry-points."fsspec.specs"]
@SCHEME@ = "@MODULE@:@CLASS@"

[build-system]
requires = ["setuptools>=66"]
build-backend = "setuptools.build_meta"

[tool.setuptools]
py-modules = ["@MODULE@"]
"""

_DOCKERFILE = """\
ARG BASE=localhost/fluidpy:latest
FROM ${BASE}
RUN --mount=type=bind,target=/plugin fluidpy runtime install --to /opt/fluidpy/runtimes /plugin
"""

_DATASET = """\
apiVersion: v1
kind: Secret
metadata:
  name: @NAME@
stringData:
  token: change-me
---
apiVersion: data.fluid.io/v1alpha1
kind: Dataset
metadata:
  name: @NAME@
spec:
  mounts:
    - name: data
      path: /
      mountPoint: @SCHEME@://cluster
      options: {root: /mnt/@NAME@}
      encryptOptions:
        - {name: token, valueFrom: {secretKeyRef: {name: @NAME@, key: token}}}
"""

_README = """\
# @NAME@ for fluidpy

```console
fluidpy runtime test .
fluidpy runtime install .
fluidpy validate -f dataset.yaml
fluidpy runtime build .
```

`@MODULE@.py` reads the store; `runtime.yaml` says which options a Dataset may give, and how the
plug-in is tested.
"""


def storage_files(name: str) -> Mapping[str, str]:
    """File names and texts for a plug-in of that name (a DNS label)."""
    module = name.replace("-", "_")
    if module[0].isdigit():
        module = f"store_{module}"
    words = {
        "NAME": name,
        "SCHEME": name if name[0].isalpha() else f"s{name}",
        "MODULE": module,
        "CLASS": "".join(part.capitalize() for part in module.split("_")) + "FileSystem",
    }
    files = {
        "runtime.yaml": _MANIFEST,
        f"{module}.py": _MODULE,
        "pyproject.toml": _PROJECT,
        "Dockerfile": _DOCKERFILE,
        "dataset.yaml": _DATASET,
        "README.md": _README,
    }
    return {path: _with_words(text, words) for path, text in files.items()}


def _with_words(text: str, words: Mapping[str, str]) -> str:
    for word, value in words.items():
        text = text.replace(f"@{word}@", value)
    return text
