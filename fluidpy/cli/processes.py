"""`worker` and `fuse`: the processes a deployment runs; left out of the plain `--help`."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from fluidpy.cli.printers import talk
from fluidpy.errors import WorkerError
from fluidpy.settings import load_settings

STOP_SECONDS = 30.0


def worker(
    stop: Annotated[bool, typer.Option("--stop", help="End the one that runs.")] = False,
) -> None:
    """Run this machine's worker in the foreground."""
    if stop:
        _stop_worker()
        return
    from fluidpy.worker.process import main

    raise typer.Exit(main([]))


def _stop_worker() -> None:
    from fluidpy.client.connection import WorkerConnection

    settings = load_settings()
    if not settings.worker_socket.exists():
        talk("no worker runs")
        return
    connection = WorkerConnection(settings)
    try:
        connection.call("stop", deadline=STOP_SECONDS)
    except WorkerError as error:
        talk(f"the worker had ended: {error.message}")
    finally:
        connection.close()


def fuse(
    control: Annotated[
        int, typer.Option("--control", help="Descriptor of the socket that gives the order.")
    ],
) -> None:
    """Serve one mount; started by the holder, which passes the device."""
    arguments = [sys.executable, "-m", "fluidpy.fuse.server", "--control", str(control)]
    os.execv(sys.executable, arguments)
