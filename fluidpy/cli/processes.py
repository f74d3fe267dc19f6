"""`worker` and `fuse`: the processes a deployment runs; left out of the plain `--help`."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from fluidpy.cli.printers import talk
from fluidpy.errors import WorkerTimeoutError
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
    """Without `hello`: a worker of another protocol version or with another cache ends too."""
    from fluidpy.client import protocol
    from fluidpy.client.start import connect

    connection = connect(load_settings())
    if connection is None:
        talk("no worker runs")
        return
    with connection:
        connection.settimeout(STOP_SECONDS)
        request = protocol.request(1, protocol.Operation.STOP, STOP_SECONDS, {})
        try:
            protocol.send(connection, request)
            received = protocol.receive(connection)
        except TimeoutError as error:
            raise WorkerTimeoutError(
                f"the worker did not answer `stop` within {STOP_SECONDS:g} s",
                cure="Look at worker.log in the runtime directory; end its process if need be.",
            ) from error
        except OSError as error:
            talk(f"the worker had ended: {error}")
            return
    if received is not None:
        protocol.ok_of(received.message)


def fuse(
    control: Annotated[
        int, typer.Option("--control", help="Descriptor of the socket that gives the order.")
    ],
) -> None:
    """Serve one mount; started by the holder, which passes the device."""
    arguments = [sys.executable, "-m", "fluidpy.fuse.server", "--control", str(control)]
    os.execv(sys.executable, arguments)
