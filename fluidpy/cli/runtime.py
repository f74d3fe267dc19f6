"""`runtime init|test|build|install|list|remove`: write, prove, package and use plug-ins."""

from __future__ import annotations

import importlib
import signal
import subprocess
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from fluidpy.cli.options import OutputFormat, OutputOption
from fluidpy.cli.printers import Column, print_rows, print_text, talk
from fluidpy.errors import UsageError
from fluidpy.settings import load_settings

FolderArgument = Annotated[Path, typer.Argument(metavar="DIR", help="The plug-in's folder.")]


class PluginKind(StrEnum):
    """Kinds of plug-ins that can be written."""

    STORAGE = "storage"
    MOUNT = "mount"


def group() -> typer.Typer:
    """The commands under `runtime`."""
    commands = typer.Typer(no_args_is_help=True, help="Write, prove, package and use plug-ins.")
    for name, command in (
        ("init", init),
        ("test", test),
        ("build", build),
        ("install", install),
        ("list", list_plugins),
        ("remove", remove),
    ):
        commands.command(name)(command)
    return commands


def init(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the plug-in and folder.")],
    kind: Annotated[
        PluginKind, typer.Option("--kind", help="A Python class, or a program that mounts.")
    ] = PluginKind.STORAGE,
) -> None:
    """Write a plug-in that works, into a new folder.

    Example: fluidpy runtime init starfs --kind storage
    """
    from fluidpy.api.metadata import is_dns1123_label

    folder = Path(name)
    if not is_dns1123_label(folder.name):
        raise UsageError(
            f"{folder.name!r} is no DNS label", cure="Use lower case letters, digits and '-'."
        )
    if folder.exists():
        raise UsageError(f"{folder} is there already", cure="Name a folder that is not there.")
    module = importlib.import_module(f"fluidpy.runtime.{kind.value}_template")
    files = getattr(module, f"{kind.value}_files")(folder.name)
    folder.mkdir(parents=True)
    for path, text in files.items():
        (folder / path).write_text(text)
    talk(f"wrote {folder}: {', '.join(sorted(files))}")
    talk(f"next: fluidpy runtime test {folder}")


def test(folder: FolderArgument) -> None:
    """Prove a plug-in on this machine, within a minute. Exit code 1 if it does not conform.

    Each line of the report is a promise; what is not kept is told with a cure.

    Example: fluidpy runtime test ./starfs
    """
    # In a process of its own: its code is the plug-in's.
    command = [sys.executable, "-m", "fluidpy.testing.conformance", str(folder)]
    with subprocess.Popen(command) as process:
        while True:
            try:
                code = process.wait()
                break
            except KeyboardInterrupt:
                continue  # it has the interrupt as well, and cleans up
    if code:
        raise typer.Exit(code)


def install(
    folder: FolderArgument,
    to: Annotated[
        Path | None,
        typer.Option("--to", metavar="FOLDER", help="A folder of FLUIDPY_RUNTIME_PATH instead."),
    ] = None,
) -> None:
    """Make a plug-in known to your workers and control plane, in place of an older version.

    Example: fluidpy runtime install ./starfs
    """
    from fluidpy.runtime.installing import install as install_plugin

    manifest = install_plugin(folder, load_settings().plugins_dir if to is None else to)
    schemes = ", ".join(f"{one}://" for one in manifest.protocols)
    talk(f"installed {manifest.name} {manifest.version}" + (f" for {schemes}" if schemes else ""))
    talk("workers that run already keep an older version: fluidpy worker --stop")


def list_plugins(
    check: Annotated[
        bool, typer.Option("--check", help="Try whether each can be used; exit code 1 if not.")
    ] = False,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """List the plug-ins that are known here.

    Example: fluidpy runtime list
    """
    from fluidpy.runtime.discovery import discover
    from fluidpy.runtime.installed_check import problem_of

    found = discover(load_settings())
    rows: list[dict[str, Any]] = [
        {
            "name": one.name,
            "kind": one.manifest.kind,
            "version": one.manifest.version,
            "protocols": list(one.manifest.protocols),
            "origin": one.origin,
            "directory": str(one.directory),
            **({"problem": problem_of(one)} if check else {}),
        }
        for _, one in sorted(found.plugins.items())
    ]
    print_rows(rows, _COLUMNS, output, name="name")
    wrong = [row for row in rows if row.get("problem")]
    for problem in (*found.problems, *(f"{row['name']}: {row['problem']}" for row in wrong)):
        talk(f"warning: {problem}")
    # Engines that fluidpy brings are there without their program for all who do not use them.
    wrong = [row for row in wrong if row["origin"] != "fluidpy"]
    if check and (wrong or found.problems):
        raise typer.Exit(1)


_COLUMNS = (
    Column("NAME", lambda row: row["name"]),
    Column("KIND", lambda row: row["kind"]),
    Column("VERSION", lambda row: row["version"]),
    Column("PROTOCOLS", lambda row: ",".join(row["protocols"]) or "-"),
    Column("ORIGIN", lambda row: row["origin"]),
    Column("DIRECTORY", lambda row: row["directory"], wide=True),
)


def remove(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A plug-in that is installed.")],
) -> None:
    """Forget an installed plug-in.

    Example: fluidpy runtime remove starfs
    """
    from fluidpy.runtime.installing import remove as remove_plugin

    remove_plugin(name, load_settings().plugins_dir)
    talk(f"removed {name}")


def build(
    folder: FolderArgument,
    tag: Annotated[
        str,
        typer.Option("--tag", metavar="NAME:TAG", help="The image's name.", show_default=False),
    ] = "",
    base: Annotated[
        str, typer.Option("--base", metavar="IMAGE", help="fluidpy's image.", show_default=False)
    ] = "",
) -> None:
    """Make the plug-in's image with buildah, podman or docker, whichever is here, and check it.

    Example: fluidpy runtime build ./starfs --tag registry.example/starfs:0.1.0
    """
    from fluidpy.runtime.image import build_image, tool_here
    from fluidpy.runtime.manifest import load_manifest

    manifest = load_manifest(folder)
    image = tag or f"localhost/{manifest.name}:{manifest.version}"
    # The builder runs in a group of its own: it is told to end, too.
    for one in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(one) is not signal.SIG_IGN:  # as by nohup
            signal.signal(one, lambda number, _: sys.exit(128 + number))
    for line in build_image(tool_here(), folder, manifest, image, base):
        talk(line)
    print_text(image)
