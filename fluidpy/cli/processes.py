"""`worker` and `fuse`: the processes a deployment runs; left out of the plain `--help`."""

from __future__ import annotations

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
    import runpy

    runpy.run_module("fluidpy.worker", run_name="__main__", alter_sys=True)


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


def fuse() -> None:
    """Serve one mount; started by the holder, which passes the device."""
    import runpy

    runpy.run_module("fluidpy.fuse.server", run_name="__main__", alter_sys=True)
