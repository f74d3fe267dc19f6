"""Options that several commands share, and the words that mean the same everywhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from fluidpy.errors import UsageError


class OutputFormat(StrEnum):
    """How data is printed: a table, a wider table, or for programs."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


FileOption = Annotated[
    Path | None,
    typer.Option("-f", "--file", metavar="FILE", help="YAML that declares the Dataset."),
]
NamespaceOption = Annotated[
    str | None,
    typer.Option("-n", "--namespace", metavar="NAME", help="Namespace of the Dataset."),
]
OutputOption = Annotated[
    OutputFormat,
    typer.Option("-o", "--output", help="How to print.", show_default=False),
]


def parse_pairs(pairs: Sequence[str]) -> dict[str, str]:
    """`k=v` words as a mapping. Raises UsageError for a word without `=` or a key given twice."""
    found: dict[str, str] = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise UsageError(
                f"-o {pair} is not KEY=VALUE", cure="Write -o endpoint=http://host:9000"
            )
        if key in found:
            raise UsageError(f"option {key} is given twice", cure="Give each option once.")
        found[key] = value
    return found


def read_secret_files(
    options: Mapping[str, str], is_secret: Callable[[str], bool]
) -> dict[str, str]:
    """The options, with `@FILE` replaced by what is in the file, for options that hold secrets.

    Everybody on the machine can read a command line: a secret in it is refused. Raises UsageError.
    """
    found: dict[str, str] = {}
    for name, value in options.items():
        if not is_secret(name):
            found[name] = value
        elif not value.startswith("@"):
            raise UsageError(
                f"option {name} holds a secret, and every user can read a command line",
                cure=f"Put it into a file of yours and write -o {name}=@FILE.",
            )
        else:
            try:
                found[name] = Path(value[1:]).read_text().strip()
            except (OSError, UnicodeDecodeError) as error:
                reason = getattr(error, "strerror", None) or "it is not text"
                raise UsageError(
                    f"option {name}: {value[1:]} cannot be read: {reason}",
                    cure="Name a file that holds the secret and nothing else.",
                ) from error
    return found
