"""`pvc://CLAIM[/SUBPATH]`: a directory of this machine that stands for a claim."""

from __future__ import annotations

import os
from collections.abc import Mapping

from fluidpy.errors import SourceConfigurationError
from fluidpy.storage.local_files import parts_of
from fluidpy.storage.under_storage import MountSource


def directory_of_claim(source: MountSource, directories: Mapping[str, str]) -> str:
    """The directory a claim's URL means, by the table `[pvc]` of the settings.

    Raises SourceConfigurationError when the claim is not in the table or its directory is not
    absolute, and SourceNotFoundError when the sub-path has `..` in it.
    """
    claim, _, below = source.url.partition("://")[2].partition("/")
    label = source.label or source.url
    if claim not in directories:
        known = ", ".join(sorted(directories)) or "none"
        raise SourceConfigurationError(
            f"mount {label}: no directory stands for the claim {claim!r} here (known: {known})",
            cure=f'Add {claim} = "/DIRECTORY" to the table [pvc] of the configuration file.',
        )
    directory = directories[claim]
    if not directory.startswith("/"):
        raise SourceConfigurationError(
            f"mount {label}: the directory {directory!r} for the claim {claim!r} is not absolute",
            cure="Correct the table [pvc] of the configuration file.",
        )
    return os.path.join(directory, *parts_of(below.strip("/")))  # noqa: PTH118  # a str is wanted
