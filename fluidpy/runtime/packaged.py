"""Run as a program: tells of the storage plug-ins in installed packages, as one line of JSON.

`fluidpy.storage.plugins` asks it, since a worker reads neither YAML nor manifests itself. Manifests
that are broken are left out; `fluidpy doctor` tells of those.
"""

from __future__ import annotations

import json
import os
import sys

from fluidpy.runtime.discovery import discover
from fluidpy.runtime.installing import record_of
from fluidpy.settings import load_settings


def main() -> int:
    """Prints a list of records, each with the `directory` that its class is imported from."""
    answer = os.dup(1)
    os.dup2(2, 1)  # what packages print is no part of the answer
    found = discover(load_settings()).plugins.values()
    records = [
        {**record_of(one.manifest).to_record(), "directory": str(one.directory)}
        for one in found
        if one.is_packaged and one.manifest.storage is not None
    ]
    with open(answer, "w") as stream:
        stream.write(json.dumps(records) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
