"""`validate` and `schema`: what is wrong with YAML files, and what may stand in them."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fluidpy.cli.datasets import yaml_source
from fluidpy.cli.options import OutputFormat, OutputOption
from fluidpy.cli.printers import counted, print_json, print_text, print_yaml, talk
from fluidpy.errors import UsageError

if TYPE_CHECKING:
    from fluidpy.api.document import LoadResult


def validate(
    files: Annotated[
        list[Path] | None,
        typer.Option("-f", "--file", metavar="FILE", help="A file, a folder, or - for stdin."),
    ] = None,
    more: Annotated[list[Path] | None, typer.Argument(hidden=True)] = None,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Say everything that is wrong with YAML files, at once.

    Each line has file, line, column, field and cure. Exit code 1 if something is wrong.

    Example: fluidpy validate -f dataset.yaml secrets/
    """
    from fluidpy.api.document import load_documents
    from fluidpy.namespace.resolve import check_declared_sources
    from fluidpy.settings import load_settings
    from fluidpy.storage.plugins import PluginsIn

    sources = [yaml_source(file) for file in (*(files or []), *(more or []))]
    if not sources:
        raise UsageError("no file is given", cure="fluidpy validate -f FILE…")
    result = load_documents(sources)
    plugins = PluginsIn(tuple(load_settings().plugin_folders))
    problems, warnings = check_declared_sources(result.objects, plugins=plugins)
    result = replace(
        result,
        problems=[*result.problems, *problems],
        warnings=[*result.warnings, *warnings],
    )
    if output in (OutputFormat.JSON, OutputFormat.YAML):
        _print_findings(result, output)
    else:
        _print_lines(result)
    if result.problems:
        raise typer.Exit(1)


def _print_findings(result: LoadResult, output: OutputFormat) -> None:
    document = {
        "problems": [asdict(problem) for problem in result.problems],
        "warnings": [asdict(problem) for problem in result.warnings],
        "objects": [
            f"{one.object.kind}/{one.object.namespace}/{one.object.name}" for one in result.objects
        ],
    }
    (print_json if output is OutputFormat.JSON else print_yaml)(document)


def _print_lines(result: LoadResult) -> None:
    for problem in result.problems:
        print_text(str(problem))
    for warning in result.warnings:
        talk(f"warning: {warning}")
    if result.problems:
        talk(f"fluidpy: {counted(len(result.problems), 'problem')}")
    else:
        talk(f"{counted(len(result.objects), 'object')} valid")


def schema(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="Dataset, …, or runtime.yaml.")] = "",
    every: Annotated[
        bool,
        typer.Option("--all", help="All kinds: a list for programs, with -o name their names."),
    ] = False,
    output: OutputOption = OutputFormat.JSON,
) -> None:
    """Print the JSON Schema of a kind, or of runtime.yaml, for editors and linters.

    Example: fluidpy schema Dataset > dataset.schema.json
    """
    from fluidpy.api.kinds import FLUID_KINDS
    from fluidpy.api.schema import json_schema

    if every == bool(kind):
        raise UsageError(
            "give either a kind or --all", cure=f"The kinds are {', '.join(FLUID_KINDS)}."
        )
    if kind == "runtime.yaml" and output is not OutputFormat.NAME:
        from fluidpy.runtime.manifest import manifest_schema

        (print_yaml if output is OutputFormat.YAML else print_json)(manifest_schema())
        return
    names = list(FLUID_KINDS) if every else [kind]
    if output is OutputFormat.NAME:
        for name in names:
            print_text(name)
        return
    schemas = [json_schema(name) for name in names]
    document = schemas if every else schemas[0]
    (print_yaml if output is OutputFormat.YAML else print_json)(document)
