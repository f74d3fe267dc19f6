"""`runtime.yaml`: what a plug-in says of itself, read like all YAML of fluidpy.

Every mistake is told at once, each with file, line, column, field and cure. A manifest has one of
three kinds: `storage` (a Python class that reads a store), `mount` (a program that mounts one) and
`engine` (a class that drives a distributed engine).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from fluidpy.api.model import Model, Options, StringMap, defaulted, mapping, optional, sequence
from fluidpy.api.problem import FieldPath, Positions, Problem, format_path
from fluidpy.api.salvage import validate_object
from fluidpy.api.schema import model_schema
from fluidpy.api.texts import YamlText, gather_texts
from fluidpy.api.yaml_nodes import Document, read_documents
from fluidpy.errors import ValidationError
from fluidpy.runtime.manifest_checks import Finding, manifest_findings

API_VERSION = "runtime.fluidpy.io/v1"
FILE_NAME = "runtime.yaml"

Seconds = Annotated[int, Field(ge=1, le=3600)]


class PluginOption(Model):
    """One option that a Dataset's mount may give (`options`, or `encryptOptions` if secret)."""

    name: str = Field(description="Name, as it stands in the Dataset.", min_length=1)
    description: str = defaulted("", "What it is for, in one line.")
    secret: bool = defaulted(False, "Whether it may only be given by encryptOptions.")
    required: bool = defaulted(False, "Whether each mount must give it.")
    default: str | None = optional("Value where a mount gives none.")


class StorageSection(Model):
    """A Python class that reads a store; it gets the native cache, warm-up and metrics."""

    protocols: list[str] = Field(description="Schemes of mountPoint, such as starfs.", min_length=1)
    class_: str = Field(
        description="MODULE:NAME of an fsspec file system, or of a callable (MountSource, "
        "Settings) that returns an UnderStorage."
    )


class MountSection(Model):
    """A program that mounts a store; arguments are a list, and no shell reads them.

    Placeholders in `command`, `unmount` and values of `environment`: `{mountPoint}`, `{source}`
    (mountPoint without its scheme), `{target}`, `{cacheDir}`, `{options.NAME}`,
    `{secretFile.NAME}` (the path of a private file with the value), and in `environment` alone
    `{secret.NAME}`. `{{` and `}}` stand for braces.
    """

    command: list[str] = Field(
        description="Program and arguments; it stays in the foreground. A program that begins with "
        "./ lies beside runtime.yaml.",
        min_length=1,
    )
    contract: Literal["arguments", "fluid"] = defaulted(
        "arguments",
        "How the program is told what to mount: by its arguments, one program a mount, or in "
        "Fluid's way by /etc/fluid/config/config.json, one program for the whole Dataset.",
    )
    environment: StringMap = mapping("Variables added for the program.")
    filesystem_type: str = Field(
        description="Type of the mount as the kernel names it, such as fuse.sshfs.", min_length=1
    )
    ready_seconds: Seconds = defaulted(30, "Seconds until the mount must be there.")
    stop_seconds: Seconds = defaulted(10, "Seconds from SIGTERM to SIGKILL.")
    unmount: list[str] = sequence("Program that unmounts; umount of the target if left out.")
    protocols: list[str] = sequence("Schemes of mountPoint that it takes; any if left out.")


class EngineSection(Model):
    """A class that drives a distributed engine."""

    class_: str = Field(description="MODULE:NAME of a class that is a RuntimeDriver.")
    runtime_kinds: list[str] = sequence("Kinds of runtime objects it serves.")
    protocols: list[str] = sequence("Schemes of mountPoint that it takes.")


