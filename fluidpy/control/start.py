"""Starting this user's control plane in the background until it answers, and ending it."""

from __future__ import annotations

import os
import select
import time
from typing import Final

from fluidpy.client import protocol
from fluidpy.client.background_start import start_until_ready, wait_ready
from fluidpy.client.control_client import ControlClient
from fluidpy.client.start import prepare_runtime_directory, worker_environment
from fluidpy.control.daemon import LOG_FILE
from fluidpy.errors import ControlPlaneError, ControlPlaneTimeoutError, from_wire
from fluidpy.settings import Settings

START_SECONDS: Final = 30.0
"""How long a control plane may take until it answers."""

END_SECONDS: Final = 10.0
"""How long a control plane that cannot start may take to end, once it has said why."""

STOP_SECONDS: Final = 60.0
"""How long workers and mounts may take to end, beyond what programs of plug-ins may take."""


def start_control_plane(settings: Settings, *, deadline: float = START_SECONDS) -> int:
    """Starts a control plane; its pid, once it answers.

    Raises ControlPlaneError with the reason it ended at once, ControlPlaneTimeoutError.
    """
    prepare_runtime_directory(settings.runtime_dir)
    log = settings.runtime_dir / LOG_FILE
    late = ControlPlaneTimeoutError(
        "the control plane was started and was not ready in time", cure=f"Look at {log}."
    )
    limit = time.monotonic() + deadline
    environment = worker_environment(settings)
    process, said = start_until_ready("fluidpy.control", log, environment, limit, late)
    if said.startswith(b"{"):
        process.end_within(END_SECONDS)
        raise from_wire(protocol.decode(said))
    if said.strip() != b"ready":
        status = process.end_within(END_SECONDS)
        if status is None:
            raise ControlPlaneError(
                f"the control plane did not start, and does not end: process {process.pid} waits "
                "in the kernel, as for a disk or a network file system that does not answer",
                cure=f"Look whether the runtime directory can be read, and at {log}.",
            )
        raise ControlPlaneError(
            f"the control plane ended with status {status} at once", cure=f"Look at {log}."
        )
    return process.pid


def stop_control_plane(settings: Settings, *, force: bool = False) -> int:
    """Ends workers and control plane; the pid it had, once it has ended.

    Raises ControlPlaneAbsentError, InUseError (unless `force`), ControlPlaneTimeoutError.
    """
    client = ControlClient(settings, deadline=STOP_SECONDS)
    pid = int(client.request("GET", "/healthz")["pid"])
    try:
        ended = os.pidfd_open(pid)
    except ProcessLookupError:
        return pid
    try:
        seconds = STOP_SECONDS + float(client.stop(force=force).get("stopSeconds", 0.0))
        if not wait_ready(ended, select.POLLIN, seconds):
            raise ControlPlaneTimeoutError(
                f"the control plane (process {pid}) has not ended within {seconds:g} s",
                cure=f"Look at {settings.runtime_dir / LOG_FILE}.",
            )
    finally:
        os.close(ended)
    return pid
