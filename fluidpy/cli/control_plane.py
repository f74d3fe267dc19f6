"""`up` and `down`: the control plane of this user."""

from __future__ import annotations

from typing import Annotated

import typer

from fluidpy.cli.printers import counted, talk
from fluidpy.settings import load_settings


def up(
    foreground: Annotated[
        bool, typer.Option("--foreground", help="Stay; Ctrl-C ends it, its workers go on.")
    ] = False,
) -> None:
    """Start the control plane: it makes what was applied come true, and keeps it so.

    What was applied before is served again, and what was mounted is mounted again. Example:

    fluidpy up && fluidpy apply -f imagenet.yaml
    """
    settings = load_settings()
    if foreground:
        from fluidpy.control.daemon import main

        raise typer.Exit(main([]))
    from fluidpy.client.control_client import ControlClient
    from fluidpy.control.start import start_control_plane

    client = ControlClient(settings)
    if client.is_running():
        talk(f"the control plane runs already: process {client.status()['pid']}")
        return
    pid = start_control_plane(settings)
    talk(f"the control plane is up: process {pid}, {_what(client.status())}")


def _what(status: dict[str, list[object]]) -> str:
    workers, mounts = len(status["workers"]), len(status["mounts"])
    return f"{counted(workers, 'worker')}, {counted(mounts, 'mount')}"


def down(
    force: Annotated[
        bool, typer.Option("--force", help="Unmount and stop also what is in use.")
    ] = False,
) -> None:
    """Stop the workers, the mounts they serve and the control plane; what was applied stays.

    Refused while somebody uses them, unless forced. Example: fluidpy down
    """
    from fluidpy.control.start import stop_control_plane

    pid = stop_control_plane(load_settings(), force=force)
    talk(f"the control plane is down: process {pid} has ended")