class ConformanceSection(Model):
    """How `fluidpy runtime test` gets a store with known files; only it reads this.

    Placeholders: `{directory}` (a scratch directory), `{port}` (a free TCP port of 127.0.0.1), and
    in `put` alone `{path}`.
    """

    mount_point: str = Field(description="mountPoint of the Dataset to test with.", min_length=5)
    options: StringMap = mapping("Options of its mount.")
    secrets: Options = mapping("Its secret options: values made up for the test.")
    refused: Options = mapping("Secret options, in place of those, that the store must refuse.")
    server: list[str] = sequence(
        "Program that serves the store in the foreground and prints a line once it is ready."
    )
    put: list[str] = sequence(
        "Program that stores what it reads from stdin as {path}; if left out, files are written "
        "below {directory}."
    )


class Manifest(Model):
    """What a plug-in is: its name, its kind, its options, and how it is run."""

    api_version: Literal["runtime.fluidpy.io/v1"] = Field(description="Version of this format.")
    kind: Literal["storage", "mount", "engine"] = Field(description="What sort of plug-in it is.")
    name: str = Field(description="Name, a DNS label: lower case letters, digits and '-'.")
    version: str = Field(description="Version of the plug-in, such as 0.1.0.", min_length=1)
    description: str = defaulted("", "What it reads, in one line.")
    options: list[PluginOption] = sequence("Options that a mount may give.")
    storage: StorageSection | None = optional("For kind storage.")
    mount: MountSection | None = optional("For kind mount.")
    engine: EngineSection | None = optional("For kind engine.")
    conformance: ConformanceSection | None = optional("How the plug-in is tested.")

    @property
    def protocols(self) -> tuple[str, ...]:
        """The schemes it reads."""
        section = self.storage or self.mount or self.engine
        return tuple(section.protocols) if section is not None else ()


def manifest_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of `runtime.yaml`, for editors."""
    return model_schema(Manifest)


def load_manifest(path: Path) -> Manifest:
    """The manifest in a file, or in `runtime.yaml` of a directory.

    Raises ValidationError with every problem, one a line.
    """
    file = path / FILE_NAME if path.is_dir() else path
    problems: list[Problem] = []
    found = [
        manifest
        for text in gather_texts(file, problems)
        if (manifest := read_manifest(text, problems)) is not None
    ]
    if problems or not found:
        lines = [str(problem) for problem in problems] or [f"{file}: the file is empty"]
        cure = "Correct the manifest; `fluidpy runtime init` writes one that works."
        raise ValidationError("\n".join(lines), cure=cure)
    return found[0]


def read_manifest(text: YamlText, problems: list[Problem]) -> Manifest | None:
    """The manifest in a text; everything wrong with it is added to `problems`."""
    documents = read_documents(text.text, text.name, problems)
    if len(documents) != 1:
        if not problems:
            message = f"has {len(documents)} documents"
            problems.append(Problem(text.name, 0, 0, "", message, "write one manifest a file"))
        return None
    return _manifest(documents[0], text.name, problems)


def _manifest(document: Document, file: str, problems: list[Problem]) -> Manifest | None:
    if not isinstance(document.value, dict):
        message, cure = "must be a mapping", f"start with 'apiVersion: {API_VERSION}'"
        problems.append(Problem(file, 1, 1, "", message, cure))
        return None
    found: list[Problem] = []
    manifest, findings, removed = validate_object(document.value, Manifest)
    hurt = [*document.damaged, *removed]
    for one in findings:
        if one.path not in document.damaged:
            wrong = Finding(one.path, one.message, one.cure, one.at_key)
            found.append(_problem(document.positions, file, wrong))
    for own in () if manifest is None else manifest_findings(manifest):
        if not any(_touches(own.path, path) for path in hurt):
            found.append(_problem(document.positions, file, own))
    problems += sorted(found, key=lambda problem: (problem.line, problem.column))
    return None if problems else manifest


def _touches(path: FieldPath, hurt: FieldPath) -> bool:
    return path[: len(hurt)] == hurt or hurt[: len(path)] == path


def _problem(positions: Positions, file: str, found: Finding) -> Problem:
    line, column = positions.of(found.path, key=found.at_key)
    return Problem(file, line, column, format_path(found.path), found.message, found.cure)
