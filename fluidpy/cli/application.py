"""The application: every command under its name, in the order of `--help`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from fluidpy import __version__
from fluidpy.cli import (
    apply,
    browse,
    cache,
    control_plane,
    delete,
    doctor,
    get,
    load,
    mount,
    processes,
    runtime,
    status,
    validation,
)
from fluidpy.cli.usage import command_with_usage

# In the order of `--help`; the usage of those whose words mean more than a list of arguments.
COMMANDS: tuple[tuple[Callable[..., None], str | None], ...] = (
    (mount.mount, "(-f FILE [NAME] | NAME | URL) DIR"),
    (mount.umount, None),
    (status.status, None),
    (control_plane.up, None),
    (control_plane.down, None),
    (apply.apply, "-f FILE..."),
    (get.get, "KIND[,KIND] [NAME...]"),
    (get.describe, "KIND [NAME...]"),
    (delete.delete, "(KIND NAME... | -f FILE)"),
    (delete.scale, "KIND NAME --replicas N"),
    (load.load, "(-f FILE [NAME] | NAME)"),
    (browse.ls, None),
    (browse.cat, "fluid://NAME/PATH..."),
    (browse.cp, None),
    (browse.du, None),
    (validation.validate, "-f FILE..."),
    (validation.schema, None),
    (doctor.doctor, None),
)
PROCESSES = (processes.worker, processes.fuse)


def build() -> typer.Typer:
    """The whole command line."""
    application = typer.Typer(
        name="fluidpy",
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        help="Training data from S3, OSS, NAS and your own stores: one cached directory, one URL.",
    )
    application.callback()(_about)
    for command, usage in COMMANDS:
        shape = command_with_usage(usage) if usage else None
        application.command(cls=shape)(command)
    application.add_typer(cache.group(), name="cache")
    application.add_typer(runtime.group(), name="runtime")
    for command in PROCESSES:
        application.command(hidden=True)(command)
    return application


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fluidpy {__version__}")
        raise typer.Exit


def _about(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", is_eager=True, callback=_print_version
        ),
    ] = False,
) -> None:
    """Training data from S3, OSS, NAS and your own stores: one cached directory, one URL."""
