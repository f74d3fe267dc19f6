"""The files of a new mount plug-in, as `fluidpy runtime init NAME --kind mount` writes them.

What they make works at once: `bindfs` shows a directory of this machine. The author puts the
command of his store's client in its place. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping

_MANIFEST = """\
apiVersion: runtime.fluidpy.io/v1
kind: mount
name: @NAME@
version: 0.1.0
description: Mounts @NAME@ by its own client
options: # what a mount of a Dataset may give; secrets come from encryptOptions
  - name: root
    required: true
    description: The directory that bindfs shows
mount:
  protocols: [@SCHEME@] # mountPoint: @SCHEME@://CLUSTER/PATH
  filesystemType: fuse # as /proc/self/mountinfo shows it
  command: # a list: no shell reads it, and a value stays one argument whatever it holds
    - bindfs
    - -f # stays in the foreground
    - -oro,attr_timeout=0,entry_timeout=0,negative_timeout=0
    - "{options.root}"
    - "{target}"
conformance: # how `fluidpy runtime test` gets a store with known files
  mountPoint: @SCHEME@://test
  options: {root: "{directory}"}
"""

_DOCKERFILE = """\
ARG BASE=localhost/fluidpy:latest
FROM ${BASE}
USER root
# From packages/*.deb of this folder, or from the network.
RUN --mount=type=bind,target=/plugin install-packages apt bindfs
USER fluidpy
RUN --mount=type=bind,target=/plugin fluidpy runtime install --to /opt/fluidpy/runtimes /plugin
"""

_DATASET = """\
apiVersion: data.fluid.io/v1alpha1
kind: Dataset
metadata:
  name: @NAME@
spec:
  mounts:
    - name: data
      mountPoint: @SCHEME@://cluster
      options: {root: /mnt/@NAME@}
---
apiVersion: data.fluid.io/v1alpha1
kind: ThinRuntime
metadata:
  name: @NAME@
spec:
  profileName: @NAME@
"""

_README = """\
# @NAME@ for fluidpy

```console
fluidpy runtime test .
fluidpy runtime install .
fluidpy up
fluidpy apply -f dataset.yaml
fluidpy mount @NAME@ /mnt/there
```

`runtime.yaml` says which program mounts the store, and how the plug-in is tested. The program stays
in the foreground, ends on SIGTERM, and keeps no attributes or listings: the worker in front of it
keeps what was read, and has to see changes.
"""


def mount_files(name: str) -> Mapping[str, str]:
    """File names and texts for a plug-in of that name (a DNS label)."""
    scheme = name if name[0].isalpha() else f"s{name}"
    files = {
        "runtime.yaml": _MANIFEST,
        "Dockerfile": _DOCKERFILE,
        "dataset.yaml": _DATASET,
        "README.md": _README,
    }
    return {
        path: text.replace("@NAME@", name).replace("@SCHEME@", scheme)
        for path, text in files.items()
    }
